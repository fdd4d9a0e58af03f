//! Reads the log from a checkpoint on.

use std::{collections::BTreeMap, mem};

use bytes::Bytes;
use transload_envelope::{
    Text,
    codec::{self, DecodeError, Reader},
};

use super::{
    checkpoint::{Saved, SavedQueue},
    index::{Location, Place},
    record::{self, AppendBody, Kind, Record},
    runs::Runs,
};
use crate::backlog::Waiting as _;

/// What the records of one segment have to say of messages before them; applied at its end, since
/// the index is packed and is best changed in one go. A `done` always is behind its message and
/// all copies of that.
#[derive(Debug, Default)]
struct Later {
    moved: BTreeMap<u32, Vec<Place>>,
    done: BTreeMap<u32, Runs>,
}

/// Applies records to what was saved.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) saved: Saved,
    /// Messages of queues that are not known are kept, since the records that name the queues may
    /// be among what was set aside.
    pub(crate) keep_unknown: bool,
    later: Later,
}

/// Where reading a segment has come to its end, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At the end of the file.
    Whole,
    /// At something that is no record.
    Bad {
        /// Where it is.
        offset: u64,
        /// Why it is none.
        reason: String,
    },
}

impl Replay {
    pub(crate) fn new(saved: Saved, keep_unknown: bool) -> Self {
        Self { saved, keep_unknown, later: Later::default() }
    }

    /// Applies the records in a segment's `bytes`, which begin at `offset` of its file.
    pub(crate) fn segment(&mut self, number: u32, salt: u64, offset: u64, bytes: &Bytes) -> End {
        let mut end = End::Whole;
        let mut at = offset;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let applied = record::parse(&rest, salt).map_err(str::to_owned).and_then(|record| {
                self.sequence(&record)?;
                self.apply(&record, number, at).map_err(|error| error.to_string())?;
                Ok(record.length)
            });
            match applied {
                Ok(length) => {
                    rest = rest.slice(length..);
                    at = at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                }
                Err(reason) => {
                    end = End::Bad { offset: at, reason };
                    break;
                }
            }
        }
        self.apply_later();
        end
    }

    fn sequence(&mut self, record: &Record) -> Result<(), String> {
        let expected = self.saved.next_sequence;
        if record.sequence != expected {
            return Err(format!("record {expected} is missing: {} follows", record.sequence));
        }
        self.saved.next_sequence = expected.saturating_add(1);
        Ok(())
    }

    fn apply(&mut self, record: &Record, number: u32, at: u64) -> Result<(), DecodeError> {
        let mut reader = Reader::new(&record.body);
        match record.kind {
            Kind::Batch => {}
            Kind::Append => self.append(record, number, at)?,
            Kind::Done => {
                let queue = record::queue(&mut reader)?;
                let runs = Runs::decode(&mut reader)?;
                self.later.done.entry(queue).or_default().extend(&runs);
            }
            Kind::Failed => {
                let queue = record::queue(&mut reader)?;
                let attempts = reader.varint()?;
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                let runs = Runs::decode(&mut reader)?;
                if let Some(queue) = self.saved.queues.get_mut(&queue) {
                    queue.attempts.extend(runs.positions().map(|position| (position, attempts)));
                }
            }
            Kind::Created => {
                let number = record::queue(&mut reader)?;
                let name = Text::from(&*reader.text()?);
                self.queue(number).name = name;
            }
            Kind::Removed => {
                let number = record::queue(&mut reader)?;
                self.saved.queues.remove(&number);
            }
            Kind::Put => {
                let table = self.saved.tables.entry(Text::from(&*reader.text()?)).or_default();
                let key = Bytes::copy_from_slice(&reader.bytes()?);
                table.insert(key, Bytes::copy_from_slice(&reader.bytes()?));
            }
            Kind::Deleted => {
                let table = self.saved.tables.entry(Text::from(&*reader.text()?)).or_default();
                table.remove(&reader.bytes()?);
            }
        }
        Ok(())
    }

    fn queue(&mut self, number: u32) -> &mut SavedQueue {
        self.saved.next_queue = self.saved.next_queue.max(number.saturating_add(1));
        self.saved.queues.entry(number).or_default()
    }

    fn append(&mut self, record: &Record, number: u32, at: u64) -> Result<(), DecodeError> {
        let body = AppendBody::decode(record)?;
        let envelope = codec::decode(&body.envelope)?;
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let length = narrow(u64::try_from(record.length).unwrap_or(u64::MAX));
        let place = Place {
            position: body.position,
            location: Location { segment: number, offset: narrow(at), length },
            size: narrow(u64::try_from(envelope.size()).unwrap_or(u64::MAX)),
            stored_at: body.stored_at,
        };
        let original = body.position == record.sequence;
        for (id, _) in &body.targets {
            if self.keep_unknown && !self.saved.queues.contains_key(id) {
                self.queue(*id).name = format!("recovered-{id}").into();
            }
            let Some(queue) = self.saved.queues.get_mut(id) else { continue };
            if original {
                queue.index.push_back(place);
            } else {
                self.later.moved.entry(*id).or_default().push(place);
            }
        }
        Ok(())
    }

    fn apply_later(&mut self) {
        let Later { moved, done } = mem::take(&mut self.later);
        for (id, places) in moved {
            let Some(queue) = self.saved.queues.get_mut(&id) else { continue };
            let to = places.iter().map(|place| (place.position, place.location)).collect();
            let found: Runs = queue.index.relocate(&to).into_iter().map(|found| found.0).collect();
            let new = places.into_iter().filter(|place| !found.contains(place.position));
            let new: Vec<_> = new.collect();
            if !new.is_empty() {
                queue.index.insert(new);
            }
        }
        for (id, mut runs) in done {
            let Some(queue) = self.saved.queues.get_mut(&id) else { continue };
            runs.sort();
            queue.index.remove(&runs);
            queue.attempts.retain(|position, _| !runs.contains(*position));
        }
    }
}
