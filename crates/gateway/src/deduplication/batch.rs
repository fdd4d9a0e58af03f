//! How the keys of accepted messages are kept in a table.
//!
//! ```text
//! key     number of the batch, 8 bytes, big-endian, so that the order of the keys is that of time
//! value   when the messages were accepted, in milliseconds since 1970 (zigzag varint)
//!         each key: length (varint), bytes
//! ```

use bytes::Bytes;
use transload_envelope::{
    Text, Timestamp,
    codec::{Reader, put_bytes, put_zigzag},
};

/// Keys that were accepted together: one entry of the table, and one sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) keys: Vec<Text>,
}

impl Batch {
    /// The entry's key.
    pub(crate) fn table_key(number: u64) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// The entry's value.
    pub(crate) fn table_value(&self) -> Bytes {
        let mut value = Vec::new();
        put_zigzag(self.at.unix_ms, &mut value);
        for key in &self.keys {
            put_bytes(key.as_bytes(), &mut value);
        }
        value.into()
    }

    /// Reads an entry; absent when it is none.
    pub(crate) fn read(key: &Bytes, value: &Bytes) -> Option<Self> {
        let number = u64::from_be_bytes(<[u8; 8]>::try_from(&key[..]).ok()?);
        let mut reader = Reader::new(value);
        let at = Timestamp { unix_ms: reader.zigzag().ok()? };
        let mut keys = Vec::new();
        while reader.end().is_err() {
            keys.push(reader.text().ok()?);
        }
        Some(Self { number, at, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        for keys in [vec![], vec!["a"], vec!["", "b", "a long key with / and ü"]] {
            let keys = keys.into_iter().map(Text::from).collect();
            let batch = Batch { number: 1 << 40, at: Timestamp { unix_ms: -5 }, keys };
            let read = Batch::read(&Batch::table_key(batch.number), &batch.table_value());
            assert_eq!(read, Some(batch));
        }
    }

    #[test]
    fn what_is_no_batch_is_no_batch() {
        let number = Batch::table_key(1);
        for value in [&[][..], &[0, 5, b'a'], &[0, 1, 0xff]] {
            assert_eq!(Batch::read(&number, &Bytes::copy_from_slice(value)), None, "{value:?}");
        }
        assert_eq!(Batch::read(&Bytes::from_static(b"x"), &Bytes::from_static(&[0])), None);
    }
}
