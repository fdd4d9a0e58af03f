use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_envelope::Text;

use crate::{Observer, store::Store};

/// What the routes want of an adapter: the patterns of those that name it as their source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// In canonical form, with `+`, `#` and `{capture}`s as written; sorted, without repeats.
    pub patterns: Vec<Text>,
}

/// What can change while an adapter is connected. Cheap to clone; each clone sees every change.
#[derive(Clone, Debug)]
pub struct Updates(watch::Receiver<Arc<Interest>>);

/// The gateway's end of [`Updates`].
#[derive(Debug)]
pub struct UpdateSender(watch::Sender<Arc<Interest>>);

/// Makes the two ends.
pub fn updates(interest: Interest) -> (UpdateSender, Updates) {
    let (sender, receiver) = watch::channel(Arc::new(interest));
    (UpdateSender(sender), Updates(receiver))
}

impl UpdateSender {
    /// One more end that hears of every change from now on.
    pub fn subscribe(&self) -> Updates {
        Updates(self.0.subscribe())
    }

    /// Tells every connection that the configuration was read anew, and what is wanted now.
    pub fn send(&self, interest: Arc<Interest>) {
        self.0.send_replace(interest);
    }
}

impl Updates {
    /// Waits until the configuration has been read anew, and returns what the routes want since.
    /// The settings of the adapter are the same; files that they name (certificates, keys, lists of
    /// users) may have other content: they are to be read again, and what is read must not end any
    /// connection. A file that cannot be used is logged, and what was read before stays.
    ///
    /// Cancel-safe. Never resolves once the instance is about to end.
    pub async fn changed(&mut self) -> Arc<Interest> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }

    /// What the routes want at present.
    pub fn interest(&self) -> Arc<Interest> {
        self.0.borrow().clone()
    }
}

impl Default for Updates {
    /// Updates that never come, for tests.
    fn default() -> Self {
        updates(Interest::default()).1
    }
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
    /// The patterns of the routes from this adapter, when the connection is made.
    pub interest: Arc<Interest>,
    /// Tells when the configuration was read anew and this connection stays.
    pub updates: Updates,
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
