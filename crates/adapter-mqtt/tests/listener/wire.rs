//! Bytes that no client should send.

use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet};

use crate::common::start;

/// Frames that end the connection of a client of MQTT 5, with the reason.
const FAULTS: &[(&str, &[u8], DisconnectReasonCode)] = {
    use DisconnectReasonCode::{MalformedPacket, ProtocolError};
    &[
        ("packet type 0", &[0x00, 0], MalformedPacket),
        ("reserved flags of PINGREQ", &[0xc1, 0], MalformedPacket),
        ("reserved flags of SUBSCRIBE", &[0x80, 6, 0, 1, 0, 0, 1, b'a'], MalformedPacket),
        ("reserved flags of PUBREL", &[0x60, 2, 0, 1], MalformedPacket),
        ("QoS 3", &[0x36, 6, 0, 1, b'a', 0, 1, 0], MalformedPacket),
        ("DUP with QoS 0", &[0x38, 4, 0, 1, b'a', 0], MalformedPacket),
        ("remaining length of five bytes", &[0x30, 0x80, 0x80, 0x80, 0x80, 1], MalformedPacket),
        ("PUBLISH that ends early", &[0x30, 2, 0, 5], MalformedPacket),
        ("topic that is not UTF-8", &[0x30, 4, 0, 1, 0xff, 0], MalformedPacket),
        ("topic with U+0000", &[0x30, 4, 0, 1, 0, 0], MalformedPacket),
        ("surrogate in a topic", &[0x30, 6, 0, 3, 0xed, 0xa0, 0x80, 0], MalformedPacket),
        ("packet identifier 0", &[0x32, 6, 0, 1, b'a', 0, 0, 0], ProtocolError),
        ("property twice", &[0x30, 8, 0, 1, b'a', 4, 1, 1, 1, 1], ProtocolError),
        ("property of another packet", &[0x30, 9, 0, 1, b'a', 5, 17, 0, 0, 0, 1], MalformedPacket),
        ("unknown property", &[0x30, 6, 0, 1, b'a', 2, 99, 0], MalformedPacket),
        ("subscription identifier", &[0x30, 6, 0, 1, b'a', 2, 11, 1], MalformedPacket),
        ("payload format 2", &[0x30, 6, 0, 1, b'a', 2, 1, 2], ProtocolError),
        ("properties longer than the packet", &[0x30, 4, 0, 1, b'a', 9], MalformedPacket),
        ("SUBSCRIBE without filters", &[0x82, 3, 0, 1, 0], ProtocolError),
        ("subscription identifier 0", &[0x82, 9, 0, 1, 2, 11, 0, 0, 1, b'a', 0], ProtocolError),
        ("reserved subscription bits", &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40], MalformedPacket),
        ("retain handling 3", &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], MalformedPacket),
        ("subscription with QoS 3", &[0x82, 7, 0, 1, 0, 0, 1, b'a', 3], MalformedPacket),
        ("UNSUBSCRIBE without filters", &[0xa2, 3, 0, 1, 0], ProtocolError),
        ("PINGREQ with a body", &[0xc0, 1, 0], MalformedPacket),
        ("CONNACK from a client", &[0x20, 3, 0, 0, 0], ProtocolError),
        ("SUBACK from a client", &[0x90, 4, 0, 1, 0, 0], ProtocolError),
        ("AUTH out of turn", &[0xf0, 0], ProtocolError),
        ("response topic with a wildcard", &[0x30, 8, 0, 1, b'a', 4, 8, 0, 1, b'#'], ProtocolError),
    ]
};

#[tokio::test]
async fn faults_end_the_connection_with_their_reason() {
    let listener = start("").await;
    for (name, bytes, reason) in FAULTS {
        let mut client = listener.v5("faulty").await;
        client.0.write(bytes).await;
        match client.end().await.as_slice() {
            [Packet::Disconnect(disconnect)] => {
                assert_eq!(disconnect.reason_code, *reason, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn faults_of_3_1_1_close_without_a_word() {
    let listener = start("").await;
    for (name, bytes) in [
        ("reserved subscription bits", &[0x82, 6, 0, 1, 0, 1, b'a', 4][..]),
        ("AUTH", &[0xf0, 0]),
        ("packet identifier 0", &[0x32, 5, 0, 1, b'a', 0, 0]),
        ("PUBACK with a reason", &[0x40, 3, 0, 1, 0]),
    ] {
        let mut client = listener.v4("faulty").await;
        client.0.write(bytes).await;
        assert!(client.end().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn connect_packets_with_faults_are_refused() {
    let listener = start("").await;
    let connect = |flags: u8, rest: &[u8]| {
        let mut packet = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 60, 0, 1, b'x'];
        packet.extend_from_slice(rest);
        packet[1] = u8::try_from(packet.len() - 2).unwrap();
        packet
    };
    for (name, packet, accepted) in [
        ("correct", connect(2, &[]), true),
        ("reserved flag", connect(3, &[]), false),
        ("will QoS without a will", connect(0x0a, &[]), false),
        ("will retain without a will", connect(0x22, &[]), false),
        ("will QoS 3", connect(0x1e, &[0, 1, b'w', 0, 0]), false),
        ("password without a user name", connect(0x42, &[0, 1, b'p']), false),
        ("user name that is missing", connect(0x82, &[]), false),
        ("bytes behind the end", connect(2, &[1, 2]), false),
    ] {
        let mut raw = crate::common::Raw::open(listener.address).await;
        raw.write(&packet).await;
        if accepted {
            assert!(crate::common::soon("CONNACK", raw.fill()).await);
            assert_eq!(raw.buffer[..], [0x20, 2, 0, 0]);
        } else {
            let said = raw.closed().await;
            assert_ne!(said.get(3), Some(&0), "{name}: {said:x?}");
        }
    }
}
