//! The benchmark: the same messages through Transload and through what people would use instead,
//! between the same brokers, in the same minute. See `docs/PERFORMANCE.md`.
//!
//! Invariants:
//! - Load and record are this process's own clients, the same for every candidate.
//! - A message is timed from when it was due, not from when a busy sender got round to it, so that
//!   a stall is seen in the latencies of all that waited for it (coordinated omission).
//! - A candidate's processor time is read from the kernel's books, for its processes only.
//! - What is lost, repeated or out of order is counted, and shown beside the speed.

mod candidate;
mod load;
mod message;
mod path;
mod record;
mod report;
mod run;
mod servers;
mod usage;

pub use self::{
    candidate::{Candidate, Guarantee, Tuning},
    path::{End, Path},
    report::{Environment, Report},
    run::{Plan, Run, run},
};
