//! Core subscriptions.
//!
//! The connection's task hands over what comes in at once, whatever the gateway does, so that the
//! only bound at which a message can be dropped is the adapter's own, where each one is counted.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use transload_adapter::{ConnectError, Context, Tag};
use transload_envelope::{Envelope, Origin, Text, Timestamp};

use super::{Arrival, CORE_PLACE, REPLY_ATTRIBUTE, Shared, room::Room};
use crate::{
    client::{Message, Sink},
    config::NatsConfig,
    link::Link,
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

/// Subscribes, and ends the subscriptions when the adapter is to stop.
pub(super) async fn open(
    shared: &Shared,
    subscriptions: Vec<Wanted>,
    queue: mpsc::Sender<Arrival>,
    room: &Arc<Room>,
) -> Result<(), ConnectError> {
    let subscriptions: Arc<[Wanted]> = subscriptions.into();
    let mut numbers = Vec::with_capacity(subscriptions.len());
    for (place, wanted) in subscriptions.iter().enumerate() {
        let sink = Box::new(CoreSink {
            place,
            subscriptions: Arc::clone(&subscriptions),
            config: Arc::clone(&shared.config),
            name: shared.context.name.clone(),
            link: Arc::clone(&shared.link),
            queue: queue.clone(),
            room: Arc::clone(room),
        });
        let group = wanted.queue_group.as_deref();
        let number = shared.client.subscribe(&wanted.subject, group, sink).await;
        numbers.push(number.map_err(|_| shared.lost())?);
    }
    let shared = shared.clone();
    shared.context.tasks.clone().spawn(async move {
        tokio::select! {
            () = shared.context.stop.cancelled() => {}
            () = shared.link.lost() => return,
        }
        // What the server has sent already still comes before the subscriptions end.
        if let Ok(drained) = shared.client.drain(numbers).await {
            drop(drained.await);
        }
    });
    Ok(())
}

/// Takes what comes in on one subscription.
struct CoreSink {
    /// Which of the subscriptions this is.
    place: usize,
    subscriptions: Arc<[Wanted]>,
    config: Arc<NatsConfig>,
    name: Text,
    link: Arc<Link>,
    queue: mpsc::Sender<Arrival>,
    room: Arc<Room>,
}

impl Sink for CoreSink {
    fn take(&mut self, message: Message<'_>) {
        if is_internal(&message.subject, self.config.inbox_prefix.as_deref())
            || self.comes_twice(&message.subject)
        {
            return;
        }
        let envelope =
            envelope(&self.name, self.config.address_mapping, &message, Timestamp::now());
        let bytes = envelope.size() + Envelope::MEMORY_OVERHEAD_BYTES;
        let fits = self.room.bytes().saturating_add(bytes) <= self.config.buffer_bytes.as_usize();
        let arrival = Arrival { tag: CORE, envelope, bytes, place: CORE_PLACE };
        self.room.enter(bytes);
        if !fits || self.queue.try_send(arrival).is_err() {
            self.room.leave(bytes);
            self.link.count_dropped(1);
        }
    }
}

impl CoreSink {
    /// Whether another subscription gets its own copy of the message, and is the one to keep it.
    ///
    /// Within one queue group the server itself delivers one copy, and different groups are
    /// different receivers by intention.
    fn comes_twice(&self, subject: &str) -> bool {
        let alone = |wanted: &Wanted| wanted.queue_group.is_none();
        self.subscriptions.get(self.place).is_some_and(alone)
            && self
                .subscriptions
                .iter()
                .take(self.place)
                .any(|other| alone(other) && mapping::matches(&other.subject, subject))
    }
}

/// The envelope of a core message that came in by the adapter of this name.
pub(crate) fn envelope(
    adapter: &Text,
    mapping: AddressMapping,
    message: &Message<'_>,
    now: Timestamp,
) -> Envelope {
    let mut incoming = mapping::incoming(message.headers, now);
    if let Some(reply) = &message.reply {
        incoming.properties.reply_to = mapping::reply_address(mapping, reply);
    }
    let mut origin = Origin::new(adapter.clone(), "nats", mapping.address(&message.subject))
        .with("subject", Text::from(&*message.subject));
    if let Some(reply) = message.reply.as_ref().filter(|_| incoming.properties.reply_to.is_some()) {
        origin = origin.with(REPLY_ATTRIBUTE, Text::from(&**reply));
    }
    let mut envelope =
        Envelope::identified(incoming.id, origin, Bytes::copy_from_slice(message.payload))
            .with_properties(incoming.properties);
    envelope.headers = incoming.headers;
    envelope.hops = incoming.hops;
    envelope
}
