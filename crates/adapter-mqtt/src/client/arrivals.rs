//! What has been read and waits to be received.
//!
//! Invariant: as many messages that must not be dropped as a broker of MQTT 5 may send always find
//! room. What comes on top of them, and what may be dropped, shares the rest of the queue and a
//! bound in bytes.

use tokio::sync::mpsc;
use transload_adapter::{ByteRoom, Occupied, Tag, units::ByteSize};
use transload_envelope::Envelope;

/// Shorter payloads do not count among the bytes that wait: their number bounds them well enough.
const COUNTED_BYTES_MIN: usize = 4 * 1024;

/// How much may wait to be received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many messages that must not be dropped always find room.
    pub(super) reserved: usize,
    /// How many more messages do.
    pub(super) messages: usize,
    /// How many bytes these may have together, unless a single one has more.
    pub(super) bytes: ByteSize,
}

/// A message that has been read.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) tag: Tag,
    pub(super) envelope: Envelope,
    /// What it takes of the bytes that may wait.
    _occupied: Occupied,
}

/// The reading end's way to the queue.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    queue: mpsc::Sender<Arrival>,
    reserved: usize,
    room: ByteRoom,
}

/// Makes the two ends of a queue.
pub(super) fn arrivals(limits: Limits) -> (Arrivals, mpsc::Receiver<Arrival>) {
    let (queue, receiver) = mpsc::channel(limits.reserved.saturating_add(limits.messages).max(1));
    let room = ByteRoom::new(limits.bytes, COUNTED_BYTES_MIN);
    (Arrivals { queue, reserved: limits.reserved, room }, receiver)
}

impl Arrivals {
    /// Hands over a message that may be dropped; false if there is no room for it.
    pub(super) fn offer_droppable(&self, tag: Tag, envelope: Envelope) -> bool {
        self.queue.capacity() > self.reserved && self.offer_rest(tag, envelope).is_none()
    }

    /// Hands over a message that must not be dropped; gives it back if there is no room. Nobody
    /// receives any more when the other end is gone, and then it is dropped too.
    pub(super) fn offer(&self, tag: Tag, envelope: Envelope) -> Option<(Tag, Envelope)> {
        if self.waiting() < self.reserved {
            self.send(Arrival { tag, envelope, _occupied: Occupied::default() })
        } else {
            self.offer_rest(tag, envelope)
        }
    }

    /// Waits until there may be room for such a message. False when nobody receives any more.
    /// Cancel-safe.
    pub(super) async fn until_room(&self, payload_bytes: usize) -> bool {
        if self.queue.reserve().await.is_err() {
            return false;
        }
        if self.waiting() >= self.reserved {
            drop(self.room.wait(payload_bytes).await);
        }
        true
    }

    fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    fn offer_rest(&self, tag: Tag, envelope: Envelope) -> Option<(Tag, Envelope)> {
        match self.room.take(envelope.payload.len()) {
            Some(occupied) => self.send(Arrival { tag, envelope, _occupied: occupied }),
            None => Some((tag, envelope)),
        }
    }

    fn send(&self, arrival: Arrival) -> Option<(Tag, Envelope)> {
        match self.queue.try_send(arrival) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(Arrival { tag, envelope, .. })) => {
                Some((tag, envelope))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;
    use transload_envelope::Origin;

    use super::*;

    const TAG: Tag = Tag(1);
    const LIMITS: Limits = Limits { reserved: 2, messages: 8, bytes: ByteSize::from_kib(16) };

    fn message(bytes: usize) -> Envelope {
        Envelope::new(Origin::new("a", "mqtt", "t"), vec![0; bytes])
    }

    #[test]
    fn what_may_be_dropped_is_bounded_in_number_and_in_bytes() {
        let (arrivals, _queue) = arrivals(LIMITS);
        assert!(arrivals.offer_droppable(TAG, message(10_000)));
        assert!(!arrivals.offer_droppable(TAG, message(10_000)), "too many bytes");
        let taken = (0..10).filter(|_| arrivals.offer_droppable(TAG, message(10))).count();
        assert_eq!(taken, 7, "the rest is for what must not be dropped");
        assert_eq!(arrivals.offer(TAG, message(10)), None);
        assert_eq!(arrivals.offer(TAG, message(10)), None);
        assert!(arrivals.offer(TAG, message(10)).is_some());
    }

    #[tokio::test]
    async fn what_must_not_be_dropped_finds_its_room_and_then_waits_for_bytes() {
        let (arrivals, mut queue) = arrivals(LIMITS);
        for _ in 0..3 {
            assert_eq!(arrivals.offer(TAG, message(12_000)), None);
        }
        assert!(arrivals.offer(TAG, message(12_000)).is_some(), "too many bytes");
        assert_eq!(arrivals.until_room(12_000).now_or_never(), None);
        let waiting = timeout(Duration::from_secs(10), arrivals.until_room(12_000));
        let received = async {
            while !queue.is_empty() {
                queue.recv().await;
            }
        };
        let (room, ()) = tokio::join!(waiting, received);
        assert_eq!(room, Ok(true));
        assert_eq!(arrivals.offer(TAG, message(12_000)), None);
        drop(queue);
        let ended = timeout(Duration::from_secs(10), arrivals.until_room(0)).await;
        assert_eq!(ended, Ok(false));
    }

    #[test]
    fn a_message_larger_than_the_bound_goes_alone() {
        let (arrivals, _queue) = arrivals(Limits { reserved: 0, ..LIMITS });
        assert_eq!(arrivals.offer(TAG, message(1_000_000)), None);
        assert!(arrivals.offer(TAG, message(1_000_000)).is_some());
    }
}
