//! Queues in memory and on disk, leases, retry and dead letters.
//!
//! Invariants:
//! - A queue is first in, first out. A message that was leased is not given out again until it is
//!   released, and then it has its old place.
//! - Every queue is bounded in messages, bytes and age. What happens at a bound is decided by
//!   whoever appends; nothing is dropped here but by age and by [`Queue::drop_oldest`], and both
//!   are counted.
//!
//! [`Queue::drop_oldest`]: transload_adapter::store::Queue::drop_oldest

mod backlog;
pub mod backoff;
pub mod dead_letters;
pub mod journal;
mod memory;
mod sync;
pub mod worker;

pub use self::{journal::JournalStore, memory::MemoryStore};
