//! Both versions of the client library behind one face, for the connection that publishes.
//!
//! The library has two sets of types for the two versions of the protocol; nothing of either is
//! seen outside this module and `options`.
//!
//! Invariants:
//! - A future of [`Wire::poll`] is never dropped unfinished while the connection is to live: the
//!   library loses a packet that it was about to write.
//! - After an error, a wire is not used again: the library would reconnect at once, without a
//!   pause, and forget what is not acknowledged.

use bytes::Bytes;
use futures_util::FutureExt;
use rumqttc::{
    Event as EventV4, Outgoing as Out, Packet as PacketV4, Publish as PublishV4, SubscribeFilter,
    SubscribeReasonCode as GrantV4,
    v5::{
        Event as EventV5,
        mqttbytes::QoS as Level5,
        mqttbytes::v5::{
            Filter as FilterV5, Packet as PacketV5, PubAckReason, Publish as PublishV5,
            PublishProperties, RetainForwardRule, SubscribeReasonCode as GrantV5,
        },
    },
};
use transload_adapter::detached;
use transload_envelope::{Text, Timestamp};

use super::error::{self, Broken};
use crate::{
    codec::{MessageProperties, QoS},
    message::Message,
};

/// How many requests may wait for the library to take them: as many as there are packet ids, which is
/// more than the window lets through.
const REQUESTS_MAX: usize = u16::MAX as usize;

