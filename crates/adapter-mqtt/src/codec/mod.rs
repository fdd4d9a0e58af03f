//! MQTT 3.1.1 and 5 on the wire, with one model for both versions: reads what clients send and
//! writes what servers send, and the other way round as far as a client goes that takes messages in.
//!
//! Invariants:
//! - Whatever bytes come in, reading ends in a packet or in a [`Fault`] that carries the reason
//!   code of the specification; it never panics and never takes more than the frame.
//! - What the specification calls malformed or a protocol error in a single packet is refused
//!   here: reserved flags, text that is no UTF-8 or holds U+0000, properties that do not belong to
//!   the packet or come twice, packet identifier 0. What depends on a session is judged there.
//! - Texts and payloads are slices of the frame; nothing is copied.
//!
//! `rumqttc`'s codec was the first thought. It does not check most of the above, so its input would
//! have to be parsed twice, and it has two models of each packet; the tests use it as an
//! independent second opinion on every packet.

mod decode;
mod encode;
mod from_server;
mod packet;
mod properties;
mod reader;
mod reason;
mod to_server;

pub(crate) use self::{
    decode::{decode, frame_length, sniff_version},
    encode::{PublishHead, connack, disconnect, pingresp, puback, publish_head, suback, unsuback},
    from_server::{Farewell, FromServer, SubAck, decode_from_server},
    packet::{
        Ack, AckKind, ConnAck, Connect, Disconnect, MessageProperties, Packet, Publish, QoS,
        RetainHandling, Subscribe, SubscribeOptions, Unsubscribe, Version,
    },
    properties::FIELD_BYTES_MAX,
    reason::{Fault, Reason},
    to_server::{ConnectHead, connect, goodbye, pingreq, subscribe},
};

#[cfg(test)]
mod tests;
