//! Messages in both forms: pure, and the only place that knows which property goes where.
//!
//! | envelope | AMQP 0-9-1 |
//! |---|---|
//! | id | `message_id` |
//! | content type, content encoding, priority, type, app id | the properties of the same names |
//! | correlation | `correlation_id` if it is text of up to 255 bytes without NUL, else header `x-correlation-id` |
//! | reply to | `reply_to`, which names a queue; another protocol's address as header `x-reply-to-topic` |
//! | expiry | `expiration`: milliseconds that are left, ten years at most; what is longer also as header `transload-expires-ms`, since 1970 |
//! | durable | `delivery_mode` 2 or 1 |
//! | retain | header `transload-retain` |
//! | timestamp | `timestamp`: whole seconds; with milliseconds or before 1970 also as header `timestamp_in_ms` |
//! | user id | read from `user_id`, which must be the login; written as header `transload-user-id` |
//! | hops | header `transload-hops` |
//! | headers | the header table: sorted by name, repeats as an array, which header `transload-repeats` names |
//!
//! Attributes of an event (`ce-…`) are headers `cloudEvents_…`, the form that the AMQP 1.0 binding of
//! `CloudEvents` prefers; `cloudEvents:…` and `ce-…` are read too. The event's source and id are the id of
//! a message that has no `message_id`.

use std::time::Duration;

use bytes::Bytes;
use transload_adapter::SendError;
use transload_envelope::{
    Envelope, Header, Headers, MessageId, Origin, Outgoing, Properties, Text, Timestamp, Value,
    cloudevents,
};

use crate::{
    address::{AddressMapping, wildcard},
    client::{BasicProperties, Delivery},
    config::{AddressSource, AmqpTarget},
    table::{self, Own},
};

const CORRELATION_HEADER: &str = "x-correlation-id";
const REPLY_TO_TOPIC_HEADER: &str = "x-reply-to-topic";
const RETAIN_HEADER: &str = "transload-retain";
const HOPS_HEADER: &str = "transload-hops";
/// As RabbitMQ's own interceptor writes the time to the millisecond.
const TIMESTAMP_HEADER: &str = "timestamp_in_ms";
const EXPIRES_HEADER: &str = "transload-expires-ms";
/// Ten years: RabbitMQ closes the channel on more (`rabbit_misc:check_expiry`).
const EXPIRATION_MS_MAX: u128 = 315_360_000_000;
const EVENT_PREFIX: &str = "cloudEvents_";
/// Not read back: anybody can write it, while the broker vouches for `user_id`.
const USER_ID_HEADER: &str = "transload-user-id";
/// The origin's attribute that tells a topic to reply to from a queue to reply to.
const REPLY_TO_ATTRIBUTE: &str = "reply_to";
/// The origin's attribute that holds the queue to reply to, as it came in.
const REPLY_QUEUE_ATTRIBUTE: &str = "reply_queue";
/// The exchange where RabbitMQ's MQTT clients listen.
const TOPIC_EXCHANGE: &str = "amq.topic";
/// The protocol's name in an origin.
const PROTOCOL: &str = "amqp";
/// What a content header takes in its frame beside properties (AMQP 0-9-1, section 4.2.6.1).
const CONTENT_HEADER_OVERHEAD: usize = 8 + 14;

/// Where the messages of one consumer come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) adapter: Text,
    pub(crate) queue: Text,
    pub(crate) consumer_tag: Text,
    pub(crate) address: AddressSource,
    pub(crate) mapping: AddressMapping,
}

