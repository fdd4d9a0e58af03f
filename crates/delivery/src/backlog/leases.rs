//! The messages of a queue that are leased.

use std::collections::VecDeque;

use super::Entry;

/// How many gaps may stay before they are closed, whatever the number of messages.
const GAPS_MAX: usize = 64;

/// For how many messages there stays room when none is leased: queues are many, and most are idle.
const ROOM_KEPT: usize = 64;

/// Leased messages by their positions. Nearly all are leased in order and go in about the same order,
/// so that they are kept in a row, in which those that have gone leave gaps for a while.
#[derive(Debug)]
pub(crate) struct Leases<E> {
    /// Sorted by position. The first is no gap.
    row: VecDeque<(u64, Option<E>)>,
    gaps: usize,
}

impl<E: Entry> Leases<E> {
    /// The message at a position.
    pub(crate) fn get(&self, position: u64) -> Option<&E> {
        let place = self.find(position).ok()?;
        self.row.get(place)?.1.as_ref()
    }

    /// The message at a position, to be changed.
    pub(crate) fn get_mut(&mut self, position: u64) -> Option<&mut E> {
        let place = self.find(position).ok()?;
        self.row.get_mut(place)?.1.as_mut()
    }

    /// All messages, in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &E> {
        self.row.iter().filter_map(|(_, entry)| entry.as_ref())
    }

    /// The same, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.row.iter_mut().filter_map(|(_, entry)| entry.as_mut())
    }

    pub(super) fn insert(&mut self, entry: E) {
        let position = entry.position();
        if self.row.back().is_none_or(|(last, _)| *last < position) {
            self.row.push_back((position, Some(entry)));
            return;
        }
        match self.find(position) {
            Err(place) => self.row.insert(place, (position, Some(entry))),
            Ok(place) => {
                if let Some((_, here)) = self.row.get_mut(place)
                    && here.replace(entry).is_none()
                {
                    self.gaps -= 1;
                }
            }
        }
    }

    pub(super) fn remove(&mut self, position: u64) -> Option<E> {
        let place = self.find(position).ok()?;
        let entry = self.row.get_mut(place)?.1.take()?;
        self.gaps += 1;
        while self.row.front().is_some_and(|(_, entry)| entry.is_none()) {
            self.row.pop_front();
            self.gaps -= 1;
        }
        if self.row.is_empty() {
            self.row.shrink_to(ROOM_KEPT);
        }
        // One message that stays must not have the row grow behind it.
        if self.gaps > GAPS_MAX.max(self.row.len() / 2) {
            self.row.retain(|(_, entry)| entry.is_some());
            self.gaps = 0;
        }
        Some(entry)
    }

    /// Where a position is in the row, or would be.
    fn find(&self, position: u64) -> Result<usize, usize> {
        match self.row.front() {
            Some((first, _)) if *first == position => Ok(0),
            Some(_) | None => self.row.binary_search_by_key(&position, |(position, _)| *position),
        }
    }
}

impl<E> Default for Leases<E> {
    fn default() -> Self {
        Self { row: VecDeque::new(), gaps: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use transload_envelope::Timestamp;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Numbered(u64);

    impl Entry for Numbered {
        fn position(&self) -> u64 {
            self.0
        }

        fn size(&self) -> u64 {
            1
        }

        fn stored_at(&self) -> Timestamp {
            Timestamp { unix_ms: 0 }
        }
    }

    #[test]
    fn a_message_that_stays_holds_no_room_for_those_that_go() {
        let mut leases = Leases::default();
        leases.insert(Numbered(0));
        for position in 1..10_000 {
            leases.insert(Numbered(position));
            assert_eq!(leases.remove(position), Some(Numbered(position)));
        }
        assert!(leases.row.len() <= 2 * GAPS_MAX, "{}", leases.row.len());
        assert_eq!(leases.remove(0), Some(Numbered(0)));
        assert!(leases.row.is_empty() && leases.gaps == 0);
    }

    #[test]
    fn the_room_of_many_leases_is_given_back() {
        let mut leases = Leases::default();
        (0..10_000).for_each(|position| leases.insert(Numbered(position)));
        for position in 0..10_000 {
            leases.remove(position);
        }
        assert!(leases.row.capacity() < 1_000, "{}", leases.row.capacity());
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in proptest::collection::vec((any::<bool>(), 0..300_u64), 0..900)) {
            let (mut leases, mut map) = (Leases::default(), BTreeMap::new());
            for (insert, position) in steps {
                if insert {
                    leases.insert(Numbered(position));
                    map.insert(position, Numbered(position));
                } else {
                    prop_assert_eq!(leases.remove(position), map.remove(&position));
                }
                prop_assert_eq!(leases.get(position), map.get(&position));
                prop_assert_eq!(leases.get_mut(position), map.get_mut(&position));
                prop_assert_eq!(leases.gaps, leases.row.len() - map.len());
                prop_assert!(leases.row.front().is_none_or(|(_, entry)| entry.is_some()));
            }
            prop_assert!(leases.values().eq(map.values()));
            prop_assert!(leases.values_mut().eq(map.values_mut()));
        }
    }
}
