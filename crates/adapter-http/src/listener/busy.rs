//! Whether anything is under way on a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// Counts the requests of one connection that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<State>);

#[derive(Debug, Default)]
struct State {
    now: AtomicUsize,
    ever: AtomicBool,
    /// Whether anybody has waited: with HTTP/1.1 nobody does.
    watched: AtomicBool,
    /// Told of each begin and end, to those that wait at that moment.
    changed: Notify,
}

impl State {
    /// Tells of a change whoever may wait.
    fn tell(&self) {
        if self.watched.load(Ordering::SeqCst) {
            self.changed.notify_waiters();
        }
    }
}

/// A request that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Busy);

impl Busy {
    /// Notes that a request begins.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.now.fetch_add(1, Ordering::SeqCst);
        self.0.ever.store(true, Ordering::SeqCst);
        self.0.tell();
        UnderWay(self.clone())
    }

    /// Whether there was any request.
    pub(super) fn was_used(&self) -> bool {
        self.0.ever.load(Ordering::SeqCst)
    }

    /// Resolves when nothing has been under way for so long.
    pub(super) async fn idle(&self, for_so_long: Duration) {
        self.0.watched.store(true, Ordering::SeqCst);
        loop {
            let changed = self.0.changed.notified();
            if self.0.now.load(Ordering::SeqCst) > 0 {
                changed.await;
            } else if timeout(for_so_long, changed).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.0.tell();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_request_starts_the_time_anew() {
        let (busy, start) = (Busy::default(), Instant::now());
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
