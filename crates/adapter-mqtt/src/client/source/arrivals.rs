//! What has been read and waits to be received.
//!
//! Invariants:
//! - What may be dropped and what must not have bounds of their own, in number and in bytes, so that
//!   neither takes the other's room. A single message above the bound in bytes goes alone.
//! - All come out in the order in which they went in.
//! - A whole batch costs one wake-up: the reading end announces what it has put in, and the other
//!   takes out what it can use at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use transload_adapter::Tag;
use transload_envelope::Envelope;

/// Shorter payloads do not count among the bytes that wait: their number bounds them well enough.
const COUNTED_BYTES_MIN: usize = 4 * 1024;

/// How many messages of one sort may wait, and how many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// How much may wait to be received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of messages that must not be dropped.
    pub(super) kept: Bound,
    /// Of messages that are dropped where there is no room.
    pub(super) droppable: Bound,
}

/// A message that has been read.
#[derive(Debug)]
pub(super) struct Arrival {
    /// None where nobody waits for an acknowledgement, and the message may be dropped.
    pub(super) tag: Option<Tag>,
    pub(super) envelope: Envelope,
}

impl Arrival {
    fn bytes(&self) -> usize {
        self.envelope.payload.len()
    }
}

/// What of one sort waits.
#[derive(Debug, Default)]
struct Account {
    messages: usize,
    bytes: usize,
}

fn counted(bytes: usize) -> usize {
    if bytes < COUNTED_BYTES_MIN { 0 } else { bytes }
}

impl Account {
    fn has_room(&self, bytes: usize, bound: Bound) -> bool {
        let bytes = counted(bytes);
        self.messages < bound.messages.max(1)
            && (bytes == 0 || self.bytes == 0 || self.bytes.saturating_add(bytes) <= bound.bytes)
    }

    fn enter(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(counted(bytes));
    }

