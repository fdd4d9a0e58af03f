use bytes::Bytes;
use transload_envelope::Text;

use super::reason::{Fault, Reason};

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1, level byte 4.
    V311,
    /// MQTT 5, level byte 5.
    V5,
}

impl Version {
    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// Quality of service.
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum QoS {
    /// 0: delivered once or not at all.
    #[default]
    AtMostOnce = 0,
    /// 1: acknowledged; may come twice.
    AtLeastOnce = 1,
    /// 2: acknowledged in four steps; comes once.
    ExactlyOnce = 2,
}

impl QoS {
    /// From the two bits on the wire; 3 is reserved.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The bits on the wire.
    pub(crate) fn bits(self) -> u8 {
        self as u8
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    Ack(Ack),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
    Auth,
}

/// CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: Text,
    /// 3.1.1: Clean Session; 5: Clean Start.
    pub(crate) clean: bool,
    /// In seconds; 0 turns it off.
    pub(crate) keep_alive_s: u16,
    pub(crate) will: Option<Will>,
    pub(crate) username: Option<Text>,
    pub(crate) password: Option<Bytes>,
    /// 0 ends the session with the connection, `u32::MAX` keeps it for ever.
    pub(crate) session_expiry_s: u32,
    /// How many `QoS` 1 and 2 messages the client takes unacknowledged.
    pub(crate) receive_maximum: u16,
    /// The largest packet that the client takes.
    pub(crate) packet_bytes_max: Option<u32>,
    /// Whether the client wants reason strings.
    pub(crate) problem_information: bool,
    /// The client asks for enhanced authentication.
    pub(crate) authentication_method: bool,
}

/// The message that is published for a client that went away without saying so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Will {
    pub(crate) publish: Publish,
    pub(crate) delay_s: u32,
}

/// The properties that are the sender's and go through a broker unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageProperties {
    /// The sender says that the payload is UTF-8 (Payload Format Indicator 1).
    pub(crate) utf8_payload: bool,
    pub(crate) content_type: Option<Text>,
    pub(crate) response_topic: Option<Text>,
    pub(crate) correlation: Option<Bytes>,
    /// In order, with repeats.
    pub(crate) user: Vec<(Text, Text)>,
}

/// PUBLISH.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// 0 with `QoS` 0.
    pub(crate) packet_id: u16,
    /// Empty when the alias stands for it.
    pub(crate) topic: Text,
    pub(crate) topic_alias: Option<u16>,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) properties: Option<Box<MessageProperties>>,
    pub(crate) payload: Bytes,
}

#[cfg(any(test, feature = "testing"))]
impl Publish {
    /// The head with which this message, as it was read, is written again.
    pub(crate) fn head(&self) -> super::PublishHead<'_> {
        super::PublishHead {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            packet_id: self.packet_id,
            topic: &self.topic,
            expiry_s: self.expiry_s,
            subscription_ids: &[],
            properties: self.properties.as_deref(),
            payload_bytes: self.payload.len(),
        }
    }
}

/// Which of the four acknowledgements.
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) kind: AckKind,
    pub(crate) packet_id: u16,
    pub(crate) reason: Reason,
}

/// When a new subscription is given the retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RetainHandling {
    #[default]
    Send = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

/// The options of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscribeOptions {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// Reads the byte of MQTT 5, section 3.8.3.1, of which that of 3.1.1 is a part.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let retain_handling = match (byte >> 4) & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        (byte & 0b1100_0000 == 0).then_some(())?;
        Some(Self {
            qos: QoS::from_bits(byte & 0b11)?,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }

    /// The same byte.
    pub(crate) fn to_byte(self) -> u8 {
        self.qos.bits()
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subscribe {
    pub(crate) packet_id: u16,
    pub(crate) subscription_id: Option<u32>,
    pub(crate) filters: Vec<(Text, SubscribeOptions)>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unsubscribe {
    pub(crate) packet_id: u16,
    pub(crate) filters: Vec<Text>,
}

/// DISCONNECT from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disconnect {
    pub(crate) reason: Reason,
    /// Replaces that of CONNECT.
    pub(crate) session_expiry_s: Option<u32>,
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    pub(crate) reason: Reason,
    pub(crate) reason_string: Option<Text>,
    pub(crate) session_expiry_s: Option<u32>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) packet_bytes_max: Option<u32>,
    pub(crate) assigned_client_id: Option<Text>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) server_keep_alive_s: Option<u16>,
}

impl ConnAck {
    /// A refusal.
    pub(crate) fn refusal(fault: Fault) -> Self {
        Self {
            session_present: false,
            reason: fault.reason,
            reason_string: Some(Text::from_static(fault.what)),
            session_expiry_s: None,
            receive_maximum: None,
            packet_bytes_max: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            server_keep_alive_s: None,
        }
    }
}