/// One connection.
pub(super) enum Wire {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

/// The way to give a wire something to do while it is being polled.
pub(super) enum Handle {
    V311(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// The options of one connection.
pub(super) enum Options {
    V311(Box<rumqttc::MqttOptions>, rumqttc::NetworkOptions),
    V5(Box<rumqttc::v5::MqttOptions>),
}

/// What the broker grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// The largest packet that it takes.
    pub(super) packet_bytes_max: Option<u32>,
    /// It takes quality of service 0 only.
    pub(super) qos_0_only: bool,
    /// It keeps no retained messages.
    pub(super) no_retain: bool,
}

/// What a broker says to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has the message.
    Taken,
    /// It has the message, and nobody has subscribed to it.
    NoReceiver,
    /// It does not take the message now.
    Failed(&'static str),
    /// It will never take the message.
    Rejected(&'static str),
}

/// What happened on a wire.
#[derive(Debug)]
pub(super) enum Step {
    Connected(Terms),
    /// A message of ours went out under this packet id; 0 with quality of service 0.
    Sent(u16),
    Acknowledged(u16, Answer),
    /// A message that came in: a reply, which the library has acknowledged.
    Message(Box<Message>),
    /// The refusals among the subscriptions, by their place.
    Subscribed(Vec<(usize, String)>),
    /// Nothing that matters here.
    Other,
}

impl Options {
    /// A wire that connects when it is polled.
    pub(super) fn wire(self) -> (Handle, Wire) {
        match self {
            Self::V311(options, network) => {
                let (client, mut wire) = rumqttc::AsyncClient::new(*options, REQUESTS_MAX);
                wire.set_network_options(network);
                (Handle::V311(client), Wire::V311(Box::new(wire)))
            }
            Self::V5(options) => {
                let (client, wire) = rumqttc::v5::AsyncClient::new(*options, REQUESTS_MAX);
                (Handle::V5(client), Wire::V5(Box::new(wire)))
            }
        }
    }
}

impl Wire {
    /// Waits for the next thing to happen. Not cancel-safe.
    pub(super) async fn poll(&mut self) -> Result<Step, Broken> {
        match self {
            Self::V311(wire) => wire.poll().await.map(step_v4).map_err(|e| error::v4(&e)),
            Self::V5(wire) => wire.poll().await.map(step_v5).map_err(|e| error::v5(&e)),
        }
    }

    /// What had happened before an error and was not told: it came in with the same read.
    pub(super) fn rest(&mut self) -> Vec<Step> {
        match self {
            Self::V311(wire) => wire.state.events.drain(..).map(step_v4).collect(),
            Self::V5(wire) => wire.state.events.drain(..).map(step_v5).collect(),
        }
    }
}

impl Handle {
    /// Publishes; `false` when there is no room, which the caller's bound excludes.
    pub(super) fn publish(&self, message: &Message) -> bool {
        let (topic, payload) = (message.topic.to_string(), message.payload.clone());
        // With room in the channel these are finished when they are polled once.
        let sent = match self {
            Self::V311(client) => client
                .publish_bytes(topic, qos_v4(message.qos), message.retain, payload)
                .now_or_never(),
            Self::V5(client) => {
                let (qos, retain) = (qos_v5(message.qos), message.retain);
                let properties = properties(message, Timestamp::now());
                let sent = client
                    .publish_bytes_with_properties(topic, qos, retain, payload, properties)
                    .now_or_never();
                return sent.is_some_and(|result| result.is_ok());
            }
        };
        sent.is_some_and(|result| result.is_ok())
    }

    /// Subscribes to all filters with one packet.
    pub(super) fn subscribe(&self, filters: &[(String, QoS)]) -> bool {
        match self {
            Self::V311(client) => {
                let filters = filters
                    .iter()
                    .map(|(path, level)| SubscribeFilter::new(path.clone(), qos_v4(*level)));
                client.try_subscribe_many(filters).is_ok()
            }
            Self::V5(client) => {
                let filters = filters.iter().map(|(path, level)| FilterV5 {
                    path: path.clone(),
                    qos: qos_v5(*level),
                    nolocal: false,
                    // The flag tells whether the publisher asked for the message to be kept.
                    preserve_retain: true,
                    // A subscription that the session still has brings no retained message again.
                    retain_forward_rule: RetainForwardRule::OnNewSubscribe,
                });
                client.try_subscribe_many(filters).is_ok()
            }
        }
    }

    /// Says goodbye.
    pub(super) fn disconnect(&self) -> bool {
        match self {
            Self::V311(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        }
    }

    /// The bytes of a message on the wire, packet id included.
    pub(super) fn packet_bytes(&self, message: &Message) -> usize {
        let topic = message.topic.to_string();
        let size = match self {
            Self::V311(_) => {
                PublishV4::from_bytes(topic, qos_v4(message.qos), message.payload.clone()).size()
            }
            Self::V5(_) => {
                let properties = Some(properties(message, Timestamp::now()));
                PublishV5::new(topic, qos_v5(message.qos), message.payload.clone(), properties)
                    .size()
            }
        };
        // The library leaves the packet id out while it has given none.
        size + 2
    }
}

// The settings offer no more than 1, so 2 does not come up.

fn qos_v4(level: QoS) -> rumqttc::QoS {
    match level {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce | QoS::ExactlyOnce => rumqttc::QoS::AtLeastOnce,
    }
}

fn qos_v5(level: QoS) -> Level5 {
    match level {
        QoS::AtMostOnce => Level5::AtMostOnce,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Level5::AtLeastOnce,
    }
}

fn step_v4(event: EventV4) -> Step {
    match event {
        EventV4::Outgoing(Out::Publish(id)) => Step::Sent(id),
        EventV4::Incoming(PacketV4::ConnAck(_)) => Step::Connected(Terms::default()),
        EventV4::Incoming(PacketV4::PubAck(ack)) => Step::Acknowledged(ack.pkid, Answer::Taken),
        EventV4::Incoming(PacketV4::Publish(publish)) => received_v4(publish),
        EventV4::Incoming(PacketV4::SubAck(ack)) => {
            Step::Subscribed(refusals(ack.return_codes.iter().map(|code| match code {
                GrantV4::Success(_) => None,
                GrantV4::Failure => Some("the broker refuses the subscription".to_owned()),
            })))
        }
        EventV4::Incoming(_) | EventV4::Outgoing(_) => Step::Other,
    }
}

fn step_v5(event: EventV5) -> Step {
    match event {
        EventV5::Outgoing(Out::Publish(id)) => Step::Sent(id),
        EventV5::Incoming(PacketV5::ConnAck(ack)) => {
            let granted = ack.properties.as_ref();
            Step::Connected(Terms {
                packet_bytes_max: granted.and_then(|granted| granted.max_packet_size),
                qos_0_only: granted.and_then(|granted| granted.max_qos) == Some(0),
                no_retain: granted.and_then(|granted| granted.retain_available) == Some(0),
            })
        }
        EventV5::Incoming(PacketV5::PubAck(ack)) => {
            Step::Acknowledged(ack.pkid, answer(ack.reason))
        }
        EventV5::Incoming(PacketV5::Publish(publish)) => received_v5(publish),
        EventV5::Incoming(PacketV5::SubAck(ack)) => {
            Step::Subscribed(refusals(ack.return_codes.iter().map(|code| {
                let granted = matches!(code, GrantV5::Success(_));
                (!granted).then(|| format!("the broker refuses the subscription: {code:?}"))
            })))
        }
        EventV5::Incoming(_) | EventV5::Outgoing(_) => Step::Other,
    }
}

fn refusals(answers: impl Iterator<Item = Option<String>>) -> Vec<(usize, String)> {
    answers.enumerate().filter_map(|(place, answer)| answer.map(|text| (place, text))).collect()
}

/// The reason codes of PUBACK (MQTT 5, section 3.4.2.1).
fn answer(reason: PubAckReason) -> Answer {
    match reason {
        PubAckReason::Success => Answer::Taken,
        PubAckReason::NoMatchingSubscribers => Answer::NoReceiver,
        PubAckReason::UnspecifiedError => Answer::Failed("unspecified error (0x80)"),
        PubAckReason::ImplementationSpecificError => {
            Answer::Failed("implementation specific error (0x83)")
        }
        // Permissions change, and the message is as good as before when they have.
        PubAckReason::NotAuthorized => Answer::Failed("not authorized (0x87)"),
        PubAckReason::TopicNameInvalid => Answer::Rejected("topic name invalid (0x90)"),
        PubAckReason::PacketIdentifierInUse => Answer::Failed("packet identifier in use (0x91)"),
        PubAckReason::QuotaExceeded => Answer::Failed("quota exceeded (0x97)"),
        PubAckReason::PayloadFormatInvalid => Answer::Rejected("payload format invalid (0x99)"),
    }
}

fn received_v4(publish: PublishV4) -> Step {
    let message = Message {
        topic: publish.topic.into(),
        payload: detached(publish.payload),
        qos: QoS::from_bits(publish.qos as u8).unwrap_or_default(),
        retain: publish.retain,
        expires_at: None,
        properties: None,
    };
    Step::Message(Box::new(message))
}

fn received_v5(publish: PublishV5) -> Step {
    let sent = publish.properties.unwrap_or_default();
    let lifetime = sent.message_expiry_interval.map(u64::from).map(std::time::Duration::from_secs);
    let properties = MessageProperties {
        utf8_payload: sent.payload_format_indicator == Some(1),
        content_type: sent.content_type.map(Text::from),
        response_topic: sent.response_topic.map(Text::from),
        correlation: sent.correlation_data.map(|data| Bytes::copy_from_slice(&data)),
        user: sent.user_properties.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
    };
    let message = Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned().into(),
        payload: detached(publish.payload),
        qos: QoS::from_bits(publish.qos as u8).unwrap_or_default(),
        retain: publish.retain,
        expires_at: lifetime.map(|lifetime| Timestamp::now().after(lifetime)),
        properties: (properties != MessageProperties::default()).then(|| Box::new(properties)),
    };
    Step::Message(Box::new(message))
}

fn properties(message: &Message, now: Timestamp) -> PublishProperties {
    let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
    let mut properties = PublishProperties {
        message_expiry_interval: message.expiry_s(now),
        ..PublishProperties::default()
    };
    if let Some(known) = message.properties.as_deref() {
        properties.payload_format_indicator = known.utf8_payload.then_some(1);
        properties.content_type = text(&known.content_type);
        properties.response_topic = text(&known.response_topic);
        properties.correlation_data.clone_from(&known.correlation);
        properties.user_properties =
            known.user.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    }
    properties
}
