//! The mapping between canonical messages and NATS, both ways. Pure.
//!
//! Invariants:
//! - A wildcard, a space or a name of the server's own never gets into a subject from an address.
//! - No user header becomes a control header of NATS (`Nats-…`), and none can break out of its
//!   line.
//! - What NATS can hold is carried as it is; what it cannot hold as it is, is carried in a
//!   documented form that this mapping reads back.

mod address;
mod headers;
mod service;
mod subject;
#[cfg(test)]
mod tests;
mod value;

pub use self::address::AddressMapping;
pub(crate) use self::{
    address::pattern_filters,
    headers::{Outbound, incoming, outgoing, reply_address},
    service::{read_service_error, write_service_error},
    subject::{SubjectError, check_subject, covers, is_internal, matches, overlaps},
};
