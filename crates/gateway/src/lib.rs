//! Wiring: configuration, dispatch, supervision, shutdown, admin address, metrics.
//!
//! Invariants:
//! - No protocol is known here: what an adapter is comes through
//!   [`transload_adapter::Registry`].
//! - Nothing is spawned before a configuration has been accepted as a whole.
//! - Every task has an owner that waits for its end.

mod admin;
pub mod config;
mod destination;
mod dispatch;
mod metrics;
mod run;
mod status;
mod storage;
mod supervisor;
#[cfg(test)]
mod tests;

pub use self::run::{RunError, Summary, run};
