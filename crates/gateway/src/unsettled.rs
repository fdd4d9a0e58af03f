//! How many bytes of one source's messages may be unsettled.
//!
//! The number of messages is bounded by credits, which a source takes before it knows how large a
//! message is; what is here bounds their size, once it is known.

use transload_adapter::{ByteRoom, units::ByteSize};

/// Payloads below this length, in bytes, are not counted.
const COUNTED_BYTES_MIN: usize = 16 * 1024;

/// About how many bytes of payload are taken from a source before they are counted.
const BATCH_BYTES: usize = 1024 * 1024;

/// The room of one source.
pub(crate) fn room(bytes_max: ByteSize) -> ByteRoom {
    ByteRoom::new(bytes_max, COUNTED_BYTES_MIN)
}

/// How many messages to take from a source at once, when the last ones were so large.
pub(crate) fn batch_len(messages: usize, payload_bytes: usize, messages_max: usize) -> usize {
    let average = payload_bytes / messages.max(1);
    (BATCH_BYTES / average.max(1)).clamp(1, messages_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_messages_are_taken_at_once_when_they_are_large() {
        assert_eq!(batch_len(0, 0, 256), 256);
        assert_eq!(batch_len(256, 256 * 256, 256), 256);
        assert_eq!(batch_len(16, 16 * 65_536, 256), 16);
        assert_eq!(batch_len(1, 64 << 20, 256), 1);
    }
}
