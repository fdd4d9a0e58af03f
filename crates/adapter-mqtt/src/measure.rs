//! The codec on its own, for its benchmark.

use bytes::{Bytes, BytesMut};

use crate::codec::{Packet, Publish, Version, decode, frame_length, publish_head};

/// The largest packet that is read, in bytes.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// The codec for one version of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Codec(Version);

impl Codec {
    /// MQTT 3.1.1.
    pub const V311: Self = Self(Version::V311);
    /// MQTT 5.
    pub const V5: Self = Self(Version::V5);

    /// Reads packets as the listener does, and returns how many are whole and right.
    pub fn read(self, stream: &Bytes) -> usize {
        let mut rest = stream.clone();
        let mut packets = 0;
        while let Ok(Some(length)) = frame_length(&rest, PACKET_BYTES_MAX) {
            if length > rest.len() || decode(self.0, rest.split_to(length)).is_err() {
                break;
            }
            packets += 1;
        }
        packets
    }

    /// The message in a PUBLISH, or none if it is not one.
    pub fn message(self, frame: &Bytes) -> Option<Message> {
        match decode(self.0, frame.clone()) {
            Ok(Packet::Publish(publish)) => Some(Message(publish)),
            Ok(_) | Err(_) => None,
        }
    }

    /// Writes a message as a subscriber gets it.
    pub fn write(self, message: &Message, into: &mut BytesMut) {
        if publish_head(into, self.0, &message.0.head(), None).is_some() {
            into.extend_from_slice(&message.0.payload);
        }
    }
}

/// A message that was read.
#[derive(Debug)]
pub struct Message(Publish);
