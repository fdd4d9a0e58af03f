//! Wiring: configuration, dispatch, supervision, shutdown, admin address, metrics.
//!
//! Invariants:
//! - No protocol is known here: what an adapter is comes through
//!   [`transload_adapter::Registry`].
//! - Nothing is spawned before a configuration has been accepted as a whole.
//! - Every task has an owner that waits for its end.

mod admin;
mod appends;
mod conditions;
pub mod config;
mod deduplication;
mod destination;
mod dispatch;
mod explain;
mod letters;
mod limits;
mod message;
mod metrics;
mod offline;
mod queues;
mod recent;
mod repair;
mod requests;
mod routing;
mod rule_test;
mod run;
mod status;
mod storage;
mod sync;
#[cfg_attr(
    not(feature = "otlp"),
    allow(dead_code, reason = "without it there is nobody to send what is measured")
)]
mod telemetry;
#[cfg(test)]
mod tests;
mod times;
mod trace;
mod unsettled;

pub use self::{
    explain::Explainer,
    limits::{OverPayload, OverRate, PayloadLimit, RateLimit, RouteLimits, Sample, ThrottleLimit},
    message::{Message, MessageFault},
    offline::{Offline, OfflineError},
    repair::{Repaired, repair},
    rule_test::{Expectation, ExpectedPayload, RuleTest, run_tests},
    run::{Reload, Reloader, RunError, Summary, run, run_reloading},
};
