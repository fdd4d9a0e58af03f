use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_envelope::Text;

use crate::{Observer, store::Store};

/// What the routes want of an adapter: the patterns of those that name it as their source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// In canonical form, with `+`, `#` and `{capture}`s as written; sorted, without repeats.
    pub patterns: Vec<Text>,
}

/// What the gateway hands to an adapter, and all that it may use.
#[derive(Clone, Debug)]
pub struct Context {
    /// The instance's name in `adapters.toml`.
    pub name: Text,
    /// One permit for each delivery that may be unsettled: the bound on what is in flight between
    /// this source and the gateway. Shared by all connections of the instance.
    pub credits: Arc<Semaphore>,
    /// Fires when the adapter is to take in nothing new. What it has handed over is still settled,
    /// and `send` still works until the endpoints are dropped.
    pub stop: CancellationToken,
    /// All tasks of the adapter are spawned here, and end when the endpoints are dropped or `stop`
    /// has fired and what was in flight is settled.
    pub tasks: TaskTracker,
    /// The patterns of the routes from this adapter.
    pub interest: Arc<Interest>,
    /// Queues and small durable tables.
    pub store: Arc<dyn Store>,
    /// Counts what happens inside the adapter.
    pub observer: Arc<dyn Observer>,
}

impl Context {
    /// Waits for a credit; `None` when the adapter is to stop.
    ///
    /// Cancel-safe: a dropped wait takes no credit.
    pub async fn credit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            credit = Arc::clone(&self.credits).acquire_owned() => credit.ok(),
        }
    }

    /// Takes a credit if one is free.
    pub fn try_credit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.credits).try_acquire_owned().ok()
    }
}
