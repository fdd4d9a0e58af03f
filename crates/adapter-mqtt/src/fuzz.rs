//! What a peer may send, for fuzzing: nothing here may panic, whatever the bytes are.

use bytes::{Bytes, BytesMut};

use crate::{
    codec::{
        FromServer, Packet, Publish, Version, decode, decode_from_server, frame_length,
        publish_head, sniff_version,
    },
    topic::Filter,
};

/// The largest packet that is looked at, in bytes.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Reads bytes as the listener reads a connection, packet after packet, and as the client does. The
/// first byte chooses the version, which CONNECT then changes.
///
/// # Panics
///
/// If a packet is longer than its frame says, or a message that was taken cannot be given on as it
/// came.
pub fn packets(bytes: &[u8]) {
    let Some((first, stream)) = bytes.split_first() else { return };
    let mut version = if first & 1 == 0 { Version::V311 } else { Version::V5 };
    let mut rest = Bytes::copy_from_slice(stream);
    from_server(version, rest.clone());
    while let Ok(Some(length)) = frame_length(&rest, PACKET_BYTES_MAX) {
        if length > rest.len() {
            return;
        }
        let frame = rest.split_to(length);
        if frame.first() == Some(&0x10) {
            version = sniff_version(&frame);
        }
        match decode(version, frame) {
            Ok(Packet::Publish(publish)) => given_on(version, publish),
            Ok(Packet::Subscribe(subscribe)) => {
                for (filter, _) in &subscribe.filters {
                    let _ = Filter::parse(filter);
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// What both sides may send is read in the same way on both.
fn from_server(version: Version, mut rest: Bytes) {
    while let Ok(Some(length)) = frame_length(&rest, PACKET_BYTES_MAX) {
        if length > rest.len() {
            return;
        }
        let frame = rest.split_to(length);
        let Ok(packet) = decode_from_server(version, frame.clone()) else { return };
        if let (FromServer::Publish(publish), Ok(other)) = (packet, decode(version, frame)) {
            assert_eq!(other, Packet::Publish(publish), "the two sides read different messages");
        }
    }
}

/// What a subscriber gets of a message is what its publisher sent.
fn given_on(version: Version, publish: Publish) {
    if publish.topic.is_empty() {
        // Its topic is known by the connection only.
        return;
    }
    let head = publish.head();
    let mut written = BytesMut::new();
    if publish_head(&mut written, version, &head, None).is_none() {
        return;
    }
    written.extend_from_slice(&publish.payload);
    let again = decode(version, written.freeze());
    let expected = Publish { topic_alias: None, ..publish };
    assert_eq!(again, Ok(Packet::Publish(expected)), "a message has changed");
}
