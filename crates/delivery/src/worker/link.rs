//! How the workers of an adapter instance learn of its connection, and tell of its loss.

use std::{fmt, sync::Arc};

use tokio::sync::{mpsc, watch};
use transload_adapter::{AnyOutbound, BoxError};

type Current = Option<(u64, Arc<dyn AnyOutbound>)>;

/// A report that a connection is lost.
#[derive(Debug)]
pub struct LossReport {
    /// The connection that it is about; older reports are to be ignored.
    pub epoch: u64,
    /// Why it is thought to be lost.
    pub reason: BoxError,
}

/// The workers' end: waits for connections and reports losses. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    current: watch::Receiver<Current>,
    losses: mpsc::Sender<LossReport>,
}

/// The supervisor's end: announces connections and hears of losses.
pub struct LinkSender {
    current: watch::Sender<Current>,
    losses: mpsc::Receiver<LossReport>,
    epoch: u64,
}

/// Makes the two ends.
pub fn link() -> (LinkSender, Link) {
    let (announce, current) = watch::channel(None);
    // One report is enough to end a connection; more of them may be lost.
    let (report, losses) = mpsc::channel(1);
    (LinkSender { current: announce, losses, epoch: 0 }, Link { current, losses: report })
}

impl Link {
    /// Waits for a connection; `None` when the supervisor is gone. Cancel-safe.
    pub async fn connected(&mut self) -> Option<(u64, Arc<dyn AnyOutbound>)> {
        self.current.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Whether there is a connection at present.
    pub fn is_connected(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// The connection that there is now.
    pub fn current(&self) -> Option<(u64, Arc<dyn AnyOutbound>)> {
        self.current.borrow().clone()
    }

    /// Reports that a connection is lost.
    pub fn report(&self, epoch: u64, reason: BoxError) {
        // When a report waits already, the supervisor is about to reconnect.
        drop(self.losses.try_send(LossReport { epoch, reason }));
    }

    /// Waits until this connection is no longer the current one. Cancel-safe.
    pub async fn gone(&mut self, epoch: u64) {
        let is_gone = |current: &Current| current.as_ref().is_none_or(|(now, _)| *now != epoch);
        // An error means that the supervisor has ended, and the connection with it.
        drop(self.current.wait_for(is_gone).await);
    }
}

impl LinkSender {
    /// Announces a new connection.
    pub fn announce(&mut self, outbound: Arc<dyn AnyOutbound>) {
        self.epoch += 1;
        self.current.send_replace(Some((self.epoch, outbound)));
    }

    /// Takes the connection back and returns its outbound end.
    pub fn withdraw(&mut self) -> Option<Arc<dyn AnyOutbound>> {
        self.current.send_replace(None).map(|(_, outbound)| outbound)
    }

    /// Waits for a report about the current connection. Cancel-safe.
    pub async fn lost(&mut self) -> BoxError {
        while let Some(report) = self.losses.recv().await {
            if report.epoch == self.epoch {
                return report.reason;
            }
        }
        // No worker is left, so nobody can report any more.
        std::future::pending().await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSender").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
