//! Between HTTP and the canonical message, both ways.
//!
//! Invariants:
//! - Everything here is pure.
//! - What leaves is well formed, whatever came in: no header injection, no path that leaves the base
//!   of its URL, no line break that an event stream would take for a field.
//! - Credentials of one hop (`Authorization`, `Cookie` and the like) are never part of a message.

mod address;
mod event;
mod headers;

pub(crate) use self::{
    address::{check_address, encode_path, read_path},
    event::{event_id, gap, render},
    headers::{
        STATUS_HEADER, is_forwardable, read_headers, read_retry_after, usable_id,
        write_request_headers, write_response_headers,
    },
};
