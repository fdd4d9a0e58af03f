//! Requests: messages whose sender waits for a reply.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use transload_envelope::{Envelope, MessageId, Text};

use crate::{BoxError, Event, Observer, SendError};

/// Why a request has no reply, named by what its caller is told.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The protocol says at once that nobody is there to answer (NATS no responders, an AMQP
    /// message that was returned, MQTT reason code 0x10).
    #[error("nobody is there to answer: {reason}")]
    NoResponder {
        /// What the peer said.
        reason: Text,
    },
    /// The target takes nothing at present.
    #[error("the target is busy: {reason}")]
    Busy {
        /// As asked for by the peer.
        after: Option<Duration>,
        /// What the peer said.
        reason: Text,
    },
    /// The connection is gone; the request may have arrived.
    #[error("disconnected")]
    Disconnected(#[source] BoxError),
    /// The peer could not handle the request, or the exchange broke off.
    #[error("the target failed: {reason}")]
    Failed {
        /// What the peer said.
        reason: Text,
    },
    /// This request will never be accepted.
    #[error("the target rejected the request: {reason}")]
    Rejected {
        /// What the peer said.
        reason: Text,
    },
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Busy { after, reason } => Self::Busy { after, reason },
            SendError::Disconnected(source) => Self::Disconnected(source),
            SendError::Failed { reason } => Self::Failed { reason },
            SendError::Rejected { reason } => Self::Rejected { reason },
        }
    }
}

/// Where an adapter puts the replies to one request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replies {
    sender: mpsc::Sender<Envelope>,
    deadline: Instant,
}

impl Replies {
    /// Room for so many replies, and the end at which they arrive.
    pub fn new(wanted: usize, deadline: Instant) -> (Self, mpsc::Receiver<Envelope>) {
        let (sender, received) = mpsc::channel(wanted.max(1));
        (Self { sender, deadline }, received)
    }

    /// Hands a reply over; `false` when no further one is wanted.
    #[must_use = "a reply that is not wanted any more is to be counted"]
    pub fn put(&self, reply: Envelope) -> bool {
        self.sender.try_send(reply).is_ok()
    }

    /// Until when replies are waited for.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

#[derive(Clone, Debug)]
struct Waiter {
    replies: Replies,
    nobody: Arc<Notify>,
}

/// The requests of one connection that wait for replies, for protocols in which a reply is a
/// message of its own.
///
/// A waiter is registered before its request goes out, so that no reply can come too early, and
/// its key is never used twice, so that a late reply cannot be taken for another's.
pub struct Waiters {
    waiting: Mutex<HashMap<Text, Waiter>>,
    observer: Arc<dyn Observer>,
}

impl Waiters {
    /// Nobody waits yet.
    pub fn new(observer: Arc<dyn Observer>) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), observer })
    }

    /// A text that no other request has, and that cannot be guessed: up to 36 letters, digits and
    /// dashes.
    pub fn token() -> Text {
        MessageId::generate().as_text().clone()
    }

    /// Registers who waits under this key, until what is returned is dropped.
    pub fn wait(self: &Arc<Self>, key: Text, replies: &Replies) -> Waiting {
        let nobody = Arc::new(Notify::new());
        let waiter = Waiter { replies: replies.clone(), nobody: Arc::clone(&nobody) };
        self.lock().insert(key.clone(), waiter);
        Waiting { key, nobody, waiters: Arc::clone(self) }
    }

    /// Whether somebody waits under this key.
    pub fn knows(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }

    /// Hands a reply to whoever waits under this key. One that nobody waits for is counted and
    /// dropped.
    pub fn reply(&self, key: &str, reply: Envelope) {
        let waiter = self.lock().get(key).cloned();
        if !waiter.is_some_and(|waiter| waiter.replies.put(reply)) {
            self.observer.count(Event::ReplyLate, 1);
        }
    }

    /// Tells whoever waits under this key that nobody is there to answer.
    pub fn nobody(&self, key: &str) {
        if let Some(waiter) = self.lock().get(key) {
            waiter.nobody.notify_one();
        }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Text, Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

/// One request that waits. Dropping it ends the wait.
#[derive(Debug)]
#[must_use = "dropping it ends the wait"]
pub struct Waiting {
    key: Text,
    nobody: Arc<Notify>,
    waiters: Arc<Waiters>,
}

impl Waiting {
    /// Resolves when it is told that nobody is there to answer ([`Waiters::nobody`]).
    pub async fn until_nobody(&self) {
        self.nobody.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use transload_envelope::Origin;

    use super::*;

    #[derive(Debug, Default)]
    struct Late(AtomicU64);

    impl Observer for Late {
        fn count(&self, event: Event, by: u64) {
            assert_eq!(event, Event::ReplyLate);
            self.0.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn reply(text: &'static str) -> Envelope {
        Envelope::new(Origin::new("a", "fake", "x"), text)
    }

    #[tokio::test]
    async fn a_reply_reaches_its_own_request_and_late_ones_are_counted() {
        let late = Arc::new(Late::default());
        let waiters = Waiters::new(late.clone());
        let (one, mut first) = Replies::new(1, Instant::now());
        let (other, mut second) = Replies::new(2, Instant::now());
        let waiting = waiters.wait("1".into(), &one);
        let also = waiters.wait("2".into(), &other);
        waiters.reply("2", reply("two"));
        waiters.reply("1", reply("one"));
        waiters.reply("1", reply("again"));
        waiters.reply("2", reply("second"));
        assert_eq!(late.0.load(Ordering::Relaxed), 1, "one was wanted and one is too many");
        assert_eq!(first.recv().await.unwrap().payload, "one");
        assert_eq!(second.recv().await.unwrap().payload, "two");
        assert_eq!(second.recv().await.unwrap().payload, "second");
        drop((waiting, also));
        assert!(waiters.is_empty() && !waiters.knows("1"));
        waiters.reply("1", reply("late"));
        assert_eq!(late.0.load(Ordering::Relaxed), 2);
    }
}
