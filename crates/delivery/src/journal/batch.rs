//! A batch of messages, encoded and sorted by where they are to be kept.

use std::{ops::Range, sync::Arc};

use smallvec::SmallVec;
use transload_adapter::store::{Append, QueueId, StoreError};
use transload_envelope::{
    Arguments, Envelope, Timestamp,
    codec::{encode, encode_arguments, put_bytes, put_varint, put_zigzag},
};

use super::{
    core::AnyQueue,
    items::{Item, Message, SharePart, Targets},
    queue::DiskQueue,
    record::{self, Kind},
};
use crate::memory::MemoryQueue;

/// A batch on its way to the writer.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// When it was appended.
    pub(super) now: Timestamp,
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<(Item, Range<usize>)>,
    pub(super) memory: Vec<ToMemory>,
    /// Memory for arguments, whose length is written first.
    encoded: Vec<u8>,
}

/// A message for a queue in memory.
#[derive(Debug)]
pub(super) struct ToMemory {
    queue: Arc<MemoryQueue>,
    envelope: Envelope,
    arguments: Arguments,
    share: Option<SharePart>,
}

/// The queues that one record names.
#[derive(Debug, Default)]
struct Round {
    targets: Targets,
    arguments: SmallVec<[Arguments; 1]>,
}

impl Round {
    fn names(&self, queue: QueueId) -> bool {
        self.targets.iter().any(|(known, _)| known.number() == queue.0)
    }

    fn add(&mut self, queue: Arc<DiskQueue>, arguments: Arguments, share: Option<SharePart>) {
        self.targets.push((queue, share));
        self.arguments.push(arguments);
    }
}

impl Prepared {
    /// Encodes a batch and sorts it by storage. The queues are those of its targets, one after the
    /// other; one that is gone has taken its messages with it: their shares are released.
    ///
    /// # Errors
    ///
    /// If a message is larger than the journal takes.
    pub(super) fn new(
        batch: Vec<Append>,
        queues: impl IntoIterator<Item = Option<AnyQueue>>,
    ) -> Result<Self, StoreError> {
        let mut prepared = Self { now: Timestamp::now(), ..Self::default() };
        let mut queues = queues.into_iter();
        for Append { envelope, to } in batch {
            // A record names a queue once, since a queue knows a message by its record. A message
            // that goes to a queue twice, with other arguments perhaps, has two records.
            let mut rounds: SmallVec<[Round; 1]> = SmallVec::new();
            // Most messages go to one queue, which needs no copy.
            let mut whole = Some(envelope);
            let mut targets = to.into_iter().peekable();
            while let Some(target) = targets.next() {
                match queues.next().flatten() {
                    None => {}
                    Some(AnyQueue::Memory(queue)) => {
                        let is_last = targets.peek().is_none() && rounds.is_empty();
                        let envelope = if is_last { whole.take() } else { whole.clone() };
                        prepared.memory.extend(envelope.map(|envelope| ToMemory {
                            queue,
                            envelope,
                            arguments: target.arguments,
                            share: target.share,
                        }));
                    }
                    Some(AnyQueue::Disk(queue)) => {
                        let free = rounds.iter().position(|round| !round.names(target.queue));
                        let round = free.unwrap_or_else(|| {
                            rounds.push(Round::default());
                            rounds.len().saturating_sub(1)
                        });
                        if let Some(round) = rounds.get_mut(round) {
                            round.add(queue, target.arguments, target.share);
                        }
                    }
                }
            }
            let Some(envelope) = whole else { continue };
            for round in rounds {
                prepared.add(&envelope, round)?;
            }
        }
        Ok(prepared)
    }

    /// Adds the record of a message.
    fn add(&mut self, envelope: &Envelope, round: Round) -> Result<(), StoreError> {
        let Round { targets, arguments } = round;
        let (now, start) = (self.now, self.bytes.len());
        let encoded = &mut self.encoded;
        record::write(Kind::Append, &mut self.bytes, |into| {
            // The record's own sequence is the message's position.
            put_varint(0, into);
            put_zigzag(now.unix_ms, into);
            put_varint(u64::try_from(targets.len()).unwrap_or(u64::MAX), into);
            for ((queue, _), arguments) in targets.iter().zip(&arguments) {
                put_varint(queue.number().into(), into);
                encoded.clear();
                encode_arguments(arguments, encoded);
                put_bytes(encoded, into);
            }
            encode(envelope, into);
        });
        let range = start..self.bytes.len();
        if range.len() > record::RECORD_BYTES_MAX {
            return Err(StoreError::Full("a message is larger than the journal takes".into()));
        }
        let size = u32::try_from(envelope.size()).unwrap_or(u32::MAX);
        self.records.push((Item::Message(Message { stored_at: now, size, targets }), range));
        Ok(())
    }
}

/// Gives messages to their queues in memory.
pub(super) fn to_memory(messages: Vec<ToMemory>, now: Timestamp) {
    let mut touched: SmallVec<[Arc<MemoryQueue>; 1]> = SmallVec::new();
    for ToMemory { queue, envelope, arguments, share } in messages {
        queue.push(envelope, arguments, share, now);
        // A queue that is woken twice costs less than to find out that it was.
        if touched.last().is_none_or(|last| !Arc::ptr_eq(last, &queue)) {
            touched.push(queue);
        }
    }
    for queue in touched {
        queue.wake();
    }
}
