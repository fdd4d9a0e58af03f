//! Contents, which come in pieces behind their method (AMQP 0-9-1, section 4.2.6).

use amq_protocol::protocol::basic;
use bytes::Bytes;

use super::{
    error::{Error, Result},
    input::{Deliver, Header},
};

/// What a content belongs to.
#[derive(Debug)]
pub(super) enum Head {
    Returned(basic::Return),
    Delivered(Deliver),
}

/// A content while it comes in.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) head: Head,
    header: Option<Box<Header>>,
    data: Vec<u8>,
    bytes_left: u64,
}

impl Content {
    pub(super) fn new(head: Head) -> Self {
        Self { head, header: None, data: Vec::new(), bytes_left: 0 }
    }

    pub(super) fn take_header(&mut self, header: Box<Header>) -> Result<()> {
        if self.header.is_some() {
            return Err(Error::protocol("the broker sends two headers of one message"));
        }
        self.bytes_left = header.body_bytes;
        self.header = Some(header);
        Ok(())
    }

    /// Takes a part. It is copied, so that it does not hold the buffer that it was read into; of a
    /// content above the bound, and of what is returned, nothing is kept.
    pub(super) fn take_part(&mut self, part: &[u8], bytes_max: usize) -> Result<()> {
        let Some(header) = &self.header else {
            return Err(Error::protocol("the broker sends a content without its header"));
        };
        let left = self.bytes_left.checked_sub(part.len() as u64);
        self.bytes_left =
            left.ok_or_else(|| Error::protocol("the broker sends more than it has announced"))?;
        let total = usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
        if total <= bytes_max && matches!(self.head, Head::Delivered(_)) {
            self.data.reserve_exact(total - self.data.len());
            self.data.extend_from_slice(part);
        }
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.header.is_some() && self.bytes_left == 0
    }

    /// What there is of it, in the end.
    pub(super) fn into_parts(self) -> Option<(Head, Header, Bytes)> {
        Some((self.head, *self.header?, self.data.into()))
    }
}