/// The envelope of a message that came in; the error says why there is none.
pub(crate) fn envelope(
    source: &Source,
    delivery: Delivery,
    now: Timestamp,
) -> Result<Envelope, Text> {
    if let Some(fault) = &delivery.fault {
        return Err(fault.to_string().into());
    }
    let basic = &delivery.properties;
    let mut properties = properties_from_amqp(basic, source.mapping, now);
    let mut headers = Headers::default();
    let mut topic = false;
    let mut hops = 0;
    let table = basic.headers.as_ref().map(table::headers_from_table).transpose()?;
    for (name, value) in table.unwrap_or_default() {
        match (&*name, value) {
            (CORRELATION_HEADER, Value::Text(text)) if properties.correlation.is_none() => {
                properties.correlation = Some(text.into_bytes());
            }
            (CORRELATION_HEADER, Value::Bytes(bytes)) if properties.correlation.is_none() => {
                properties.correlation = Some(bytes);
            }
            (REPLY_TO_TOPIC_HEADER, Value::Text(key)) if properties.reply_to.is_none() => {
                properties.reply_to = Some(source.mapping.to_address(&key).into());
                topic = true;
            }
            (RETAIN_HEADER, Value::Bool(retain)) => properties.retain = retain,
            (TIMESTAMP_HEADER, Value::Int(unix_ms)) if is_of(unix_ms, basic.timestamp) => {
                properties.timestamp = Some(Timestamp { unix_ms });
            }
            (EXPIRES_HEADER, Value::Int(unix_ms)) => {
                properties.expires_at = Some(Timestamp { unix_ms });
            }
            // More than fit are too many for any gateway.
            (HOPS_HEADER, Value::Int(count)) => {
                hops = u8::try_from(count.max(0)).unwrap_or(u8::MAX);
            }
            (name, value) => match attribute(name) {
                Some(attribute) => headers.push(cloudevents::header(attribute), value),
                None => headers.push(name, value),
            },
        }
    }
    let origin = origin(source, &delivery, topic);
    let id = basic.message_id.as_deref().filter(|id| !id.is_empty());
    let id = id.map(MessageId::from_source).or_else(|| cloudevents::message_id(&headers));
    let mut envelope = Envelope::identified(id, origin, delivery.data).with_properties(properties);
    envelope.headers = headers;
    envelope.hops = hops;
    Ok(envelope)
}

/// Whether these milliseconds are a time that the property says in whole seconds.
fn is_of(unix_ms: i64, seconds: Option<u64>) -> bool {
    seconds == Some(table::seconds(Timestamp { unix_ms }))
}

/// The attribute of an event that a header of this name stands for.
fn attribute(name: &str) -> Option<&str> {
    let prefixes = [EVENT_PREFIX, "cloudEvents:", cloudevents::PREFIX];
    let name = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    cloudevents::is_attribute_name(name).then_some(name)
}

/// The headers as they are written: attributes of an event have the prefix of AMQP.
fn written(headers: &Headers) -> Headers {
    if !cloudevents::is_event(headers) {
        return headers.clone();
    }
    let named = |header: &Header| match cloudevents::attribute(&header.name) {
        Some(attribute) => Header {
            name: format!("{EVENT_PREFIX}{attribute}").into(),
            value: header.value.clone(),
        },
        None => header.clone(),
    };
    headers.iter().map(named).collect()
}

fn origin(source: &Source, delivery: &Delivery, topic: bool) -> Origin {
    let address = match &source.address {
        AddressSource::RoutingKey => source.mapping.to_address(&delivery.routing_key),
        AddressSource::Queue => source.mapping.to_address(&source.queue),
        AddressSource::Fixed(address) => address.clone(),
    };
    let origin = Origin::new(source.adapter.clone(), Text::from_static(PROTOCOL), address)
        .with(Text::from_static("exchange"), delivery.exchange.clone())
        .with(Text::from_static("routing_key"), delivery.routing_key.clone())
        .with(Text::from_static("queue"), source.queue.clone())
        .with(Text::from_static("redelivered"), delivery.redelivered)
        .with(Text::from_static("consumer_tag"), source.consumer_tag.clone());
    if topic {
        return origin.with(Text::from_static(REPLY_TO_ATTRIBUTE), "topic");
    }
    match &delivery.properties.reply_to {
        Some(queue) => origin.with(Text::from_static(REPLY_QUEUE_ATTRIBUTE), queue.clone()),
        None => origin,
    }
}

fn properties_from_amqp(
    basic: &BasicProperties,
    mapping: AddressMapping,
    now: Timestamp,
) -> Properties {
    let expiration = basic.expiration.as_ref().and_then(|ms| ms.parse().ok());
    Properties {
        content_type: basic.content_type.clone(),
        content_encoding: basic.content_encoding.clone(),
        correlation: basic.correlation_id.clone().map(Text::into_bytes),
        reply_to: basic.reply_to.as_ref().map(|queue| mapping.to_address(queue).into()),
        expires_at: expiration.map(|ms| now.after(Duration::from_millis(ms))),
        priority: basic.priority,
        durable: match basic.delivery_mode {
            Some(2) => Some(true),
            Some(1) => Some(false),
            Some(_) | None => None,
        },
        retain: false,
        kind: basic.kind.clone(),
        app_id: basic.app_id.clone(),
        user_id: basic.user_id.clone(),
        timestamp: basic.timestamp.map(table::timestamp),
    }
}

