//! The worker of one destination: leases from its queue, sends, and says what became of it.
//!
//! Invariants:
//! - A message leaves its queue only when the target has confirmed it, when it has expired, or when
//!   it is safe among the dead letters.
//! - What the target could not take goes again, before anything that was queued behind it; a lost
//!   connection and a busy target are no fault of the message and are not counted against it.
//! - At most one batch is in hand, so memory is bounded by the batch and not by the queue.

mod hand;
mod link;
mod run;
mod settings;

pub use self::{
    link::{Link, LinkSender, LossReport, link},
    run::Worker,
    settings::{DeliveryObserver, Outcome, WorkerSettings, WorkerStop},
};
