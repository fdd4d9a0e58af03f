//! The messages that are not acknowledged, and whose turn it is.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;
use transload_adapter::{Settlement, Tag};
use transload_envelope::Envelope;

/// The messages that are not acknowledged, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// The tag of the first entry is one more.
    acknowledged: u64,
    entries: VecDeque<Entry>,
    /// The released ones by their time, since thousands may be open and few released.
    released: BTreeSet<(Instant, Tag)>,
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    state: State,
    /// Gone when it is done: it may wait long for its turn.
    envelope: Option<Envelope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Handed over.
    Open,
    /// To be acknowledged when its turn comes.
    Done,
    /// To be handed over again.
    Released { at: Instant },
}

impl Unsettled {
    /// Enters a message that is handed over.
    pub(super) fn enter(&mut self, packet_id: u16, envelope: Envelope) -> Tag {
        self.entries.push_back(Entry { packet_id, state: State::Open, envelope: Some(envelope) });
        Tag(self.acknowledged + self.entries.len() as u64)
    }

    fn entry(&mut self, tag: Tag) -> Option<&mut Entry> {
        let place = tag.0.checked_sub(self.acknowledged + 1)?;
        self.entries.get_mut(usize::try_from(place).ok()?)
    }

    fn set(&mut self, tag: Tag, state: State) {
        let Some(entry) = self.entry(tag) else { return };
        let before = std::mem::replace(&mut entry.state, state);
        if state == State::Done {
            entry.envelope = None;
        }
        if let State::Released { at } = before {
            self.released.remove(&(at, tag));
        }
        if let State::Released { at } = state {
            self.released.insert((at, tag));
        }
    }

    /// Takes note of a verdict.
    pub(super) fn settle(&mut self, tag: Tag, settlement: &Settlement, now: Instant) {
        let state = match settlement {
            Settlement::Accepted
            | Settlement::Unrouted
            | Settlement::Replied(_)
            | Settlement::Rejected { .. } => State::Done,
            Settlement::Released { after } => State::Released { at: now + *after },
        };
        self.set(tag, state);
    }

    /// Takes out what is to be acknowledged next.
    pub(super) fn next_acknowledgement(&mut self) -> Option<u16> {
        self.entries.front().filter(|entry| entry.state == State::Done)?;
        self.acknowledged += 1;
        self.entries.pop_front().map(|entry| entry.packet_id)
    }

    /// How many there are, done ones that wait for their turn included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many are to be handed over again.
    pub(super) fn released(&self) -> usize {
        self.released.len()
    }

    /// When the first released message is to be handed over again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.released.first().map(|(at, _)| *at)
    }

    /// The released messages whose time has come; they are open again.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Tag, Envelope)> {
        let later = self.released.split_off(&(now, Tag(u64::MAX)));
        let come = std::mem::replace(&mut self.released, later);
        let mut tags: Vec<Tag> = come.into_iter().map(|(_, tag)| tag).collect();
        // In the order in which they came, whatever their times.
        tags.sort_unstable();
        let open = |tag| {
            let entry = self.entry(tag)?;
            entry.state = State::Open;
            Some((tag, entry.envelope.clone()?))
        };
        tags.into_iter().filter_map(open).collect()
    }

    /// Has a message handed over again at this time.
    pub(super) fn put_off(&mut self, tag: Tag, at: Instant) {
        self.set(tag, State::Released { at });
    }

    /// Whether nobody holds a receipt any more, and everything is acknowledged that can be: not what
    /// is done behind a released message.
    pub(super) fn nothing_open(&self) -> bool {
        self.entries.front().is_none_or(|entry| entry.state != State::Done)
            && self.entries.iter().all(|entry| entry.state != State::Open)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use transload_envelope::Origin;

    use super::*;

    fn envelope() -> Envelope {
        Envelope::new(Origin::new("a", "mqtt", "t"), "x")
    }

    #[test]
    fn acknowledgements_leave_in_the_order_of_receipt() {
        let now = Instant::now();
        let mut unsettled = Unsettled::default();
        let tags: Vec<_> = [7, 8, 9].map(|id| unsettled.enter(id, envelope())).into();
        unsettled.settle(tags[2], &Settlement::Accepted, now);
        assert_eq!(unsettled.next_acknowledgement(), None);
        unsettled.settle(tags[0], &Settlement::Accepted, now);
        assert_eq!(unsettled.next_acknowledgement(), Some(7));
        assert_eq!(unsettled.next_acknowledgement(), None);
        unsettled.settle(tags[1], &Settlement::Accepted, now);
        let rest: Vec<_> = std::iter::from_fn(|| unsettled.next_acknowledgement()).collect();
        assert_eq!(rest, [8, 9]);
        // A late settlement of a message that is gone changes nothing.
        unsettled.settle(tags[0], &Settlement::RELEASED, now);
        assert_eq!(unsettled.next_due(), None);
    }

    #[test]
    fn a_released_message_is_offered_again_and_holds_the_others_back() {
        let now = Instant::now();
        let mut unsettled = Unsettled::default();
        let (first, second) = (unsettled.enter(1, envelope()), unsettled.enter(2, envelope()));
        let after = Duration::from_secs(1);
        unsettled.settle(first, &Settlement::Released { after }, now);
        unsettled.settle(second, &Settlement::Accepted, now);
        assert_eq!(unsettled.next_acknowledgement(), None);
        assert_eq!(unsettled.next_due(), Some(now + after));
        assert!(unsettled.due(now).is_empty());
        let again = unsettled.due(now + after);
        assert_eq!(again.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [first]);
        unsettled.settle(first, &Settlement::Accepted, now);
        assert_eq!(unsettled.next_acknowledgement(), Some(1));
        assert_eq!(unsettled.next_acknowledgement(), Some(2));
    }
}