/// A message as it is published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publish {
    /// Texts of 255 bytes at most, as those of the properties.
    pub(crate) exchange: Text,
    pub(crate) routing_key: Text,
    pub(crate) properties: BasicProperties,
    pub(crate) payload: Bytes,
    /// The exchange was made for this message by a template.
    pub(crate) own_exchange: bool,
    /// The routing key was made for this message by a template or of its address.
    pub(crate) own_key: bool,
}

/// What bounds a message that goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) message_bytes_max: usize,
    /// The largest frame that was agreed upon; all properties must fit into one.
    pub(crate) frame_bytes_max: usize,
}

/// The message as AMQP takes it, or why it never can. Checked here, because the broker's answer
/// to a fault is to close the channel or the connection with everything that is on its way.
pub(crate) fn publish(
    outgoing: &Outgoing,
    target: &AmqpTarget,
    mapping: AddressMapping,
    limits: Limits,
    now: Timestamp,
) -> Result<Publish, SendError> {
    let Outgoing { envelope, arguments } = outgoing;
    let to_queue = names_a_queue(outgoing, target);
    let exchange = match (arguments.get("exchange"), &target.exchange) {
        _ if to_queue => Text::new(),
        (Some(made), _) => made.clone(),
        (None, Some(fixed)) => fixed.as_str().into(),
        (None, None) => Text::new(),
    };
    let (routing_key, own_key) = routing_key(outgoing, target, mapping)?;
    let own_exchange = arguments.get("exchange").is_some() && !to_queue;
    Ok(Publish {
        exchange: named(exchange, "the name of the exchange")?,
        routing_key,
        properties: fitting_properties(envelope, target, mapping, limits, now)?,
        payload: envelope.payload.clone(),
        own_exchange,
        own_key,
    })
}

/// Whether the message goes to a queue by its name.
pub(crate) fn names_a_queue(outgoing: &Outgoing, target: &AmqpTarget) -> bool {
    outgoing.arguments.get("queue").is_some() || target.queue.is_some()
}

/// The routing key, or the name of the queue; and whether it was made for this message.
pub(crate) fn routing_key(
    outgoing: &Outgoing,
    target: &AmqpTarget,
    mapping: AddressMapping,
) -> Result<(Text, bool), SendError> {
    let Outgoing { envelope, arguments } = outgoing;
    let (name, fixed) = if names_a_queue(outgoing, target) {
        ("queue", &target.queue)
    } else {
        ("routing_key", &target.routing_key)
    };
    let (key, own) = match (arguments.get(name), fixed) {
        (Some(text), _) => (text.clone(), true),
        (None, Some(fixed)) => (Text::from(fixed), false),
        (None, None) => (Text::from(mapping.to_key(&envelope.address)), true),
    };
    if own && let Some(word) = wildcard(&key) {
        return Err(rejected(format!("the routing key {key:?} has the wildcard {word} as a word")));
    }
    Ok((named(key, "the routing key")?, own))
}

/// The answer to a request that came in: to the queue that the request names, or, where it names a
/// topic, to the exchange where RabbitMQ's MQTT clients listen.
pub(crate) fn answer(
    request: &Envelope,
    answer: &Envelope,
    mapping: AddressMapping,
    limits: Limits,
    now: Timestamp,
) -> Result<Publish, SendError> {
    let Some(address) = &request.properties().reply_to else {
        return Err(rejected("the request names no queue for its answer".to_owned()));
    };
    let queue = request.origin.attribute(REPLY_QUEUE_ATTRIBUTE).and_then(Value::as_text);
    let (exchange, key) = match queue {
        Some(queue) => ("", queue.to_string()),
        None if names_queue(request) => ("", mapping.to_key(address)),
        None => (TOPIC_EXCHANGE, mapping.to_key(address)),
    };
    // An answer is of use only to whoever waits now.
    let target = AmqpTarget { persistent: Some(false), ..AmqpTarget::default() };
    Ok(Publish {
        exchange: named(exchange.into(), "the name of the exchange")?,
        routing_key: named(key.into(), "the queue to reply to")?,
        properties: fitting_properties(answer, &target, mapping, limits, now)?,
        payload: answer.payload.clone(),
        own_exchange: false,
        own_key: true,
    })
}