    fn leave(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(counted(bytes));
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arrival>,
    kept: Account,
    droppable: Account,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything any more.
    abandoned: bool,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
    arrived: Notify,
    taken: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end's way to the queue.
#[derive(Debug)]
pub(super) struct Arrivals(Arc<Shared>);

/// The other end.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Shared>);

/// Makes the two ends of a queue.
pub(super) fn arrivals(limits: Limits) -> (Arrivals, Waiting) {
    let shared = Arc::new(Shared {
        limits,
        state: Mutex::default(),
        arrived: Notify::new(),
        taken: Notify::new(),
    });
    (Arrivals(Arc::clone(&shared)), Waiting(shared))
}

impl Arrivals {
    /// Puts in a message; gives it back if there is no room for it. Where nobody takes anything any
    /// more it is dropped. The other end hears of it by [`Self::announce`].
    pub(super) fn offer(&self, arrival: Arrival) -> Option<Arrival> {
        let Limits { kept, droppable } = self.0.limits;
        let mut state = self.0.lock();
        if state.abandoned {
            return None;
        }
        let bytes = arrival.bytes();
        let (account, bound) = match arrival.tag {
            Some(_) => (&mut state.kept, kept),
            None => (&mut state.droppable, droppable),
        };
        if !account.has_room(bytes, bound) {
            return Some(arrival);
        }
        account.enter(bytes);
        state.waiting.push_back(arrival);
        None
    }

    /// Wakes the other end, where something waits for it.
    pub(super) fn announce(&self) {
        if !self.0.lock().waiting.is_empty() {
            self.0.arrived.notify_one();
        }
    }

    /// Waits until there is room for a message that must not be dropped. False when nobody takes
    /// anything any more. Cancel-safe.
    pub(super) async fn until_room(&self, payload_bytes: usize) -> bool {
        loop {
            {
                let state = self.0.lock();
                if state.abandoned {
                    return false;
                }
                if state.kept.has_room(payload_bytes, self.0.limits.kept) {
                    return true;
                }
            }
            self.0.taken.notified().await;
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.arrived.notify_one();
    }
}

impl Waiting {
    /// Waits until messages are there, and says how many; 0 when none will come. Cancel-safe.
    pub(super) async fn until_any(&self) -> usize {
        loop {
            {
                let state = self.0.lock();
                if state.ended || !state.waiting.is_empty() {
                    return state.waiting.len();
                }
            }
            self.0.arrived.notified().await;
        }
    }

    /// Takes out so many messages, or all that there are.
    pub(super) fn take(&self, into: &mut Vec<Arrival>, most: usize) {
        {
            let mut state = self.0.lock();
            let State { waiting, kept, droppable, .. } = &mut *state;
            let count = most.min(waiting.len());
            for arrival in waiting.drain(..count) {
                let account = if arrival.tag.is_some() { &mut *kept } else { &mut *droppable };
                account.leave(arrival.bytes());
                into.push(arrival);
            }
        }
        self.0.taken.notify_one();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        state.waiting.clear();
        drop(state);
        self.0.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;
    use transload_envelope::Origin;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);
    const LIMITS: Limits = Limits {
        kept: Bound { messages: 3, bytes: 30_000 },
        droppable: Bound { messages: 8, bytes: 16 * 1024 },
    };

    fn message(tag: Option<Tag>, bytes: usize) -> Arrival {
        Arrival { tag, envelope: Envelope::new(Origin::new("a", "mqtt", "t"), vec![0; bytes]) }
    }

    fn kept(bytes: usize) -> Arrival {
        message(Some(Tag(1)), bytes)
    }

    #[test]
    fn both_sorts_are_bounded_in_number_and_in_bytes_by_themselves() {
        let (arrivals, _waiting) = arrivals(LIMITS);
        assert!(arrivals.offer(message(None, 10_000)).is_none());
        assert!(arrivals.offer(message(None, 10_000)).is_some(), "too many bytes");
        let small = (0..10).filter(|_| arrivals.offer(message(None, 10)).is_none()).count();
        assert_eq!(small, 7);
        for _ in 0..2 {
            assert!(arrivals.offer(kept(12_000)).is_none());
        }
        assert!(arrivals.offer(kept(12_000)).is_some(), "too many bytes");
        assert!(arrivals.offer(kept(10)).is_none());
        assert!(arrivals.offer(kept(10)).is_some(), "too many");
    }

    #[tokio::test]
    async fn room_is_waited_for_and_a_batch_is_taken_at_once() {
        let (arrivals, waiting) = arrivals(LIMITS);
        assert_eq!(waiting.until_any().now_or_never(), None);
        for _ in 0..3 {
            assert!(arrivals.offer(kept(1)).is_none());
        }
        assert_eq!(arrivals.until_room(1).now_or_never(), None);
        arrivals.announce();
        let taken = async {
            let mut taken = Vec::new();
            assert_eq!(waiting.until_any().await, 3);
            waiting.take(&mut taken, 2);
            taken.len()
        };
        let (room, taken) = tokio::join!(timeout(DEADLINE, arrivals.until_room(1)), taken);
        assert_eq!((room, taken), (Ok(true), 2));
        drop(arrivals);
        assert_eq!(waiting.until_any().await, 1, "what was put in is taken out");
        waiting.take(&mut Vec::new(), 10);
        assert_eq!(waiting.until_any().await, 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_an_end_that_is_gone() {
        let (arrivals, waiting) = arrivals(LIMITS);
        for _ in 0..3 {
            assert!(arrivals.offer(kept(1)).is_none());
        }
        let gone = async { drop(waiting) };
        let (room, ()) = tokio::join!(timeout(DEADLINE, arrivals.until_room(1)), gone);
        assert_eq!(room, Ok(false));
        assert!(arrivals.offer(kept(1)).is_none(), "it is dropped");
    }

    #[test]
    fn a_message_larger_than_the_bound_goes_alone() {
        let (arrivals, _waiting) = arrivals(LIMITS);
        assert!(arrivals.offer(kept(1_000_000)).is_none());
        assert!(arrivals.offer(kept(1_000_000)).is_some());
    }
}
