use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long something may take: until a time, and not when the gateway is told to stop.
#[derive(Clone, Debug)]
pub(super) struct Until {
    at: Instant,
    stop: CancellationToken,
}

impl Until {
    pub(super) fn new(time: Duration, stop: CancellationToken) -> Self {
        Self { at: Instant::now() + time, stop }
    }

    /// Waits for something; `None` when it did not come in time.
    pub(super) async fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            result = what => Some(result),
            () = self.stop.cancelled() => None,
            () = sleep_until(self.at) => None,
        }
    }

    /// Whether the gateway was told to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}
