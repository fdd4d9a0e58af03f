//! Header tables on the wire (AMQP 0-9-1, section 4.2.5.5).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The entries of a table as they are on the wire. The client passes them on; what they mean is read
/// and written by the mapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table(BytesMut);

impl Table {
    /// The table of these entries.
    pub(crate) fn new(entries: BytesMut) -> Self {
        Self(entries)
    }

    /// Takes a table out, if there is a whole one. It is copied, so that it does not hold the buffer
    /// that it was read into.
    pub(super) fn read(bytes: &mut Bytes) -> Option<Self> {
        let mut rest = &bytes[..];
        let table = Self(counted(&mut rest)?.into());
        bytes.advance(4 + table.0.len());
        Some(table)
    }

    pub(super) fn put(&self, into: &mut BytesMut) {
        put_counted(into, |into| into.extend_from_slice(&self.0));
    }

    pub(crate) fn entries(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it takes, its length included.
    pub(crate) fn bytes(&self) -> usize {
        4 + self.0.len()
    }
}

/// Takes bytes out that have their length in front.
pub(crate) fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    bytes.split_off(..length)
}

/// Writes something with its length in bytes in front, which is known once it is written.
pub(crate) fn put_counted<T>(into: &mut BytesMut, put: impl FnOnce(&mut BytesMut) -> T) -> T {
    into.put_u32(0);
    let at = into.len();
    let done = put(into);
    let bytes = u32::try_from(into.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = into.get_mut(at - 4..at) {
        place.copy_from_slice(&bytes.to_be_bytes());
    }
    done
}
