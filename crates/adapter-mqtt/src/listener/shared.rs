use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Context, Event,
    store::{Leased, Queue, QueueId},
};
use transload_envelope::Timestamp;

use super::{
    broker,
    session::{Lease, Offer, Queued, Session},
    stored,
    subscriptions::Subscription,
};
use crate::{codec::QoS, message::Message};

/// How many messages of a shared subscription may wait in one member's outbox, so that a slow
/// member does not sit on what another could have.
const MEMBER_WAITING_MAX: usize = 32;
/// How many messages, and bytes, are taken from the queue at a time.
const LEASE_MESSAGES: usize = 32;
const LEASE_BYTES: usize = 1 << 20;

/// How long a message waits before members are looked at again.
const MEMBER_PAUSE: Duration = Duration::from_millis(100);

/// What became of a message of a group.
enum Given {
    Taken,
    /// It is to go into a member's own queue.
    Moves(QueueId, Queued),
    /// Nobody has room.
    Nobody,
    /// Nobody has room, and a member's own queue does not tell when it has.
    Later,
}

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
    pub(super) async fn run(self: Arc<Self>, context: Context) {
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
                if !self.assign(leased, &context).await {
                    return;
                }
            }
        }
    }

    /// Waits for a member with room; false when the group has ended.
    async fn assign(self: &Arc<Self>, leased: Leased, context: &Context) -> bool {
        let observer = &context.observer;
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
            let mut pause = Some(MEMBER_PAUSE);
            match self.give(&message, &lease) {
                Given::Taken => return true,
                Given::Moves(queue, queued) => {
                    let verbatim = stored::is_verbatim(&leased.outgoing);
                    let Queued { qos, retain, subscription_ids, .. } = &queued;
                    let arguments =
                        stored::arguments(&message, *qos, *retain, subscription_ids, verbatim);
                    let envelope = leased.outgoing.envelope.clone();
                    let append = broker::append(envelope, vec![(queue, arguments)]);
                    if let Err(error) = context.store.append_durably(vec![append]).await {
                        tracing::warn!(group = ?self, %error, "A message waits until it can be stored.");
                    } else {
                        lease.done();
                        return true;
                    }
                }
                Given::Nobody => pause = None,
                Given::Later => {}
            }
            tokio::select! {
                () = self.ended.cancelled() => return false,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)) => {}
            }
        }
    }

    fn give(&self, message: &Arc<Message>, lease: &Lease) -> Given {
        let mut given = Given::Nobody;
        for member in self.in_turn() {
            let room = |waiting: usize| waiting < MEMBER_WAITING_MAX;
            if !member.session.waiting().is_some_and(room) {
                continue;
            }
            let queued = member.queued(message, Some(lease.clone()));
            match member.session.queue.as_ref().filter(|_| queued.qos == QoS::ExactlyOnce) {
                // Once it is sent nobody else may have it [MQTT-4.8.2-6], also after a restart: so
                // it becomes the member's own.
                Some(queue) if queue.depth().messages < MEMBER_WAITING_MAX as u64 => {
                    return Given::Moves(queue.id(), queued);
                }
                Some(_) => given = Given::Later,
                None if member.session.offer(queued) == Offer::Taken => return Given::Taken,
                None => {}
            }
        }
        given
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
