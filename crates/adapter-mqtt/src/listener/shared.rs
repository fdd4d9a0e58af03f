use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Event, Observer,
    store::{Leased, Queue},
};
use transload_envelope::Timestamp;

use super::{
    session::{Lease, Offer, Queued, Session},
    stored,
    subscriptions::Subscription,
};
use crate::message::Message;

/// How many messages of a shared subscription may wait in one member's outbox, so that a slow
/// member does not sit on what another could have.
const MEMBER_WAITING_MAX: usize = 32;
/// How many messages, and bytes, are taken from the queue at a time.
const LEASE_MESSAGES: usize = 32;
const LEASE_BYTES: usize = 1 << 20;

/// A shared subscription (MQTT 5, section 4.8.2).
///
/// Messages of `QoS` 1 and 2 wait in one queue of the group, and are given in turn to the members
/// that are connected and have room. What a member has not acknowledged when it goes away goes
/// back to the queue, and so to another member.
pub(super) struct Group {
    pub(super) queue: Arc<dyn Queue>,
    /// A member came, or has room again.
    pub(super) wake: Notify,
    pub(super) ended: CancellationToken,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    list: Vec<Member>,
    next: usize,
}

#[derive(Clone)]
struct Member {
    session: Arc<Session>,
    subscription: Subscription,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.queue.name())
    }
}

impl Group {
    pub(super) fn new(queue: Arc<dyn Queue>) -> Self {
        Self {
            queue,
            wake: Notify::new(),
            ended: CancellationToken::new(),
            members: Mutex::new(Members::default()),
        }
    }

    /// Adds or changes a member; tells whether it is new.
    pub(super) fn join(&self, session: &Arc<Session>, subscription: Subscription) -> bool {
        let mut members = self.members();
        let known = members.list.iter_mut().find(|member| Arc::ptr_eq(&member.session, session));
        let new = known.is_none();
        match known {
            Some(member) => member.subscription = subscription,
            None => members.list.push(Member { session: Arc::clone(session), subscription }),
        }
        drop(members);
        self.wake.notify_one();
        new
    }

    /// Removes a member; tells whether it was one, and whether nobody is left.
    pub(super) fn leave(&self, session: &Arc<Session>) -> (bool, bool) {
        let mut members = self.members();
        let before = members.list.len();
        members.list.retain(|member| !Arc::ptr_eq(&member.session, session));
        (members.list.len() < before, members.list.is_empty())
    }

    /// Gives a message of `QoS` 0 to the next member that takes it.
    pub(super) fn offer(&self, message: &Arc<Message>) -> Offer {
        let mut result = Offer::Away;
        for member in self.in_turn() {
            match member.session.offer(member.queued(message, None)) {
                Offer::Taken => return Offer::Taken,
                Offer::Full => result = Offer::Full,
                Offer::Away => {}
            }
        }
        result
    }

    /// Hands the queue's messages to members until the group ends.
    pub(super) async fn run(self: Arc<Self>, observer: Arc<dyn Observer>) {
        loop {
            let leased = tokio::select! {
                () = self.ended.cancelled() => return,
                leased = self.queue.lease(LEASE_MESSAGES, LEASE_BYTES) => leased,
            };
            let leased = match leased {
                Ok(leased) => leased,
                Err(error) => {
                    tracing::warn!(group = ?self, %error, "A shared subscription has stopped.");
                    return;
                }
            };
            for leased in leased {
                if !self.assign(leased, &*observer).await {
                    return;
                }
            }
        }
    }

    /// Waits for a member with room; false when the group has ended.
    async fn assign(self: &Arc<Self>, leased: Leased, observer: &dyn Observer) -> bool {
        let position = leased.position;
        let lease =
            Lease { queue: Arc::clone(&self.queue), position, group: Some(Arc::clone(self)) };
        let Some(message) = stored::message(&leased.outgoing) else {
            observer.count(Event::MessageDropped, 1);
            lease.done();
            return true;
        };
        let message = Arc::new(message);
        loop {
            if message.expired(Timestamp::now()) {
                observer.count(Event::MessageExpired, 1);
                lease.done();
                return true;
            }
            if self.give(&message, &lease) {
                return true;
            }
            tokio::select! {
                () = self.ended.cancelled() => return false,
                () = self.wake.notified() => {}
            }
        }
    }

    fn give(&self, message: &Arc<Message>, lease: &Lease) -> bool {
        self.in_turn().iter().any(|member| {
            member.session.waiting().is_some_and(|waiting| waiting < MEMBER_WAITING_MAX)
                && member.session.offer(member.queued(message, Some(lease.clone()))) == Offer::Taken
        })
    }

    /// The members, each time beginning with another.
    fn in_turn(&self) -> Vec<Member> {
        let mut members = self.members();
        let count = members.list.len();
        if count == 0 {
            return Vec::new();
        }
        members.next = (members.next + 1) % count;
        members.list.iter().cycle().skip(members.next).take(count).cloned().collect()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn queued(&self, message: &Arc<Message>, lease: Option<Lease>) -> Queued {
        let options = self.subscription.options;
        Queued {
            message: Arc::clone(message),
            qos: options.qos.min(message.qos),
            retain: options.retain_as_published && message.retain,
            subscription_ids: self.subscription.id.into_iter().collect(),
            lease,
        }
    }
}
