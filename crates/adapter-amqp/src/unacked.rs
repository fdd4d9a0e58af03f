//! Which deliveries of one channel are still to be acknowledged, and by how few frames.
//!
//! Invariants:
//! - A tag is acknowledged only if it was accepted, and never twice: the broker would close the
//!   channel, and deliver everything again.
//! - An acknowledgement of many ends at a tag that is itself still open at the broker.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not settled yet.
    Open,
    /// Accepted, and the broker does not know it yet.
    Accepted,
    /// The broker knows.
    Gone,
}

/// The deliveries of one channel in the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    slots: VecDeque<(u64, State)>,
    accepted: usize,
}

impl Unacked {
    /// A delivery was handed over. Tags grow from delivery to delivery.
    pub(crate) fn deliver(&mut self, tag: u64) {
        self.slots.push_back((tag, State::Open));
    }

    /// A delivery was accepted: it is acknowledged with one of the next runs.
    pub(crate) fn accept(&mut self, tag: u64) {
        if self.set(tag, State::Accepted) {
            self.accepted += 1;
        }
    }

    /// A delivery is about to be rejected or given back by itself.
    pub(crate) fn remove(&mut self, tag: u64) {
        self.set(tag, State::Gone);
    }

    /// The tag up to which all can be acknowledged at once, if there is any.
    pub(crate) fn take_prefix(&mut self) -> Option<u64> {
        let mut last = None;
        while let Some((tag, state)) = self.slots.front().copied() {
            match state {
                State::Open => break,
                State::Accepted => {
                    last = Some(tag);
                    self.accepted -= 1;
                }
                State::Gone => {}
            }
            self.slots.pop_front();
        }
        last
    }

    /// The accepted tags that wait behind an open one, to be acknowledged one by one.
    pub(crate) fn take_scattered(&mut self) -> Vec<u64> {
        self.accepted = 0;
        let accepted = self.slots.iter_mut().filter(|(_, state)| *state == State::Accepted);
        accepted
            .map(|(tag, state)| {
                *state = State::Gone;
                *tag
            })
            .collect()
    }

    /// How many accepted tags the broker does not know of.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    /// Whether the broker knows of everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(|(_, state)| *state == State::Gone)
    }

    fn set(&mut self, tag: u64, state: State) -> bool {
        let Ok(place) = self.slots.binary_search_by_key(&tag, |(tag, _)| *tag) else {
            return false;
        };
        match self.slots.get_mut(place) {
            Some((_, open @ State::Open)) => {
                *open = state;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_is_one_acknowledgement() {
        let mut unacked = Unacked::default();
        (1..=5).for_each(|tag| unacked.deliver(tag));
        for tag in [2, 3, 1] {
            unacked.accept(tag);
        }
        assert_eq!(unacked.take_prefix(), Some(3));
        assert_eq!(unacked.take_prefix(), None);
        assert!(!unacked.is_empty());
    }

    #[test]
    fn what_waits_behind_an_open_one_goes_by_itself() {
        let mut unacked = Unacked::default();
        (1..=4).for_each(|tag| unacked.deliver(tag));
        for tag in [2, 4] {
            unacked.accept(tag);
        }
        assert_eq!((unacked.take_prefix(), unacked.accepted()), (None, 2));
        assert_eq!(unacked.take_scattered(), [2, 4]);
        unacked.accept(1);
        // Two is gone already, so the acknowledgement must not name it.
        assert_eq!(unacked.take_prefix(), Some(1));
        unacked.remove(3);
        assert_eq!(unacked.take_prefix(), None);
        assert!(unacked.is_empty());
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        let mut unacked = Unacked::default();
        unacked.deliver(1);
        unacked.accept(9);
        unacked.accept(1);
        unacked.accept(1);
        assert_eq!((unacked.accepted(), unacked.take_prefix()), (1, Some(1)));
    }

    /// The broker's side: what it would say to each frame.
    #[derive(Default)]
    struct Broker {
        outstanding: BTreeSet<u64>,
        acknowledged: BTreeSet<u64>,
    }

    impl Broker {
        fn ack(&mut self, tag: u64, multiple: bool) {
            assert!(self.outstanding.contains(&tag), "406 PRECONDITION_FAILED unknown tag {tag}");
            let tags: Vec<_> = self.outstanding.range(..=tag).copied().collect();
            for known in tags.into_iter().filter(|known| multiple || *known == tag) {
                self.outstanding.remove(&known);
                self.acknowledged.insert(known);
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Deliver,
        Accept(usize),
        Refuse(usize),
        Prefix,
        Scattered,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Deliver),
            4 => any::<usize>().prop_map(Step::Accept),
            1 => any::<usize>().prop_map(Step::Refuse),
            2 => Just(Step::Prefix),
            1 => Just(Step::Scattered),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn exactly_what_was_accepted_is_acknowledged(steps in steps()) {
            let mut unacked = Unacked::default();
            let mut broker = Broker::default();
            let mut open: Vec<u64> = Vec::new();
            let mut verdicts: BTreeMap<u64, bool> = BTreeMap::new();
            let mut tag = 0;
            for step in steps.into_iter().chain([Step::Prefix, Step::Scattered]) {
                match step {
                    Step::Deliver => {
                        tag += 1;
                        unacked.deliver(tag);
                        broker.outstanding.insert(tag);
                        open.push(tag);
                    }
                    Step::Accept(which) if !open.is_empty() => {
                        let tag = open.remove(which % open.len());
                        unacked.accept(tag);
                        verdicts.insert(tag, true);
                    }
                    Step::Refuse(which) if !open.is_empty() => {
                        let tag = open.remove(which % open.len());
                        unacked.remove(tag);
                        prop_assert!(broker.outstanding.remove(&tag));
                        verdicts.insert(tag, false);
                    }
                    Step::Prefix => {
                        if let Some(tag) = unacked.take_prefix() {
                            broker.ack(tag, true);
                        }
                    }
                    Step::Scattered => {
                        for tag in unacked.take_scattered() {
                            broker.ack(tag, false);
                        }
                    }
                    Step::Accept(_) | Step::Refuse(_) => {}
                }
            }
            let accepted: BTreeSet<_> =
                verdicts.iter().filter(|(_, accepted)| **accepted).map(|(tag, _)| *tag).collect();
            prop_assert_eq!(&broker.acknowledged, &accepted);
            prop_assert_eq!(&broker.outstanding, &open.iter().copied().collect());
            prop_assert_eq!(unacked.is_empty(), open.is_empty());
            prop_assert_eq!(unacked.accepted(), 0);
        }
    }
}
