//! Wiring: configuration, dispatch, supervision, shutdown, admin address, metrics.
//!
//! Invariants:
//! - No protocol is known here: what an adapter is comes through
//!   [`transload_adapter::Registry`].
//! - Nothing is spawned before a configuration has been accepted as a whole.
//! - Every task has an owner that waits for its end.

mod admin;
pub mod config;
mod deduplication;
mod destination;
mod dispatch;
mod letters;
mod metrics;
mod offline;
mod queues;
mod run;
mod status;
mod storage;
mod supervisor;
mod sync;
#[cfg(test)]
mod tests;
mod times;

pub use self::{
    offline::{Offline, OfflineError},
    run::{RunError, Summary, run},
};
