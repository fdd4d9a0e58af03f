//! Which keys are known, without any time of its own and without any disk.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use transload_adapter::Receipt;
use transload_envelope::{Text, Timestamp};

use super::batch::Batch;

/// What is known of a key.
#[derive(Debug)]
enum Slot {
    /// A message with this key has been let in and is not settled: its tag.
    UnderWay(u64),
    /// A message with this key was accepted: when, and in which batch.
    Accepted { at: Timestamp, batch: u64 },
}

/// A message that has been let in, and its repeats that came since.
#[derive(Debug)]
struct UnderWay {
    key: Text,
    receipt: Receipt,
    waiting: Vec<Receipt>,
}

/// What is to be done with a message.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is the first of its key: to be routed, and settled under this tag.
    First(u64),
    /// It waits for the first one.
    Waits,
    /// It was accepted before.
    Repeat(Receipt),
}

/// The keys of one adapter.
#[derive(Debug)]
pub(crate) struct Memory {
    window: Duration,
    ids_max: usize,
    slots: HashMap<Text, Slot>,
    under_way: HashMap<u64, UnderWay>,
    /// The accepted keys, the oldest first.
    batches: VecDeque<Batch>,
    accepted: usize,
    next_tag: u64,
    next_batch: u64,
}

impl Memory {
    pub(crate) fn new(window: Duration, ids_max: usize) -> Self {
        Self {
            window,
            ids_max,
            slots: HashMap::new(),
            under_way: HashMap::new(),
            batches: VecDeque::new(),
            accepted: 0,
            next_tag: 0,
            next_batch: 0,
        }
    }

