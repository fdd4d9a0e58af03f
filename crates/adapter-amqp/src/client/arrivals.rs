//! What consumers are sent, on its way to whoever receives it.
//!
//! Invariants:
//! - What waits is bounded in number and in bytes. At the bound the connection is not read until
//!   there is room, and acknowledgements still leave.
//! - Messages come out in the order in which they were read, and the end of a consumer after them.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};
use transload_adapter::{ByteRoom, Occupied, units::ByteSize};
use transload_envelope::Text;

use super::{error::Error, properties::BasicProperties};

/// How many messages may wait to be received.
const MESSAGES_MAX: usize = 1024;
/// How many bytes their payloads may have together, unless a single one has more.
const BYTES_MAX: ByteSize = ByteSize::from_mib(4);
/// Shorter payloads do not count: their number bounds them well enough.
const COUNTED_BYTES_MIN: usize = 4 * 1024;

/// A message as a consumer is sent it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: Text,
    pub(crate) routing_key: Text,
    pub(crate) properties: BasicProperties,
    /// Empty if there is more than is taken.
    pub(crate) data: Bytes,
    /// How many bytes there are.
    pub(crate) data_bytes: u64,
    /// Why there are no properties.
    pub(crate) fault: Option<Error>,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A message on this channel.
    Message(u16, Box<Delivery>, Occupied),
    /// The consumer of this channel has ended: by the broker's wish, or with its channel.
    End(u16, Option<Error>),
}

/// What has been read and waits to be received.
#[derive(Debug)]
pub(super) struct Arrivals {
    sender: mpsc::Sender<Arrival>,
    room: ByteRoom,
    /// What found no room; nothing is read meanwhile.
    waiting: VecDeque<Arrival>,
}

impl Arrivals {
    /// The two ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Arrival>) {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let room = ByteRoom::new(BYTES_MAX, COUNTED_BYTES_MIN);
        (Self { sender, room, waiting: VecDeque::new() }, receiver)
    }

    pub(super) fn push(&mut self, arrival: Arrival) {
        self.waiting.push_back(arrival);
        self.forward();
    }

    /// Whether something has found no room, so that nothing more is to be read.
    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands over what there is room for. When nobody receives any more, what comes is dropped, and
    /// the broker has it again with the end of the channel.
    fn forward(&mut self) {
        while let Some(first) = self.waiting.front_mut() {
            if let Arrival::Message(_, delivery, occupied) = first {
                let Some(taken) = self.room.take(delivery.data.len()) else { return };
                *occupied = taken;
            }
            let Some(first) = self.waiting.pop_front() else { return };
            if let Err(TrySendError::Full(first)) = self.sender.try_send(first) {
                self.waiting.push_front(first);
                return;
            }
        }
    }

    /// Waits until what waits has been handed over, or a part of it. Cancel-safe.
    pub(super) async fn until_room(&mut self) {
        let bytes = match self.waiting.front() {
            Some(Arrival::Message(_, delivery, _)) => delivery.data.len(),
            Some(Arrival::End(..)) | None => 0,
        };
        // Only one sender: what is reserved and given back is there for `forward`.
        if self.sender.reserve().await.is_ok() {
            drop(self.room.wait(bytes).await);
        }
        self.forward();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    fn message(tag: u64, bytes: usize) -> Arrival {
        let data = Bytes::from(vec![0; bytes]);
        Arrival::Message(
            1,
            Box::new(Delivery { tag, data, ..Delivery::default() }),
            Occupied::default(),
        )
    }

    fn tag(arrival: Option<Arrival>) -> Option<u64> {
        match arrival? {
            Arrival::Message(_, delivery, _) => Some(delivery.tag),
            Arrival::End(..) => None,
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_number_and_keeps_its_order() {
        let (mut arrivals, mut receiver) = Arrivals::new();
        for tag in 0..MESSAGES_MAX as u64 {
            arrivals.push(message(tag, 10));
        }
        assert!(!arrivals.is_full());
        arrivals.push(message(7777, 10));
        arrivals.push(Arrival::End(1, None));
        assert!(arrivals.is_full());
        assert_eq!(arrivals.until_room().now_or_never(), None);
        assert_eq!(tag(receiver.recv().await), Some(0));
        timeout(Duration::from_secs(10), arrivals.until_room()).await.unwrap();
        assert!(arrivals.is_full(), "there was room for one");
        for expected in 1..MESSAGES_MAX as u64 {
            assert_eq!(tag(receiver.recv().await), Some(expected));
        }
        assert_eq!(tag(receiver.recv().await), Some(7777));
        timeout(Duration::from_secs(10), arrivals.until_room()).await.unwrap();
        assert!(matches!(receiver.recv().await, Some(Arrival::End(1, None))));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (mut arrivals, mut receiver) = Arrivals::new();
        arrivals.push(message(1, 3 << 20));
        assert!(!arrivals.is_full());
        arrivals.push(message(2, 3 << 20));
        assert!(arrivals.is_full());
        assert_eq!(arrivals.until_room().now_or_never(), None);
        drop(receiver.recv().await);
        timeout(Duration::from_secs(10), arrivals.until_room()).await.unwrap();
        assert_eq!(tag(receiver.recv().await), Some(2));
        arrivals.push(message(3, 100 << 20));
        assert_eq!(tag(receiver.recv().await), Some(3), "a larger one goes alone");
        drop(receiver);
        for tag in 4..8 {
            arrivals.push(message(tag, 3 << 20));
        }
        assert!(!arrivals.is_full(), "nobody receives");
    }
}
