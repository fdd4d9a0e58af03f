//! The canonical message of Transload.
//!
//! Invariants:
//! - Nothing here does I/O, knows a protocol or a client library, or fails at run time; only
//!   decoding bytes that came from a disk can fail.
//! - Cloning an [`Envelope`] copies neither payload, headers nor properties, so a fan-out to many
//!   targets shares them; changing a clone copies only the part that is changed.
//! - Headers keep their order, their repeats and the types of their values.

mod address;
pub mod cloudevents;
pub mod codec;
mod envelope;
mod headers;
mod origin;
mod outgoing;
mod properties;
mod text;
mod time;
mod value;

pub use self::{
    address::Address,
    envelope::{Envelope, MessageId},
    headers::{Header, Headers},
    origin::Origin,
    outgoing::{Arguments, Outgoing},
    properties::Properties,
    text::Text,
    time::Timestamp,
    value::Value,
};