fn fitting_properties(
    envelope: &Envelope,
    target: &AmqpTarget,
    mapping: AddressMapping,
    limits: Limits,
    now: Timestamp,
) -> Result<BasicProperties, SendError> {
    if envelope.payload.len() > limits.message_bytes_max {
        return Err(rejected(format!(
            "the payload has {} bytes, and max_message_bytes is {}",
            envelope.payload.len(),
            limits.message_bytes_max
        )));
    }
    let properties = properties_to_amqp(envelope, target, mapping, now)
        .map_err(|reason| SendError::Rejected { reason })?;
    let header_len = properties.bytes() + CONTENT_HEADER_OVERHEAD;
    if header_len > limits.frame_bytes_max {
        return Err(rejected(format!(
            "properties and headers take {header_len} bytes, and the broker takes {}",
            limits.frame_bytes_max
        )));
    }
    Ok(properties)
}

fn rejected(reason: String) -> SendError {
    SendError::Rejected { reason: reason.into() }
}

fn named(text: Text, field: &str) -> Result<Text, SendError> {
    short(text, field).map_err(|reason| SendError::Rejected { reason })
}

/// A text that fits where AMQP has 255 bytes for it.
fn short(text: Text, subject: &str) -> Result<Text, Text> {
    match table::check_short(&text, subject) {
        Ok(()) => Ok(text),
        Err(reason) => Err(reason),
    }
}

fn properties_to_amqp(
    envelope: &Envelope,
    target: &AmqpTarget,
    mapping: AddressMapping,
    now: Timestamp,
) -> Result<BasicProperties, Text> {
    let properties = envelope.properties();
    let mut own = Vec::new();
    let persistent = target.persistent.unwrap_or(properties.durable != Some(false));
    let checked =
        |text: &Option<Text>, subject| text.clone().map(|text| short(text, subject)).transpose();
    let mut basic = BasicProperties {
        message_id: Some(short(envelope.id.as_text().clone(), "the message id")?),
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        content_type: checked(&properties.content_type, "the content type")?,
        content_encoding: checked(&properties.content_encoding, "the content encoding")?,
        kind: checked(&properties.kind, "the type")?,
        app_id: checked(&properties.app_id, "the application id")?,
        priority: properties.priority,
        timestamp: properties.timestamp.map(table::seconds),
        ..BasicProperties::default()
    };
    if let Some(time) = properties.timestamp
        && table::timestamp(table::seconds(time)) != time
    {
        own.push((TIMESTAMP_HEADER, Own::Number(time.unix_ms)));
    }
    if let Some(end) = properties.expires_at {
        let left = end.remaining(now).as_millis();
        if left > EXPIRATION_MS_MAX {
            own.push((EXPIRES_HEADER, Own::Number(end.unix_ms)));
        }
        basic.expiration = Some(left.min(EXPIRATION_MS_MAX).to_string().into());
    }
    if let Some(correlation) = &properties.correlation {
        basic.correlation_id = correlation_text(correlation);
        if basic.correlation_id.is_none() {
            // As RabbitMQ's own MQTT plugin writes it.
            own.push((CORRELATION_HEADER, Own::Bytes(correlation)));
        }
    }
    let reply_to = properties.reply_to.as_ref().map(|address| mapping.to_key(address));
    if let Some(key) = &reply_to {
        if names_queue(envelope) {
            basic.reply_to = Some(short(key.into(), "the queue to reply to")?);
        } else {
            own.push((REPLY_TO_TOPIC_HEADER, Own::Bytes(key.as_bytes())));
        }
    }
    if let Some(user) = &properties.user_id {
        own.push((USER_ID_HEADER, Own::Bytes(user.as_bytes())));
    }
    if envelope.hops > 0 {
        own.push((HOPS_HEADER, Own::Number(envelope.hops.into())));
    }
    if properties.retain {
        own.push((RETAIN_HEADER, Own::Truth(true)));
    }
    basic.headers = table::table_from_headers(&written(&envelope.headers), &own)?;
    Ok(basic)
}

/// What fits `correlation_id`: text of up to 255 bytes without NUL.
fn correlation_text(correlation: &[u8]) -> Option<Text> {
    let text = std::str::from_utf8(correlation).ok()?;
    let fits = !text.contains('\0') && table::check_short(text, "").is_ok();
    fits.then(|| text.into())
}

/// Whether `reply_to` came in as AMQP's own property, which names a queue.
fn names_queue(envelope: &Envelope) -> bool {
    *envelope.origin.protocol == *PROTOCOL
        && envelope.origin.attribute(REPLY_TO_ATTRIBUTE).is_none()
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
