use bytes::{Buf, Bytes};
use transload_envelope::Text;

use super::reason::Fault;

/// Reads the body of one frame.
pub(super) struct Reader(Bytes);

const SHORT: Fault = Fault::malformed("the packet ends too early");

impl Reader {
    pub(super) fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    /// A packet identifier, which is never 0.
    pub(super) fn packet_id(&mut self) -> Result<u16, Fault> {
        match self.u16()? {
            0 => Err(Fault::protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// A Variable Byte Integer (MQTT 5, section 1.5.5).
    pub(super) fn variable(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::malformed("a variable byte integer of more than four bytes"))
    }

    /// As many bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, Fault> {
        if length > self.0.len() { Err(SHORT) } else { Ok(self.0.split_to(length)) }
    }

    /// Binary data with its length in front.
    pub(super) fn binary(&mut self) -> Result<Bytes, Fault> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// A UTF-8 string (MQTT 5, section 1.5.4): no U+0000, and no surrogates, which are no UTF-8.
    pub(super) fn text(&mut self) -> Result<Text, Fault> {
        let text = Text::try_from(self.binary()?)
            .map_err(|_| Fault::malformed("a text that is not UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(Fault::malformed("a text with U+0000"));
        }
        Ok(text)
    }

    /// What is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// Says that nothing may be left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Fault::malformed("bytes behind the packet's end"))
        }
    }
}