    /// How many accepted keys are known.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    /// Takes a message in, or says why not.
    pub(crate) fn admit(&mut self, key: &str, receipt: Receipt, now: Timestamp) -> Admission {
        match self.slots.get(key) {
            Some(Slot::UnderWay(tag)) => {
                if let Some(first) = self.under_way.get_mut(tag) {
                    first.waiting.push(receipt);
                    return Admission::Waits;
                }
            }
            Some(Slot::Accepted { at, .. }) if at.after(self.window) > now => {
                return Admission::Repeat(receipt);
            }
            Some(Slot::Accepted { .. }) | None => {}
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        // A copy, since what came with the message may be a slice of something larger.
        let key = Text::from(key);
        self.slots.insert(key.clone(), Slot::UnderWay(tag));
        self.under_way.insert(tag, UnderWay { key, receipt, waiting: Vec::new() });
        Admission::First(tag)
    }

    /// The batch that is to be written for messages that were accepted; absent when there is none.
    /// They stay under way until [`Memory::accept`].
    pub(crate) fn batch(&mut self, tags: &[u64], now: Timestamp) -> Option<Batch> {
        let under_way = tags.iter().filter_map(|tag| self.under_way.get(tag));
        let keys: Vec<_> = under_way.map(|one| one.key.clone()).collect();
        if keys.is_empty() {
            return None;
        }
        let number = self.next_batch;
        self.next_batch += 1;
        Some(Batch { number, at: now, keys })
    }

    /// Remembers a batch.
    pub(crate) fn accept(&mut self, batch: Batch) {
        for key in &batch.keys {
            let slot = Slot::Accepted { at: batch.at, batch: batch.number };
            self.slots.insert(key.clone(), slot);
        }
        self.accepted += batch.keys.len();
        self.next_batch = self.next_batch.max(batch.number + 1);
        self.batches.push_back(batch);
    }

    /// Takes out a message that has been settled: its receipt, and those of its repeats.
    pub(crate) fn settle(&mut self, tag: u64) -> Option<(Receipt, Vec<Receipt>)> {
        let UnderWay { key, receipt, waiting } = self.under_way.remove(&tag)?;
        if matches!(self.slots.get(&key), Some(Slot::UnderWay(known)) if *known == tag) {
            self.slots.remove(&key);
        }
        Some((receipt, waiting))
    }

    /// Forgets what is older than the window, and the oldest beyond the bound. Returns the batches
    /// that are gone, and how many keys were forgotten too early.
    pub(crate) fn forget(&mut self, now: Timestamp) -> (Vec<u64>, usize) {
        let (mut gone, mut early) = (Vec::new(), 0);
        while let Some(oldest) = self.batches.front() {
            let over = oldest.at.after(self.window) <= now;
            if !over && self.accepted <= self.ids_max {
                break;
            }
            let Some(batch) = self.batches.pop_front() else { break };
            self.accepted = self.accepted.saturating_sub(batch.keys.len());
            early += if over { 0 } else { batch.keys.len() };
            for key in &batch.keys {
                let slot = self.slots.get(key);
                if matches!(slot, Some(Slot::Accepted { batch: known, .. }) if *known == batch.number)
                {
                    self.slots.remove(key);
                }
            }
            gone.push(batch.number);
        }
        (gone, early)
    }

    /// Lets go of everything that is under way.
    pub(crate) fn release(&mut self) {
        for one in std::mem::take(&mut self.under_way).into_values() {
            self.slots.remove(&one.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use transload_adapter::{Tag, settlement_channel};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp { unix_ms: seconds * 1000 }
    }

    fn receipt() -> Receipt {
        Receipt::without_credit(Tag(0), settlement_channel().0)
    }

    fn first(memory: &mut Memory, key: &str, now: i64) -> Option<u64> {
        match memory.admit(key, receipt(), at(now)) {
            Admission::First(tag) => Some(tag),
            Admission::Waits | Admission::Repeat(_) => None,
        }
    }

    fn accept(memory: &mut Memory, tags: &[u64], now: i64) {
        let batch = memory.batch(tags, at(now)).unwrap();
        for tag in tags {
            drop(memory.settle(*tag).unwrap());
        }
        memory.accept(batch);
    }

    #[test]
    fn a_key_is_known_for_the_window() {
        let mut memory = Memory::new(WINDOW, 10);
        let tag = first(&mut memory, "a", 0).unwrap();
        accept(&mut memory, &[tag], 1);
        assert!(matches!(memory.admit("a", receipt(), at(10)), Admission::Repeat(_)));
        assert!(first(&mut memory, "b", 10).is_some());
        let again = first(&mut memory, "a", 11).unwrap();
        assert_eq!(memory.forget(at(11)), (vec![0], 0));
        assert!(matches!(memory.admit("a", receipt(), at(11)), Admission::Waits), "not forgotten");
        accept(&mut memory, &[again], 12);
        assert!(matches!(memory.admit("a", receipt(), at(13)), Admission::Repeat(_)));
        assert_eq!(memory.accepted(), 1);
    }

    #[test]
    fn what_was_not_accepted_is_not_known() {
        let mut memory = Memory::new(WINDOW, 10);
        let tag = first(&mut memory, "a", 0).unwrap();
        assert!(matches!(memory.admit("a", receipt(), at(0)), Admission::Waits));
        let (_, waiting) = memory.settle(tag).unwrap();
        assert_eq!(waiting.len(), 1);
        assert!(first(&mut memory, "a", 0).is_some());
        assert!(memory.batch(&[], at(0)).is_none());
    }

    #[test]
    fn at_the_bound_the_oldest_are_forgotten() {
        let mut memory = Memory::new(WINDOW, 3);
        for (number, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let tag = first(&mut memory, key, 0).unwrap();
            accept(&mut memory, &[tag], i64::try_from(number).unwrap());
        }
        assert_eq!(memory.forget(at(4)), (vec![0], 1));
        assert!(first(&mut memory, "a", 4).is_some());
        assert!(first(&mut memory, "b", 4).is_none());
    }

    #[test]
    fn what_is_released_is_not_known() {
        let mut memory = Memory::new(WINDOW, 3);
        first(&mut memory, "a", 0).unwrap();
        memory.release();
        assert!(first(&mut memory, "a", 0).is_some());
    }
}
