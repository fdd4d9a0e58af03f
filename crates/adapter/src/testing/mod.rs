//! What tests of other crates need of the contract: a scripted fake adapter, and the conformance
//! suite that every adapter passes.
//!
//! Everything here panics instead of returning errors, and every wait has a deadline with a
//! message that says what was waited for.

pub mod conformance;
mod deadline;
mod fake;
mod no_store;
mod script;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    deadline::{PATIENCE, within},
    fake::{Fake, FakeConfig, FakeTarget},
    no_store::NoStore,
    script::{ConnectFault, Fed, Reaction, Script, SentMessage},
};
use crate::{Context, Interest, NoObserver, Updates};

/// A context for an adapter under test: no queues, no observer, `credits` unsettled deliveries.
pub fn context(name: &str, credits: usize) -> Context {
    Context {
        name: name.into(),
        credits: Arc::new(Semaphore::new(credits)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        interest: Arc::new(Interest::default()),
        updates: Updates::default(),
        store: Arc::new(NoStore),
        observer: Arc::new(NoObserver),
    }
}
