//! An entry of the table `throttle`:
//!
//! ```text
//! key:    route, 0x00, key of the throttle
//! value:  version (1 byte: 1), when it is due (8 bytes, big-endian: milliseconds since 1970), message
//! ```

use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::time::Instant;
use transload_envelope::{Envelope, Text, Timestamp, codec};

/// The version of the entries.
const VERSION: u8 = 1;

/// A route and a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) route: Text,
    pub(super) key: Text,
}

impl Slot {
    pub(super) fn to_key(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.route.len() + 1 + self.key.len());
        bytes.extend_from_slice(self.route.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.into()
    }
}

/// The entry for a message that is due then.
pub(super) fn value(due: Instant, envelope: &Envelope) -> Bytes {
    let due = Timestamp::now().after(due.saturating_duration_since(Instant::now()));
    let mut bytes = Vec::with_capacity(9 + envelope.size());
    bytes.put_u8(VERSION);
    bytes.put_i64(due.unix_ms);
    codec::encode(envelope, &mut bytes);
    bytes.into()
}

/// What an entry says; nothing if it is none of ours.
pub(super) fn read(key: &[u8], value: &Bytes) -> Option<(Slot, Instant, Envelope)> {
    let text = std::str::from_utf8(key).ok()?;
    // The name of a route holds no control characters.
    let (route, key) = text.split_once('\0')?;
    let mut value = value.clone();
    if value.try_get_u8().ok()? != VERSION {
        return None;
    }
    let due = Timestamp { unix_ms: value.try_get_i64().ok()? };
    let envelope = codec::decode(&value).ok()?;
    let due = Instant::now() + due.remaining(Timestamp::now());
    Some((Slot { route: route.into(), key: key.into() }, due, envelope))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use transload_envelope::{MessageId, Origin};

    use super::*;

    /// The bytes of an entry that must be readable for ever.
    #[test]
    fn entries_are_read_as_they_were_written() {
        let slot = Slot { route: "r".into(), key: "d1".into() };
        assert_eq!(slot.to_key(), b"r\0d1".as_slice());
        let envelope = Envelope::new(Origin::new("a", "fake", "x"), "payload")
            .with_id(MessageId::from_source("m"));
        let written = value(Instant::now() + Duration::from_mins(1), &envelope);
        assert_eq!(written.first(), Some(&1));
        let (found, due, message) = read(&slot.to_key(), &written).unwrap();
        assert_eq!((found, message), (slot, envelope));
        let left = due.saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(61), "{left:?}");
        assert!(read(b"no route", &written).is_none());
        assert!(read(b"r\0k", &Bytes::from_static(b"\x02")).is_none());
        assert!(read(b"r\0k", &written.slice(..12)).is_none());
    }
}
