use bytes::Bytes;

/// From this length on, in bytes, a payload that is a part of a read buffer is copied out of it.
const LARGE_BYTES: usize = 16 * 1024;

/// The payload in memory of its own if it is large.
///
/// Client libraries hand out parts of their read buffers, which live as long as their last part
/// does and are up to twice as large as a message that does not fit the first time. Without the
/// copy, messages that wait would take several times their size. Small payloads share a buffer
/// with their neighbours, which leave soon.
pub fn detached(payload: Bytes) -> Bytes {
    if payload.len() < LARGE_BYTES { payload } else { Bytes::copy_from_slice(&payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_payloads_are_copied() {
        for (length, copied) in [(LARGE_BYTES - 1, false), (LARGE_BYTES, true)] {
            let buffer = Bytes::from(vec![7; 3 * LARGE_BYTES]);
            let payload = buffer.slice(1..=length);
            let kept = detached(payload.clone());
            assert_eq!(kept, payload);
            assert_eq!(kept.as_ptr() != payload.as_ptr(), copied);
        }
    }
}
