//! Queues and tables that are gone with the process.
//!
//! Invariants:
//! - A message in memory shares its payload, headers and properties with all its other copies.
//! - A share with [`SettleOn::Stored`] is settled before `append` returns; one with
//!   [`SettleOn::Delivered`] stays with the message and leaves with its first lease.
//!
//! [`SettleOn::Stored`]: transload_adapter::store::SettleOn::Stored
//! [`SettleOn::Delivered`]: transload_adapter::store::SettleOn::Delivered

mod queue;
mod store;
mod table;

pub(crate) use self::queue::MemoryQueue;
pub use self::store::MemoryStore;
