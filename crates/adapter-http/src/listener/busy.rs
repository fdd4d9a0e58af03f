//! Whether anything is under way on a connection.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// Counts the requests of one connection that are under way.
#[derive(Clone, Debug)]
pub(super) struct Busy(Arc<watch::Sender<Count>>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    now: usize,
    ever: u64,
}

/// A request that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Busy);

impl Busy {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Count::default())))
    }

    /// Notes that a request begins.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.send_modify(|count| {
            count.now += 1;
            count.ever += 1;
        });
        UnderWay(self.clone())
    }

    /// Whether there was any request.
    pub(super) fn was_used(&self) -> bool {
        self.0.borrow().ever > 0
    }

    /// Resolves when nothing has been under way for so long.
    pub(super) async fn idle(&self, for_so_long: Duration) {
        let mut count = self.0.subscribe();
        loop {
            let idle = count.borrow_and_update().now == 0;
            // The sender lives as long as this.
            if !idle {
                drop(count.changed().await);
            } else if timeout(for_so_long, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.now -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_request_starts_the_time_anew() {
        let (busy, start) = (Busy::new(), Instant::now());
        let second = Duration::from_secs(1);
        let requests = async {
            tokio::time::sleep(second / 2).await;
            drop(busy.begin());
            tokio::time::sleep(second / 2).await;
            let long = busy.begin();
            tokio::time::sleep(5 * second).await;
            drop(long);
        };
        tokio::join!(requests, busy.idle(second));
        assert_eq!(start.elapsed(), 7 * second);
        assert!(busy.was_used());
    }
}
