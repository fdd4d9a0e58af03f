use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Stamp;

/// The books: what was sent and acknowledged, and what has arrived at each target.
#[derive(Debug)]
pub struct Ledger {
    lanes: Vec<Mutex<Lane>>,
    acknowledged: AtomicU64,
    // Distinct messages, for each target.
    arrived: Vec<AtomicU64>,
    damaged: AtomicU64,
    unsent: AtomicU64,
    // How many messages producers may send so far, all together.
    gate: AtomicU64,
    messages: u64,
}

/// One producer's part.
#[derive(Debug)]
struct Lane {
    carries_id: bool,
    sent: Vec<u8>,
    acknowledged: Vec<bool>,
    refused: Vec<bool>,
    targets: Vec<Track>,
}

/// What has come of one producer's messages at one target.
#[derive(Debug)]
struct Track {
    copies: Vec<u8>,
    ids: Vec<u64>,
    newest: Option<u32>,
    duplicated: u64,
    repeated: u64,
    other_id: u64,
    redelivered: u64,
    reordered: u64,
}

/// What has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The target's place in the list of targets.
    pub target: usize,
    /// The body.
    pub payload: &'a [u8],
    /// The message id, as the target protocol carries it.
    pub id: &'a str,
    /// Whether the target's broker says that it may have handed this copy out before: AMQP's
    /// `redelivered`, MQTT's DUP.
    pub redelivered: bool,
}

/// The comparison of the two sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were to be sent.
    pub messages: u64,
    /// Messages whose acknowledgement the producer has.
    pub acknowledged: u64,
    /// Messages that were sent more than once, since no acknowledgement came in time.
    pub sent_again: u64,
    /// Messages that were refused at least once.
    pub refused: u64,
    /// What arrived and is no message of ours, or is one with other bytes.
    pub damaged: u64,
    /// Acknowledgements of messages that were not sent: the producers cannot be trusted then.
    pub acknowledged_unsent: u64,
    /// For each target.
    pub targets: Vec<TargetTally>,
}

/// What has come to one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetTally {
    /// Distinct messages that arrived.
    pub delivered: u64,
    /// Acknowledged messages that did not.
    pub lost: u64,
    /// The first of those, for the search.
    pub lost_examples: Vec<Stamp>,
    /// Further copies under the id of the first, beyond those that the producer itself sent.
    pub duplicated: u64,
    /// Further copies, as many as the producer itself sent of that message. They are under the id
    /// of the first where the producer's protocol carries one.
    pub repeated_by_producer: u64,
    /// Further copies under another id for which there is no such excuse.
    pub duplicated_with_other_id: u64,
    /// Further copies that the target's broker says it may have handed out before.
    pub redelivered_by_broker: u64,
    /// Messages that came for the first time after a later one of the same producer.
    pub reordered: u64,
}

/// Who records what arrives.
pub(crate) trait Books: Send + Sync + 'static {
    /// A message has arrived.
    fn arrived(&self, arrival: Arrival<'_>);
}

impl Books for Ledger {
    fn arrived(&self, arrival: Arrival<'_>) {
        Ledger::arrived(self, arrival);
    }
}

const EXAMPLES_MAX: usize = 10;

impl Ledger {
    /// Empty books. `lanes` says for each producer how many messages it sends, and whether its
    /// protocol carries an id.
    pub fn new(lanes: &[(u32, bool)], targets: usize) -> Self {
        let track = |count: usize| Track {
            copies: vec![0; count],
            ids: vec![0; count],
            newest: None,
            duplicated: 0,
            repeated: 0,
            other_id: 0,
            redelivered: 0,
            reordered: 0,
        };
        let lane = |(count, carries_id): &(u32, bool)| {
            let count = *count as usize;
            Mutex::new(Lane {
                carries_id: *carries_id,
                sent: vec![0; count],
                acknowledged: vec![false; count],
                refused: vec![false; count],
                targets: (0..targets).map(|_| track(count)).collect(),
            })
        };
        Self {
            lanes: lanes.iter().map(lane).collect(),
            acknowledged: AtomicU64::new(0),
            arrived: (0..targets).map(|_| AtomicU64::new(0)).collect(),
            damaged: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            gate: AtomicU64::new(0),
            messages: lanes.iter().map(|(count, _)| u64::from(*count)).sum(),
        }
    }

