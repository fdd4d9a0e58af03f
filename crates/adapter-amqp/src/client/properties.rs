//! The properties of a message (AMQP 0-9-1, sections 1.8.1 and 4.2.6.1).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use transload_envelope::Text;

use super::{
    error::{Error, Result},
    table::Table,
};

/// The properties of a message. Texts are of 255 bytes at most; whoever makes them sees to that.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BasicProperties {
    pub(crate) content_type: Option<Text>,
    pub(crate) content_encoding: Option<Text>,
    pub(crate) headers: Option<Table>,
    /// 2 is persistent.
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) priority: Option<u8>,
    pub(crate) correlation_id: Option<Text>,
    pub(crate) reply_to: Option<Text>,
    /// In milliseconds, as text.
    pub(crate) expiration: Option<Text>,
    pub(crate) message_id: Option<Text>,
    /// In seconds since 1970.
    pub(crate) timestamp: Option<u64>,
    /// The property `type`.
    pub(crate) kind: Option<Text>,
    pub(crate) user_id: Option<Text>,
    pub(crate) app_id: Option<Text>,
    pub(crate) cluster_id: Option<Text>,
}

impl BasicProperties {
    /// Reads flags and properties.
    ///
    /// # Errors
    ///
    /// If they cannot be read. What is not UTF-8 in a text is replaced.
    pub(super) fn read(bytes: &mut Bytes) -> Result<Self> {
        let flags = bytes.try_get_u16().map_err(|_| short())?;
        let has = |bit: u16| flags & 1 << bit != 0;
        let text = |bytes: &mut Bytes, bit| has(bit).then(|| read_text(bytes)).transpose();
        Ok(Self {
            content_type: text(bytes, 15)?,
            content_encoding: text(bytes, 14)?,
            headers: has(13).then(|| read_table(bytes)).transpose()?,
            delivery_mode: has(12).then(|| bytes.try_get_u8()).transpose().map_err(|_| short())?,
            priority: has(11).then(|| bytes.try_get_u8()).transpose().map_err(|_| short())?,
            correlation_id: text(bytes, 10)?,
            reply_to: text(bytes, 9)?,
            expiration: text(bytes, 8)?,
            message_id: text(bytes, 7)?,
            timestamp: has(6).then(|| bytes.try_get_u64()).transpose().map_err(|_| short())?,
            kind: text(bytes, 5)?,
            user_id: text(bytes, 4)?,
            app_id: text(bytes, 3)?,
            cluster_id: text(bytes, 2)?,
        })
    }

    /// Writes flags and properties.
    pub(super) fn put(&self, into: &mut BytesMut) {
        let at = into.len();
        into.put_u16(0);
        let mut flags = Flags(0);
        flags.text(into, 15, self.content_type.as_ref());
        flags.text(into, 14, self.content_encoding.as_ref());
        if let Some(headers) = flags.has(13, self.headers.as_ref()) {
            headers.put(into);
        }
        if let Some(mode) = flags.has(12, self.delivery_mode) {
            into.put_u8(mode);
        }
        if let Some(priority) = flags.has(11, self.priority) {
            into.put_u8(priority);
        }
        flags.text(into, 10, self.correlation_id.as_ref());
        flags.text(into, 9, self.reply_to.as_ref());
        flags.text(into, 8, self.expiration.as_ref());
        flags.text(into, 7, self.message_id.as_ref());
        if let Some(seconds) = flags.has(6, self.timestamp) {
            into.put_u64(seconds);
        }
        flags.text(into, 5, self.kind.as_ref());
        flags.text(into, 4, self.user_id.as_ref());
        flags.text(into, 3, self.app_id.as_ref());
        flags.text(into, 2, self.cluster_id.as_ref());
        if let Some(place) = into.get_mut(at..at + 2) {
            place.copy_from_slice(&flags.0.to_be_bytes());
        }
    }

    /// How many bytes the properties take without the flags.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [
            &self.content_type,
            &self.content_encoding,
            &self.correlation_id,
            &self.reply_to,
            &self.expiration,
            &self.message_id,
            &self.kind,
            &self.user_id,
            &self.app_id,
            &self.cluster_id,
        ];
        let texts: usize = texts.into_iter().flatten().map(|text| 1 + text.len()).sum();
        texts
            + self.headers.as_ref().map_or(0, Table::bytes)
            + usize::from(self.delivery_mode.is_some())
            + usize::from(self.priority.is_some())
            + self.timestamp.map_or(0, |_| 8)
    }
}

/// Which properties there are.
struct Flags(u16);

impl Flags {
    fn has<T>(&mut self, bit: u16, property: Option<T>) -> Option<T> {
        self.0 |= u16::from(property.is_some()) << bit;
        property
    }

    fn text(&mut self, into: &mut BytesMut, bit: u16, text: Option<&Text>) {
        if let Some(text) = self.has(bit, text) {
            put_text(into, text);
        }
    }
}

/// Writes a text of 255 bytes at most.
pub(crate) fn put_text(into: &mut BytesMut, text: &str) {
    into.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    into.extend_from_slice(text.as_bytes());
}

/// Reads such a text.
pub(super) fn read_text(bytes: &mut Bytes) -> Result<Text> {
    let length = usize::from(bytes.try_get_u8().map_err(|_| short())?);
    let part = bytes.get(..length).ok_or_else(short)?;
    // The broker passes on what its clients send, whatever it is.
    let text = String::from_utf8_lossy(part).into();
    bytes.advance(length);
    Ok(text)
}

fn read_table(bytes: &mut Bytes) -> Result<Table> {
    Table::read(bytes).ok_or_else(|| Error::protocol("the headers of the message cannot be read"))
}

/// An error of a frame that ends too early.
pub(super) fn short() -> Error {
    Error::protocol("the broker sends a frame that is cut short")
}
