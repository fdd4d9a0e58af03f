//! Messages in the store's queues: what of a message its envelope does not hold goes into the
//! arguments beside it.

use transload_envelope::{Arguments, Envelope, Origin, Outgoing, Text};

use super::session::Queued;
use crate::{codec::QoS, mapping, message::Message};

const TOPIC: Text = Text::from_static("topic");
const QOS: Text = Text::from_static("qos");
const RETAIN: Text = Text::from_static("retain");
const SUBSCRIPTIONS: Text = Text::from_static("subscriptions");
const VERBATIM: Text = Text::from_static("verbatim");
const UTF8: Text = Text::from_static("utf8");
const YES: Text = Text::from_static("1");

/// An envelope that keeps what a client published exactly as it was, for other clients.
pub(super) fn verbatim(message: &Message, adapter: &Text) -> Envelope {
    let origin = Origin::new(adapter.clone(), "mqtt", message.topic.clone());
    mapping::to_envelope_verbatim(message, origin)
}

/// The arguments beside an envelope in the queue of a session or a group.
pub(super) fn arguments(
    message: &Message,
    qos: QoS,
    retain: bool,
    subscription_ids: &[u32],
    verbatim: bool,
) -> Arguments {
    let mut arguments = Arguments::default();
    arguments.push(
        QOS,
        Text::from_static(match qos {
            QoS::AtMostOnce => "0",
            QoS::AtLeastOnce => "1",
            QoS::ExactlyOnce => "2",
        }),
    );
    if retain {
        arguments.push(RETAIN, YES);
    }
    if !subscription_ids.is_empty() {
        let list: Vec<_> = subscription_ids.iter().map(u32::to_string).collect();
        arguments.push(SUBSCRIPTIONS, list.join(","));
    }
    if verbatim {
        arguments.push(VERBATIM, YES);
        if message.properties.as_ref().is_some_and(|properties| properties.utf8_payload) {
            arguments.push(UTF8, YES);
        }
    } else {
        arguments.push(TOPIC, message.topic.clone());
    }
    arguments
}

/// Whether the envelope holds what a client published exactly as it was.
pub(super) fn is_verbatim(outgoing: &Outgoing) -> bool {
    outgoing.arguments.get(&VERBATIM).is_some()
}

/// The message as it was put into the queue; `None` when it is none that MQTT can carry.
pub(super) fn message(outgoing: &Outgoing) -> Option<Message> {
    let Outgoing { envelope, arguments } = outgoing;
    let qos = match arguments.get(&QOS).map(|text| &**text) {
        Some("2") => QoS::ExactlyOnce,
        Some("0") => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    let retain = arguments.get(&RETAIN).is_some();
    if arguments.get(&VERBATIM).is_some() {
        let utf8 = arguments.get(&UTF8).is_some();
        return Some(mapping::from_envelope_verbatim(envelope, qos, retain, utf8));
    }
    let topic = arguments.get(&TOPIC).unwrap_or_else(|| envelope.address.as_text()).clone();
    mapping::from_envelope(envelope, topic, qos, retain).ok()
}

/// The same for a session's own queue, where the subscriptions were already weighed.
pub(super) fn queued(outgoing: &Outgoing) -> Option<Queued> {
    let message = message(outgoing)?;
    let subscription_ids = outgoing
        .arguments
        .get(&SUBSCRIPTIONS)
        .map(|list| list.split(',').filter_map(|id| id.parse().ok()).collect())
        .unwrap_or_default();
    Some(Queued {
        qos: message.qos,
        retain: message.retain,
        message: message.into(),
        subscription_ids,
        lease: None,
    })
}
