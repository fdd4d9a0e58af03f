//! The binary form of a message, as it is kept on disk.
//!
//! Invariants:
//! - What [`encode`] writes, [`decode`] reads back as an equal message, whatever it holds, as long
//!   as no value is nested deeper than [`DEPTH_MAX`].
//! - Decoding copies neither payload nor texts: they are slices of the bytes that are given.
//! - Decoding arbitrary bytes never panics, and never reserves more than a small multiple of the
//!   input's size.
//! - A message has one form only: the first byte is the version of the format, and bytes behind
//!   the message are an error.
//!
//! Layout of version 1. `varint` is LEB128 of a 64-bit number, `zigzag` a varint of a signed
//! number folded as `(n << 1) ^ (n >> 63)`; `bytes` is a varint length and so many bytes; `text`
//! is `bytes` in UTF-8; `list of x` is a varint count and so many `x`.
//!
//! ```text
//! envelope    version u8 = 1
//!             flags u8         bit 0: the address differs from the origin's and follows
//!                              bit 1: there are properties
//!                              the other bits are zero
//!             hops u8
//!             id text
//!             origin           adapter text, protocol text, address text, list of named
//!             address text     if flag 0
//!             properties       if flag 1
//!             headers          list of named
//!             payload bytes
//!
//! named       name text, value
//!
//! properties  present varint, then in this order those whose bit is set:
//!             bit  0 content type text      bit  1 content encoding text
//!             bit  2 correlation bytes      bit  3 reply-to text
//!             bit  4 expires-at zigzag ms   bit  5 priority u8
//!             bit  6 durable u8 (0 or 1)    bit  7 retain (nothing follows)
//!             bit  8 kind text              bit  9 app id text
//!             bit 10 user id text           bit 11 timestamp zigzag ms
//!
//! value       tag u8: 0 null, 1 false, 2 true, 3 int zigzag, 4 uint varint, 5 float f64
//!             little-endian, 6 text, 7 bytes, 8 timestamp zigzag ms, 9 list of value,
//!             10 list of named
//!
//! arguments   list of (key text, text text)
//! ```

mod read;
mod write;

use bytes::Bytes;

pub use self::{
    read::Reader,
    write::{bytes as put_bytes, varint as put_varint, zigzag as put_zigzag},
};
use crate::{Arguments, Envelope};

/// The version of the format that is written.
pub const VERSION: u8 = 1;

/// How deep lists and maps may be nested in a value. Adapters read no deeper values: AMQP tables
/// are nested by a handful, and each level costs the stack a frame.
pub const DEPTH_MAX: usize = 64;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte names a version that is not known here.
    #[error("the message is in format version {0}, which this program does not know")]
    Version(u8),
    /// The bytes end before the message does.
    #[error("the message is cut off")]
    CutOff,
    /// Bytes follow behind the message.
    #[error("there are {0} bytes behind the message")]
    TooLong(usize),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotText,
    /// A number has more bits than its field, or a tag or flag is unknown.
    #[error("{0} has a value that is not known")]
    Unknown(&'static str),
    /// A value is nested deeper than [`DEPTH_MAX`].
    #[error("a value is nested too deep")]
    TooDeep,
}

/// Appends the binary form of a message.
///
/// What is nested deeper than [`DEPTH_MAX`] is written as null, so that what was written can always
/// be read: losing the innards of such a value is better than losing the message.
pub fn encode(envelope: &Envelope, into: &mut Vec<u8>) {
    write::envelope(envelope, into);
}

/// Reads a message; its payload and texts are slices of `bytes`.
pub fn decode(bytes: &Bytes) -> Result<Envelope, DecodeError> {
    let mut reader = Reader::new(bytes);
    let envelope = reader.envelope()?;
    reader.end()?;
    Ok(envelope)
}

/// Appends the binary form of arguments.
pub fn encode_arguments(arguments: &Arguments, into: &mut Vec<u8>) {
    write::arguments(arguments, into);
}

/// Reads arguments; their texts are slices of `bytes`.
pub fn decode_arguments(bytes: &Bytes) -> Result<Arguments, DecodeError> {
    let mut reader = Reader::new(bytes);
    let arguments = reader.arguments()?;
    reader.end()?;
    Ok(arguments)
}
