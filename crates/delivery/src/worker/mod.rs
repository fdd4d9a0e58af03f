//! The worker of one destination: leases from its queue, sends, and says what became of it.
//!
//! Invariants:
//! - A message leaves its queue only when the target has confirmed it, when it has expired, or when
//!   it is safe among the dead letters.
//! - What the target could not take goes again, before anything that was queued behind it; a lost
//!   connection and a busy target are no fault of the message and are not counted against it.
//! - At most one batch is in hand, or with lanes a bounded window, so memory is bounded by that and
//!   not by the queue.

mod burial;
mod circuit;
mod combine;
mod hand;
mod lanes;
mod link;
mod run;
mod settings;

pub use self::{
    circuit::{Circuit, CircuitView, OpenCircuit},
    link::{Link, LinkSender, LossReport, link},
    run::Worker,
    settings::{
        BatchFormat, BatchSettings, DeliveryObserver, LaneSettings, Outcome, Sending,
        WorkerSettings, WorkerStop,
    },
};

/// The argument under which the key of a message travels with it, by which its order is kept.
pub const ORDERED_BY: &str = "ordered_by";
