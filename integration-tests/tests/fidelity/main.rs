//! What comes through: messages by way of two protocols and back, by the adapters' own mappings and
//! without a broker.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod addresses;
mod limits;
mod messages;
mod pairs;
mod protocol;
mod table;
