//! Core subscriptions.
//!
//! A task reads them all the time, whatever the gateway does, so that the only bound at which a
//! message can be dropped is the adapter's own, where each one is counted.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll},
};

use async_nats::{Message, Subscriber};
use futures_util::{Stream, StreamExt, stream::SelectAll};
use tokio::sync::mpsc;
use transload_adapter::{ConnectError, Context, Tag, detached};
use transload_envelope::{Envelope, Origin, Text, Timestamp};

use super::{Arrival, REPLY_ATTRIBUTE, Shared};
use crate::{
    config::NatsConfig,
    mapping::{self, AddressMapping, covers, is_internal, pattern_filters},
};

/// The tag of all core messages: nothing is to be done when they are settled.
pub(super) const CORE: Tag = Tag(0);

/// A subscription that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    subject: String,
    queue_group: Option<String>,
}

/// The subscriptions that the settings name, or else those that the routes' patterns ask for,
/// without any that another one covers.
pub(super) fn wanted(config: &NatsConfig, context: &Context) -> Vec<Wanted> {
    let group = |own: Option<&str>| own.or(config.queue_group.as_deref()).map(str::to_owned);
    let all: Vec<_> = match &config.subscribe {
        Some(subscriptions) => subscriptions
            .iter()
            .map(|one| Wanted {
                subject: one.subject().to_owned(),
                queue_group: group(one.queue_group()),
            })
            .collect(),
        None if !config.consume.is_empty() => Vec::new(),
        None => context
            .interest
            .patterns
            .iter()
            // A pattern that no subject can match was reported when the file was checked.
            .filter_map(|pattern| pattern_filters(config.address_mapping, pattern).ok())
            .flatten()
            .map(|subject| Wanted { subject, queue_group: group(None) })
            .collect(),
    };
    let mut kept: Vec<Wanted> = Vec::with_capacity(all.len());
    for one in all {
        let covered_by = |other: &Wanted| {
            other.queue_group == one.queue_group && covers(&other.subject, &one.subject)
        };
        if !kept.iter().any(covered_by) {
            kept.retain(|other| {
                other.queue_group != one.queue_group || !covers(&one.subject, &other.subject)
            });
            kept.push(one);
        }
    }
    kept
}

/// Reads all core subscriptions of one connection.
pub(super) struct Pump {
    subscriptions: Vec<Wanted>,
    messages: SelectAll<Numbered>,
}

struct Numbered {
    number: usize,
    subscriber: Subscriber,
}

impl Stream for Numbered {
    type Item = (usize, Message);

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let number = self.number;
        self.subscriber.poll_next_unpin(task).map(|one| one.map(|message| (number, message)))
    }
}

impl Pump {
    /// Subscribes.
    pub(super) async fn new(
        shared: &Shared,
        subscriptions: Vec<Wanted>,
    ) -> Result<Self, ConnectError> {
        let mut messages = SelectAll::new();
        for (number, wanted) in subscriptions.iter().enumerate() {
            let client = &shared.client;
            let subject = wanted.subject.clone();
            let subscriber = match wanted.queue_group.clone() {
                Some(group) => client.queue_subscribe(subject, group).await,
                None => client.subscribe(subject).await,
            };
            let subscriber = subscriber.map_err(|error| ConnectError::Refused {
                reason: format!("cannot subscribe to {}: {error}", wanted.subject).into(),
            })?;
            messages.push(Numbered { number, subscriber });
        }
        Ok(Self { subscriptions, messages })
    }

    /// Reads until the adapter is to stop or the connection is lost.
    pub(super) async fn run(
        mut self,
        shared: Shared,
        queue: mpsc::Sender<Arrival>,
        waiting: Arc<AtomicUsize>,
    ) {
        if self.subscriptions.is_empty() {
            return;
        }
        let mut stopping = false;
        loop {
            tokio::select! {
                next = self.messages.next() => match next {
                    Some((number, message)) => {
                        self.take(number, message, &shared, &queue, &waiting);
                    }
                    None => break,
                },
                () = shared.context.stop.cancelled(), if !stopping => {
                    stopping = true;
                    // What the server has sent already still comes before the subscriptions end.
                    for one in &mut self.messages {
                        if one.subscriber.drain().await.is_err() {
                            return;
                        }
                    }
                }
                () = queue.closed() => return,
            }
        }
        if !stopping {
            shared.link.lose("the client has ended the subscriptions");
        }
    }

    fn take(
        &self,
        number: usize,
        message: Message,
        shared: &Shared,
        queue: &mpsc::Sender<Arrival>,
        waiting: &AtomicUsize,
    ) {
        if is_internal(&message.subject, shared.config.inbox_prefix.as_deref())
            || self.comes_twice(number, &message.subject)
        {
            return;
        }
        let name = &shared.context.name;
        let mapping = shared.config.address_mapping;
        let envelope = envelope(name, mapping, message, Timestamp::now());
        let size = envelope.size();
        let before = waiting.fetch_add(size, Ordering::Relaxed);
        let fits = before.saturating_add(size) <= shared.config.buffer_bytes.as_usize();
        if !fits || queue.try_send(Arrival { tag: CORE, envelope, _room: None }).is_err() {
            waiting.fetch_sub(size, Ordering::Relaxed);
            shared.link.count_dropped(1);
        }
    }

    /// Whether another subscription gets its own copy of the message, and is the one to keep it.
    ///
    /// Within one queue group the server itself delivers one copy, and different groups are
    /// different receivers by intention.
    fn comes_twice(&self, number: usize, subject: &str) -> bool {
        let alone = |wanted: &Wanted| wanted.queue_group.is_none();
        self.subscriptions.get(number).is_some_and(alone)
            && self
                .subscriptions
                .iter()
                .take(number)
                .any(|other| alone(other) && mapping::matches(&other.subject, subject))
    }
}

/// Takes a message that has left the queue out of the count of bytes.
pub(super) fn left(waiting: &AtomicUsize, arrival: &Arrival) {
    waiting.fetch_sub(arrival.envelope.size(), Ordering::Relaxed);
}

/// The envelope of a core message that came in by the adapter of this name.
pub(crate) fn envelope(
    adapter: &Text,
    mapping: AddressMapping,
    message: Message,
    now: Timestamp,
) -> Envelope {
    let mut incoming = mapping::incoming(message.headers.as_ref(), now);
    if let Some(reply) = &message.reply {
        incoming.properties.reply_to = mapping::reply_address(mapping, reply);
    }
    let mut origin = Origin::new(adapter.clone(), "nats", mapping.address(&message.subject))
        .with("subject", Text::from(message.subject.as_str()));
    if let Some(reply) = message.reply.as_ref().filter(|_| incoming.properties.reply_to.is_some()) {
        origin = origin.with(REPLY_ATTRIBUTE, Text::from(reply.as_str()));
    }
    let mut envelope = Envelope::identified(incoming.id, origin, detached(message.payload))
        .with_properties(incoming.properties);
    envelope.headers = incoming.headers;
    envelope.hops = incoming.hops;
    envelope
}
