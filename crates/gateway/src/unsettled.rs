//! How many bytes of one source's messages may be unsettled.
//!
//! The number of messages is bounded by credits, which a source takes before it knows how large a
//! message is; what is here bounds their size, once it is known.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use transload_adapter::units::ByteSize;

/// Payloads below this length are not counted, since the bound on the number of messages bounds
/// them well enough, and nearly all messages are so small.
const COUNTED_BYTES_MIN: usize = 16 * 1024;

/// About how many bytes of payload are taken from a source before they are counted.
const BATCH_BYTES: usize = 1024 * 1024;

/// The bound of one source.
#[derive(Clone, Debug)]
pub(crate) struct UnsettledBytes {
    /// One permit for each byte.
    free: Arc<Semaphore>,
    bytes_max: u32,
}

impl UnsettledBytes {
    pub(crate) fn new(bytes_max: ByteSize) -> Self {
        let bytes_max = u32::try_from(bytes_max.get()).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// What a message occupies; nothing if it is small, and no more than there is if it is large.
    pub(crate) fn occupied(&self, payload_bytes: usize) -> Option<u32> {
        if payload_bytes < COUNTED_BYTES_MIN {
            return None;
        }
        Some(u32::try_from(payload_bytes).map_or(self.bytes_max, |bytes| bytes.min(self.bytes_max)))
    }

    /// Room, if there is any without waiting.
    pub(crate) fn now(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(bytes).ok()
    }

    /// Waits for room, in the order of asking. Cancel-safe.
    pub(crate) async fn wait(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(bytes).await.ok()
    }
}

/// How many messages to take from a source at once, when the last ones were so large.
pub(crate) fn batch_len(messages: usize, payload_bytes: usize, messages_max: usize) -> usize {
    let average = payload_bytes / messages.max(1);
    (BATCH_BYTES / average.max(1)).clamp(1, messages_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: u64) -> UnsettledBytes {
        UnsettledBytes::new(ByteSize::from_bytes(bytes))
    }

    #[test]
    fn small_messages_are_not_counted_and_large_ones_go_alone() {
        let bound = of(100_000);
        assert_eq!(bound.occupied(16_383), None);
        assert_eq!(bound.occupied(16_384), Some(16_384));
        assert_eq!(bound.occupied(1_000_000), Some(100_000));
        assert_eq!(of(u64::MAX).occupied(usize::MAX), Some(u32::MAX));
    }

    #[test]
    fn what_is_given_back_is_free_again() {
        let bound = of(100_000);
        let first = bound.now(60_000).unwrap();
        assert!(bound.now(60_000).is_none());
        drop(first);
        assert!(bound.now(100_000).is_some());
    }

    #[test]
    fn fewer_messages_are_taken_at_once_when_they_are_large() {
        assert_eq!(batch_len(0, 0, 256), 256);
        assert_eq!(batch_len(256, 256 * 256, 256), 256);
        assert_eq!(batch_len(16, 16 * 65_536, 256), 16);
        assert_eq!(batch_len(1, 64 << 20, 256), 1);
    }
}
