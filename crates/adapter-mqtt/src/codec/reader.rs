use std::{mem, ops::Range};

use bytes::{Buf as _, Bytes};
use transload_envelope::Text;

use super::reason::Fault;

/// Reads the body of one frame. Only what is kept takes a share of the frame.
pub(super) struct Reader {
    frame: Bytes,
    at: usize,
    /// Never above the frame's length.
    end: usize,
}

const SHORT: Fault = Fault::malformed("the packet ends too early");

impl Reader {
    pub(super) fn new(frame: Bytes) -> Self {
        Self { at: 0, end: frame.len(), frame }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fn pass(&mut self, length: usize) -> Result<Range<usize>, Fault> {
        if length > self.end - self.at {
            return Err(SHORT);
        }
        let from = self.at;
        self.at += length;
        Ok(from..self.at)
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], Fault> {
        let range = self.pass(length)?;
        self.frame.get(range).ok_or(SHORT)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.bytes(N)?.try_into().map_err(|_| SHORT)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
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

    /// Ends after so many more bytes, until [`Self::widen`] is told what this returns.
    pub(super) fn narrow(&mut self, length: usize) -> Result<usize, Fault> {
        let from = self.at;
        let end = self.pass(length)?.end;
        self.at = from;
        Ok(mem::replace(&mut self.end, end))
    }

    /// Ends where it did before.
    pub(super) fn widen(&mut self, end: usize) {
        self.end = end;
    }

    /// Binary data with its length in front.
    pub(super) fn binary(&mut self) -> Result<Bytes, Fault> {
        let length = self.u16()?;
        let range = self.pass(length.into())?;
        Ok(self.frame.slice(range))
    }

    /// A UTF-8 string (MQTT 5, section 1.5.4): no U+0000, and no surrogates, which are no UTF-8.
    pub(super) fn text(&mut self) -> Result<Text, Fault> {
        let length = self.u16()?;
        let range = self.pass(length.into())?;
        let bytes = self.frame.get(range).ok_or(SHORT)?;
        if bytes.contains(&0) {
            return Err(Fault::malformed("a text with U+0000"));
        }
        Text::slice_of(&self.frame, bytes).map_err(|_| Fault::malformed("a text that is not UTF-8"))
    }

    /// What is left.
    pub(super) fn rest(mut self) -> Bytes {
        self.frame.truncate(self.end);
        self.frame.advance(self.at);
        self.frame
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
