use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{DEPTH_MAX, DecodeError, VERSION};
use crate::{
    Address, Arguments, Envelope, Header, Headers, MessageId, Origin, Properties, Text, Timestamp,
    Value,
};

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads from the front of some bytes, in the forms that [`super`] draws.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &Bytes) -> Self {
        Self { rest: bytes.clone() }
    }

    /// Whether everything has been read; bytes that follow are an error.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TooLong(self.rest.len())) }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    pub(super) fn envelope(&mut self) -> Result<Envelope> {
        match self.byte()? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let flags = self.byte()?;
        if flags > 3 {
            return Err(DecodeError::Unknown("the flags"));
        }
        let hops = self.byte()?;
        let id = MessageId::from_source(self.text()?);
        let origin = Arc::new(self.origin()?);
        let readdressed = (flags & 1 != 0).then(|| self.text()).transpose()?;
        let properties = (flags & 2 != 0).then(|| self.properties()).transpose()?;
        let headers = self.headers()?;
        let payload = self.bytes()?;
        let mut envelope = Envelope::from_parts(id, origin, payload);
        if let Some(address) = readdressed {
            envelope.address = Address::new(address);
        }
        envelope.headers = headers;
        envelope.hops = hops;
        Ok(match properties {
            Some(properties) => envelope.with_properties(properties),
            None => envelope,
        })
    }

    pub(super) fn arguments(&mut self) -> Result<Arguments> {
        // A pair takes two bytes at least.
        let count = self.count(2)?;
        (0..count).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    fn origin(&mut self) -> Result<Origin> {
        let mut origin = Origin::new(self.text()?, self.text()?, self.text()?);
        origin.attributes = self.map(DEPTH_MAX)?;
        Ok(origin)
    }

    fn headers(&mut self) -> Result<Headers> {
        let count = self.count(2)?;
        (0..count)
            .map(|_| Ok(Header { name: self.text()?, value: self.value(DEPTH_MAX)? }))
            .collect()
    }

    fn properties(&mut self) -> Result<Properties> {
        let present = self.varint()?;
        if present >> 12 != 0 {
            return Err(DecodeError::Unknown("the set of properties"));
        }
        let has = |bit: u32| present >> bit & 1 != 0;
        Ok(Properties {
            content_type: self.optional(has(0), Self::text)?,
            content_encoding: self.optional(has(1), Self::text)?,
            correlation: self.optional(has(2), Self::bytes)?,
            reply_to: self.optional(has(3), Self::text)?,
            expires_at: self.optional(has(4), Self::timestamp)?,
            priority: self.optional(has(5), Self::byte)?,
            durable: self.optional(has(6), Self::truth)?,
            retain: has(7),
            kind: self.optional(has(8), Self::text)?,
            app_id: self.optional(has(9), Self::text)?,
            user_id: self.optional(has(10), Self::text)?,
            timestamp: self.optional(has(11), Self::timestamp)?,
        })
    }

    fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if present { read(self).map(Some) } else { Ok(None) }
    }

    fn value(&mut self, depth_left: usize) -> Result<Value> {
        Ok(match self.byte()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(self.zigzag()?),
            4 => Value::UInt(self.varint()?),
            5 => Value::Float(f64::from_le_bytes(self.array()?)),
            6 => Value::Text(self.text()?),
            7 => Value::Bytes(self.bytes()?),
            8 => Value::Timestamp(self.timestamp()?),
            9 => {
                let depth_left = depth_left.checked_sub(1).ok_or(DecodeError::TooDeep)?;
                let count = self.count(1)?;
                Value::List((0..count).map(|_| self.value(depth_left)).collect::<Result<_>>()?)
            }
            10 => Value::Map(self.map(depth_left.checked_sub(1).ok_or(DecodeError::TooDeep)?)?),
            _ => return Err(DecodeError::Unknown("the type of a value")),
        })
    }

    fn map(&mut self, depth_left: usize) -> Result<Vec<(Text, Value)>> {
        let count = self.count(2)?;
        (0..count).map(|_| Ok((self.text()?, self.value(depth_left)?))).collect()
    }

    fn timestamp(&mut self) -> Result<Timestamp> {
        Ok(Timestamp { unix_ms: self.zigzag()? })
    }

    fn truth(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown("a truth value")),
        }
    }

    /// Reads a text.
    pub fn text(&mut self) -> Result<Text> {
        Text::try_from(self.bytes()?).map_err(|_| DecodeError::NotText)
    }

    /// Reads bytes with their length.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let length = self.count(1)?;
        self.take(length)
    }

    /// Reads a count of things that take at least `least` bytes each. More than the rest can hold
    /// is refused before anything is reserved for them.
    fn count(&mut self, least: usize) -> Result<usize> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::CutOff)?;
        if count > self.rest.len() / least { Err(DecodeError::CutOff) } else { Ok(count) }
    }

    /// Reads a signed number.
    pub fn zigzag(&mut self) -> Result<i64> {
        let folded = self.varint()?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }

    /// Reads an unsigned number.
    pub fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit, and a last byte of zero would be a second form
            // of the same number.
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(DecodeError::Unknown("a number"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Unknown("a number"))
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let array = *self.rest.first_chunk().ok_or(DecodeError::CutOff)?;
        self.rest.advance(N);
        Ok(array)
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.rest.len() {
            return Err(DecodeError::CutOff);
        }
        Ok(self.rest.split_to(length))
    }
}
