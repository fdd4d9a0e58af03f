//! Queues in memory and on disk, leases, retry and dead letters.

pub mod backoff;
pub mod dead_letters;
pub mod worker;
