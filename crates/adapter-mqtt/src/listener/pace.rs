//! Lets publishers wait for a subscriber that has fallen behind, instead of queueing far ahead of it.
//!
//! Invariants:
//! - Nobody waits longer for one subscriber than it was told to, and when one has waited so long,
//!   nobody waits for that subscriber again until it has caught up.
//! - Nothing is taken back: who waits holds back its next message, not the one that it has given.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// How much waits, at most, before a subscriber counts as behind, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// How much may wait in an outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
}

impl Bound {
    /// Whether there is room for so many bytes more.
    pub(super) fn has_room(self, messages: usize, bytes: usize, more: usize) -> bool {
        messages < self.messages_max && bytes.saturating_add(more) <= self.bytes_max
    }

    /// Whether so much is half of what may wait, or much in itself.
    pub(super) fn is_much(self, messages: usize, bytes: usize) -> bool {
        messages > self.messages_max / 2 || bytes > self.bytes_behind()
    }

    /// Whether so much is half of that again, so that waiting does not begin and end with each
    /// message.
    pub(super) fn is_little(self, messages: usize, bytes: usize) -> bool {
        messages <= self.messages_max / 4 && bytes <= self.bytes_behind() / 2
    }

    fn bytes_behind(self) -> usize {
        (self.bytes_max / 2).min(BYTES_MAX)
    }
}

/// Whether publishers are to wait for one subscriber.
#[derive(Debug, Default)]
pub(super) struct Pace {
    holds: AtomicBool,
    released: Notify,
}

impl Pace {
    /// Publishers are to wait from now on.
    pub(super) fn hold(&self) {
        self.holds.store(true, Ordering::SeqCst);
    }

    /// Nobody is to wait any more.
    pub(super) fn release(&self) {
        if self.holds.swap(false, Ordering::SeqCst) {
            self.released.notify_waiters();
        }
    }

    /// Whether publishers are to wait.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// Resolves when nobody is to wait any more, which is after this time at the latest.
    pub(super) async fn wait(&self, most: Duration) {
        let mut released = pin!(self.released.notified());
        released.as_mut().enable();
        if self.holds.load(Ordering::SeqCst) && timeout(most, released).await.is_err() {
            self.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn what_is_much_and_what_is_little() {
        let bound = Bound { messages_max: 100, bytes_max: 1000 };
        assert!(bound.has_room(99, 900, 100));
        assert!(!bound.has_room(100, 0, 0) && !bound.has_room(0, 901, 100));
        assert!(bound.is_much(51, 0) && bound.is_much(0, 501) && !bound.is_much(50, 500));
        assert!(bound.is_little(25, 250) && !bound.is_little(26, 0) && !bound.is_little(0, 251));
        let bound = Bound { messages_max: 100, bytes_max: usize::MAX };
        assert!(bound.is_much(0, BYTES_MAX + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_release_or_with_its_time_and_then_for_all() {
        let (pace, start) = (Pace::default(), Instant::now());
        let second = Duration::from_secs(1);
        pace.wait(second).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing to wait for");
        pace.hold();
        let release = async {
            tokio::time::sleep(second / 4).await;
            pace.release();
        };
        tokio::join!(pace.wait(second), release);
        assert_eq!(start.elapsed(), second / 4);
        pace.hold();
        let late = async {
            tokio::time::sleep(second / 2).await;
            pace.wait(second).await;
        };
        tokio::join!(pace.wait(second), late);
        assert_eq!(start.elapsed(), second / 4 + second);
        assert!(!pace.holds());
    }
}
