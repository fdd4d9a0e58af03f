//! What waits in the adapter to be received.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the messages of one source that have come in and were not received yet. One task at most
/// waits for room.
#[derive(Debug, Default)]
pub(super) struct Room {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// Whether somebody waits.
    is_wanted: AtomicBool,
    left: Notify,
}

impl Room {
    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A message of so many bytes has come in.
    pub(super) fn enter(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It was received.
    pub(super) fn leave(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.messages.fetch_sub(1, Ordering::SeqCst);
        if self.is_wanted.load(Ordering::SeqCst) {
            self.left.notify_one();
        }
    }

    /// Waits until no more wait than so many messages and bytes. Cancel-safe.
    pub(super) async fn until(&self, messages_max: usize, bytes_max: usize) {
        self.is_wanted.store(true, Ordering::SeqCst);
        while self.messages.load(Ordering::SeqCst) > messages_max || self.bytes() > bytes_max {
            self.left.notified().await;
        }
        self.is_wanted.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_there_when_enough_has_left() {
        let room = Room::default();
        for bytes in [10, 0, 5] {
            room.enter(bytes);
        }
        let soon = |messages, bytes| timeout(Duration::from_millis(1), room.until(messages, bytes));
        assert!(soon(3, 15).await.is_ok());
        assert!(soon(2, 15).await.is_err());
        room.leave(0);
        assert!(soon(2, 14).await.is_err());
        let leaving = async {
            tokio::task::yield_now().await;
            room.leave(10);
        };
        let waiting = timeout(Duration::from_secs(1), room.until(1, 5));
        let (waited, ()) = tokio::join!(biased; waiting, leaving);
        assert!(waited.is_ok());
    }
}
