//! Whether the connection is lost, known to everybody who uses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use transload_adapter::BoxError;

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Loss(pub(super) String);

/// The state of the connections of one instance: when one is lost, all are made anew.
#[derive(Debug, Default)]
pub(super) struct Link {
    lost: CancellationToken,
    reason: Mutex<Option<String>>,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Declares the connection lost. The first reason counts.
    pub(super) fn lose(&self, reason: impl Into<String>) {
        self.lock().get_or_insert_with(|| reason.into());
        self.lost.cancel();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Resolves when the connection is lost. Cancel-safe.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Why the connection was lost.
    pub(super) fn reason(&self) -> BoxError {
        let reason = self.lock().clone();
        Box::new(Loss(reason.unwrap_or_else(|| "the connection to the broker is lost".to_owned())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
