use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::Notify;
use transload_adapter::store::{Position, Queue, Resolution};
use transload_envelope::Text;

use super::{
    budget::Budget,
    pace::{Bound, Pace},
    shared::Group,
};
use crate::{codec::QoS, message::Message};

/// A message on its way to one session.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) message: Arc<Message>,
    /// The smaller of the publisher's and the subscription's.
    pub(super) qos: QoS,
    /// The flag that the subscriber is to see.
    pub(super) retain: bool,
    /// Of all subscriptions that matched and have one.
    pub(super) subscription_ids: Vec<u32>,
    /// Where the message waits until the client has acknowledged it.
    pub(super) lease: Option<Lease>,
}

impl Queued {
    /// Its place in the session's own queue, where it came from there.
    pub(super) fn own_position(&self) -> Option<Position> {
        self.lease.as_ref().filter(|lease| lease.group.is_none()).map(|lease| lease.position)
    }
}

/// The place of a message in the queue that it came from.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) position: Position,
    /// The shared subscription whose queue it is.
    pub(super) group: Option<Arc<Group>>,
}

impl Lease {
    /// The client has it, or it is to be dropped.
    pub(super) fn done(&self) {
        self.queue.resolve(&[self.position], Resolution::Done);
    }

    /// Somebody else is to have it.
    pub(super) fn release(&self) {
        self.queue.resolve(&[self.position], Resolution::Released);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.queue.name(), self.position.0)
    }
}

/// What became of a message that was offered to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Taken,
    /// As much waits as may.
    Full,
    /// Nobody is connected.
    Away,
}

/// What publishers see of a session.
///
/// Messages that need not outlive the connection wait in its outbox, in memory; those of `QoS` 1
/// and 2 for a session that outlives its connection wait in its queue of the store.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: Text,
    /// Whose it is; nobody's until somebody has proved who they are.
    user: OnceLock<Text>,
    /// Of a session that outlives its connections.
    pub(super) queue: Option<Arc<dyn Queue>>,
    /// Something is in the outbox.
    pub(super) wake: Notify,
    /// Whether publishers are to wait until less is in the outbox.
    pub(super) pace: Pace,
    bound: Bound,
    /// Shared by all sessions.
    budget: Arc<Budget>,
    outbox: Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Outbox {
    connected: bool,
    bytes: usize,
    waiting: VecDeque<Queued>,
    /// Whether the outbox has been full since it was last empty: for one log line each time.
    overflowed: bool,
    /// Whether much has waited since only little did.
    behind: bool,
}

impl Session {
    pub(super) fn new(
        client_id: Text,
        user: Option<Text>,
        queue: Option<Arc<dyn Queue>>,
        bound: Bound,
        budget: Arc<Budget>,
    ) -> Self {
        let user = user.map_or_else(OnceLock::new, OnceLock::from);
        let outbox = Mutex::new(Outbox::default());
        let (wake, pace) = (Notify::new(), Pace::default());
        Self { client_id, user, queue, wake, pace, bound, budget, outbox }
    }

    /// Whose it is.
    pub(super) fn user(&self) -> Option<&Text> {
        self.user.get()
    }

    /// Whether this user, or somebody who is none, may have the session of this name.
    pub(super) fn may_be_taken_by(&self, user: Option<&Text>) -> bool {
        self.user().is_none_or(|owner| Some(owner) == user)
    }

    /// The session is this user's from now on, unless it is somebody's already.
    pub(super) fn belongs_to(&self, user: &Text) {
        self.user.get_or_init(|| user.clone());
    }

    /// Puts a message into the outbox.
    pub(super) fn offer(&self, queued: Queued) -> Offer {
        let mut outbox = self.outbox();
        if !outbox.connected {
            return Offer::Away;
        }
        let bytes = queued.message.size();
        if !self.bound.has_room(outbox.waiting.len(), outbox.bytes, bytes)
            || !self.budget.has_room()
        {
            if !std::mem::replace(&mut outbox.overflowed, true) {
                tracing::warn!(
                    client_id = %self.client_id,
                    waiting = outbox.waiting.len(),
                    "A client reads too slowly: messages for it are dropped and counted."
                );
            }
            return Offer::Full;
        }
        outbox.bytes += bytes;
        self.budget.add(bytes);
        outbox.waiting.push_back(queued);
        if !outbox.behind && self.bound.is_much(outbox.waiting.len(), outbox.bytes) {
            outbox.behind = true;
            self.pace.hold();
        }
        drop(outbox);
        self.wake.notify_one();
        Offer::Taken
    }

    /// Puts retained messages into the outbox. They do not count against its bound, since the
    /// store of retained messages has one and shares them.
    pub(super) fn offer_retained(&self, messages: impl Iterator<Item = Queued>) {
        let mut outbox = self.outbox();
        for queued in messages {
            outbox.bytes += queued.message.size();
            self.budget.add(queued.message.size());
            outbox.waiting.push_back(queued);
        }
        drop(outbox);
        self.wake.notify_one();
    }

    /// Takes the next message, only one of `QoS` 0 when the client's window is full.
    pub(super) fn take(&self, window_open: bool) -> Option<Queued> {
        let mut outbox = self.outbox();
        if !window_open && outbox.waiting.front()?.qos != QoS::AtMostOnce {
            return None;
        }
        let queued = outbox.waiting.pop_front()?;
        outbox.bytes = outbox.bytes.saturating_sub(queued.message.size());
        self.budget.remove(queued.message.size());
        if outbox.behind && self.bound.is_little(outbox.waiting.len(), outbox.bytes) {
            outbox.behind = false;
            self.pace.release();
        }
        if outbox.waiting.is_empty() {
            outbox.overflowed = false;
            if outbox.waiting.capacity() > 64 {
                outbox.waiting = VecDeque::new();
            }
        }
        drop(outbox);
        if let Some(group) = queued.lease.as_ref().and_then(|lease| lease.group.as_ref()) {
            group.wake.notify_one();
        }
        Some(queued)
    }

    /// How many messages wait in the outbox; `None` when nobody is connected.
    pub(super) fn waiting(&self) -> Option<usize> {
        let outbox = self.outbox();
        outbox.connected.then(|| outbox.waiting.len())
    }

    /// From now on the outbox takes messages.
    pub(super) fn connected(&self) {
        self.outbox().connected = true;
    }

    /// From now on it takes none; returns what waited.
    pub(super) fn disconnected(&self) -> VecDeque<Queued> {
        let mut outbox = self.outbox();
        outbox.connected = false;
        self.budget.remove(std::mem::take(&mut outbox.bytes));
        outbox.behind = false;
        self.pace.release();
        std::mem::take(&mut outbox.waiting)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