    fn with<T>(
        &self,
        stamp: Stamp,
        change: impl FnOnce(&mut Lane, usize) -> Option<T>,
    ) -> Option<T> {
        let lane = self.lanes.get(usize::from(stamp.lane))?;
        let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lane, stamp.number as usize)
    }

    /// Lets producers send so many messages in all.
    pub fn open_gate(&self, messages: u64) {
        self.gate.fetch_max(messages.min(self.messages), Ordering::Relaxed);
    }

    /// How many of its messages a producer may send so far.
    pub fn allowed(&self, lane_messages: u32) -> u32 {
        let gate = u128::from(self.gate.load(Ordering::Relaxed));
        let share = gate * u128::from(lane_messages) / u128::from(self.messages.max(1));
        u32::try_from(share).unwrap_or(lane_messages)
    }

    /// A message goes out.
    pub fn sent(&self, stamp: Stamp) {
        self.with(stamp, |lane, number| {
            let count = lane.sent.get_mut(number)?;
            *count = count.saturating_add(1);
            Some(())
        });
    }

    /// The acknowledgement has come.
    pub fn acknowledged(&self, stamp: Stamp) {
        let first = self.with(stamp, |lane, number| {
            Some(!std::mem::replace(lane.acknowledged.get_mut(number)?, true))
        });
        if first == Some(true) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An acknowledgement has come for a message that was not sent.
    pub fn acknowledged_unsent(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was refused, and will be sent again.
    pub fn refused(&self, stamp: Stamp) {
        self.with(stamp, |lane, number| {
            *lane.refused.get_mut(number)? = true;
            Some(())
        });
    }

    /// A message has arrived.
    pub fn arrived(&self, arrival: Arrival<'_>) {
        let known = Stamp::read(arrival.payload).and_then(|stamp| {
            self.with(stamp, |lane, number| lane.arrived(number, stamp.number, arrival))
        });
        match known {
            Some(true) => {
                if let Some(count) = self.arrived.get(arrival.target) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Some(false) => {}
            None => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many messages are acknowledged so far.
    pub fn acknowledged_count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How many distinct messages have arrived so far, at all targets together.
    pub fn arrived_count(&self) -> u64 {
        self.arrived.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether every message was acknowledged, and has arrived everywhere.
    pub fn is_complete(&self) -> bool {
        self.acknowledged_count() == self.messages
            && self.arrived.iter().all(|count| count.load(Ordering::Relaxed) == self.messages)
    }

    /// Whether a message has arrived at a target.
    pub fn has_arrived(&self, target: usize, stamp: Stamp) -> bool {
        let copies =
            self.with(stamp, |lane, number| lane.targets.get(target)?.copies.get(number).copied());
        copies.is_some_and(|copies| copies > 0)
    }

    /// The acknowledged messages that have not arrived at a target.
    pub fn lost(&self, target: usize) -> Vec<Stamp> {
        let mut lost = Vec::new();
        for (lane, books) in (0..).zip(&self.lanes) {
            let books = books.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(track) = books.targets.get(target) else { continue };
            for ((number, acknowledged), copies) in
                (0..).zip(&books.acknowledged).zip(&track.copies)
            {
                if *acknowledged && *copies == 0 {
                    lost.push(Stamp { lane, number });
                }
            }
        }
        lost
    }

    /// The comparison.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally {
            messages: self.messages,
            acknowledged: self.acknowledged_count(),
            damaged: self.damaged.load(Ordering::Relaxed),
            acknowledged_unsent: self.unsent.load(Ordering::Relaxed),
            targets: vec![TargetTally::default(); self.arrived.len()],
            ..Tally::default()
        };
        for lane in &self.lanes {
            lane.lock().unwrap_or_else(PoisonError::into_inner).add_to(&mut tally);
        }
        for (number, target) in tally.targets.iter_mut().enumerate() {
            let lost = self.lost(number);
            target.lost = lost.len() as u64;
            target.lost_examples = lost.into_iter().take(EXAMPLES_MAX).collect();
        }
        tally
    }
}

impl Lane {
    /// Enters a copy, and says whether it is the first; `None` if there is no such message.
    fn arrived(&mut self, number: usize, sequence: u32, arrival: Arrival<'_>) -> Option<bool> {
        let sent = *self.sent.get(number)?;
        let carries_id = self.carries_id;
        let refused = *self.refused.get(number)?;
        let track = self.targets.get_mut(arrival.target)?;
        let copies = track.copies.get_mut(number)?;
        let id = track.ids.get_mut(number)?;
        let is_first = *copies == 0;
        if is_first || !arrival.redelivered {
            *copies = copies.saturating_add(1);
        }
        if is_first {
            *id = hash(arrival.id);
            if track.newest.is_some_and(|newest| newest > sequence) && !refused {
                track.reordered += 1;
            }
            track.newest = track.newest.max(Some(sequence));
        } else if arrival.redelivered {
            track.redelivered += 1;
        } else if *id != hash(arrival.id) && (carries_id || sent < 2) {
            track.other_id += 1;
        } else if *copies <= sent {
            track.repeated += 1;
        } else {
            track.duplicated += 1;
        }
        Some(is_first)
    }

    fn add_to(&self, tally: &mut Tally) {
        let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as u64;
        tally.sent_again += self.sent.iter().filter(|sent| **sent > 1).count() as u64;
        tally.refused += count(&self.refused);
        for (track, target) in self.targets.iter().zip(&mut tally.targets) {
            target.delivered += track.copies.iter().filter(|copies| **copies > 0).count() as u64;
            target.duplicated += track.duplicated;
            target.repeated_by_producer += track.repeated;
            target.duplicated_with_other_id += track.other_id;
            target.redelivered_by_broker += track.redelivered;
            target.reordered += track.reordered;
        }
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
