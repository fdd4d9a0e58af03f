use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Mutex;
use transload_adapter::{
    Context,
    store::{Queue, QueueSettings, Storage, StoreError},
};
use transload_envelope::Text;
use transload_routing::Index;

use super::{session::Session, shared::Group};
use crate::{
    codec::{QoS, SubscribeOptions},
    message::Message,
    topic::Filter,
};

/// One subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) options: SubscribeOptions,
    /// The client's Subscription Identifier.
    pub(super) id: Option<u32>,
}

/// Names an entry of the index beside its filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Session(Text),
    Group(Text),
}

#[derive(Clone, Debug)]
enum Subscriber {
    Session(Arc<Session>, Subscription),
    Group(Arc<Group>),
}

/// Who is to have a message.
#[derive(Debug)]
pub(super) enum Receiver {
    /// A session, once, however many of its subscriptions match.
    Session { session: Arc<Session>, qos: QoS, retain: bool, subscription_ids: Vec<u32> },
    /// One member of a shared subscription.
    Group(Arc<Group>),
}

/// All subscriptions of a listener.
#[derive(Debug)]
pub(super) struct Subscriptions {
    index: RwLock<Index<Key, Subscriber>>,
    /// By group and filter. Locked while a group comes or goes, never while messages pass.
    groups: Mutex<HashMap<(Text, Text), Arc<Group>>>,
    queue_prefix: String,
    queue_settings: QueueSettings,
    /// How many there are, those in groups included.
    count: AtomicUsize,
}

impl Subscriptions {
    pub(super) fn new(queue_prefix: String, queue_settings: QueueSettings) -> Self {
        Self {
            index: RwLock::default(),
            groups: Mutex::default(),
            queue_prefix,
            count: AtomicUsize::new(0),
            queue_settings: QueueSettings { storage: Storage::Disk, ..queue_settings },
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The queues of all groups.
    pub(super) async fn queues(&self) -> Vec<Arc<dyn Queue>> {
        self.groups.lock().await.values().map(|group| Arc::clone(&group.queue)).collect()
    }

    /// Adds a subscription, or changes its options; tells whether it is new.
    pub(super) async fn add(
        &self,
        filter: &Filter,
        session: &Arc<Session>,
        subscription: Subscription,
        context: &Context,
    ) -> Result<bool, StoreError> {
        let new = self.insert(filter, session, subscription, context).await?;
        self.count.fetch_add(new.into(), Ordering::Relaxed);
        Ok(new)
    }

    async fn insert(
        &self,
        filter: &Filter,
        session: &Arc<Session>,
        subscription: Subscription,
        context: &Context,
    ) -> Result<bool, StoreError> {
        let Some(name) = &filter.group else {
            let key = Key::Session(session.client_id.clone());
            let subscriber = Subscriber::Session(Arc::clone(session), subscription);
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            return Ok(index.insert(&filter.pattern, key, subscriber).is_none());
        };
        let mut groups = self.groups.lock().await;
        let place = (name.clone(), Text::from(filter.pattern.as_str()));
        if let Some(group) = groups.get(&place) {
            return Ok(group.join(session, subscription));
        }
        let queue = format!("{}/shared/{}/{}", self.queue_prefix, place.0, place.1);
        let queue = context.store.queue(&queue, self.queue_settings)?;
        let group = Arc::new(Group::new(queue));
        group.join(session, subscription);
        context.tasks.spawn(Arc::clone(&group).run(context.clone()));
        let subscriber = Subscriber::Group(Arc::clone(&group));
        groups.insert(place, group);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.insert(&filter.pattern, Key::Group(name.clone()), subscriber);
        Ok(true)
    }

    /// Removes a subscription; tells whether there was one.
    pub(super) async fn remove(
        &self,
        filter: &Filter,
        session: &Arc<Session>,
        context: &Context,
    ) -> bool {
        let removed = self.take_out(filter, session, context).await;
        self.count.fetch_sub(removed.into(), Ordering::Relaxed);
        removed
    }

    async fn take_out(&self, filter: &Filter, session: &Arc<Session>, context: &Context) -> bool {
        let Some(name) = &filter.group else {
            let key = Key::Session(session.client_id.clone());
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            return index.remove(&filter.pattern, &key).is_some();
        };
        let mut groups = self.groups.lock().await;
        let place = (name.clone(), Text::from(filter.pattern.as_str()));
        let Some(group) = groups.get(&place).cloned() else { return false };
        let (was_member, empty) = group.leave(session);
        if empty {
            groups.remove(&place);
            self.index
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&filter.pattern, &Key::Group(name.clone()));
            group.ended.cancel();
            if let Err(error) = context.store.remove_queue(group.queue.name()).await {
                tracing::warn!(?group, %error, "The queue of a shared subscription stays behind.");
            }
        }
        was_member
    }

    /// A member of the group has come back and may have what waits for it.
    pub(super) async fn wake(&self, filter: &Filter) {
        let Some(name) = &filter.group else { return };
        let place = (name.clone(), Text::from(filter.pattern.as_str()));
        if let Some(group) = self.groups.lock().await.get(&place) {
            group.wake.notify_one();
        }
    }

    /// Ends the tasks of all groups.
    pub(super) async fn close(&self) {
        for group in self.groups.lock().await.values() {
            group.ended.cancel();
        }
    }

    /// Everyone who is to have the message. A session gets it once, with the highest `QoS` and the
    /// identifiers of all its subscriptions that match (MQTT 5, section 3.3.4).
    pub(super) fn receivers(&self, message: &Message, from: Option<&Session>) -> Vec<Receiver> {
        let mut sessions: Vec<(Arc<Session>, Subscription)> = Vec::new();
        let mut receivers = Vec::new();
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.matches(&message.topic, |_, subscriber| match subscriber {
            Subscriber::Group(group) => receivers.push(Receiver::Group(Arc::clone(group))),
            Subscriber::Session(session, subscription) => {
                let own = from.is_some_and(|from| std::ptr::eq(from, &raw const **session));
                if !(own && subscription.options.no_local) {
                    sessions.push((Arc::clone(session), *subscription));
                }
            }
        });
        drop(index);
        sessions.sort_unstable_by_key(|(session, _)| Arc::as_ptr(session));
        for (session, subscription) in sessions {
            let options = subscription.options;
            let granted = options.qos.min(message.qos);
            let keeps_retain = options.retain_as_published && message.retain;
            match receivers.last_mut() {
                Some(Receiver::Session { session: last, qos, retain, subscription_ids })
                    if Arc::ptr_eq(last, &session) =>
                {
                    *qos = granted.max(*qos);
                    *retain |= keeps_retain;
                    subscription_ids.extend(subscription.id);
                }
                _ => receivers.push(Receiver::Session {
                    session,
                    qos: granted,
                    retain: keeps_retain,
                    subscription_ids: subscription.id.into_iter().collect(),
                }),
            }
        }
        receivers
    }
}
