//! The fault harness: whatever is killed, frozen or cut, each acknowledged message arrives.
//!
//! Producers number their messages and count one as acknowledged only when the protocol's own
//! acknowledgement has come; what was not acknowledged they send again, under the same id.
//! Consumers record all that arrives. Meanwhile a schedule made from a seed kills and freezes the
//! gateway and the brokers, and cuts, delays and half-opens the connections between them. At the
//! end the two sides are compared.
//!
//! Invariants:
//! - The clients are written here from the protocols' specifications, and share no code and no
//!   library with the gateway, so that no fault of a library is on both sides of the comparison.
//! - Producers and consumers keep their books in memory of this process, which nobody kills.
//! - Nothing is forgiven silently: what a broker itself repeats, what was refused and what a
//!   producer sent again is counted on its own and shown.

pub(crate) mod amqp;
pub(crate) mod amqp_wire;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod mqtt;
pub(crate) mod mqtt_wire;
pub(crate) mod nats;
pub(crate) mod nats_wire;
mod plan;
pub(crate) mod produce;
mod report;
mod rig;
mod run;
mod schedule;
pub(crate) mod settings;
mod stamp;

pub use self::{
    ledger::{Arrival, Ledger, Tally, TargetTally},
    plan::{Path, Plan},
    report::Report,
    run::run,
    schedule::{Fault, Link, Place, Schedule},
    stamp::Stamp,
};
