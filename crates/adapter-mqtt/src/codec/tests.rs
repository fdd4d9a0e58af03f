mod client;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};
use transload_envelope::Text;

use super::{
    Ack, AckKind, ConnAck, MessageProperties, Packet, QoS, Reason, Version, connack, decode,
    disconnect, frame_length, puback, publish_head, suback, unsuback,
};

fn text() -> impl Strategy<Value = String> {
    "[a-z/ä😀 ]{0,20}"
}

fn properties() -> impl Strategy<Value = v5::PublishProperties> {
    (
        any::<bool>(),
        any::<Option<u32>>(),
        proptest::option::of(text()),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        proptest::collection::vec((text(), text()), 0..4),
        proptest::option::of(text()),
    )
        .prop_map(|(utf8, expiry, response, correlation, user, content_type)| {
            v5::PublishProperties {
                payload_format_indicator: utf8.then_some(1),
                message_expiry_interval: expiry,
                topic_alias: None,
                response_topic: response,
                correlation_data: correlation.map(Bytes::from),
                user_properties: user,
                subscription_identifiers: Vec::new(),
                content_type,
            }
        })
}

fn publish() -> impl Strategy<Value = v5::Publish> {
    (any::<bool>(), 0..3_u8, any::<bool>(), 1..u16::MAX, text(), any::<Vec<u8>>(), properties())
        .prop_map(|(dup, qos, retain, pkid, topic, payload, properties)| v5::Publish {
            dup: dup && qos > 0,
            qos: rumqttc::v5::mqttbytes::qos(qos).unwrap(),
            retain,
            topic: topic.into(),
            pkid: if qos > 0 { pkid } else { 0 },
            payload: payload.into(),
            properties: (properties != v5::PublishProperties::default()).then_some(properties),
        })
}

fn read(version: Version, bytes: BytesMut) -> Packet {
    let bytes = bytes.freeze();
    assert_eq!(frame_length(&bytes, usize::MAX), Ok(Some(bytes.len())));
    decode(version, bytes).unwrap()
}

/// Writes what was read, as the listener would to a subscriber.
fn write(version: Version, packet: &Packet) -> BytesMut {
    let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
    let head = publish.head();
    let mut bytes = BytesMut::new();
    let total = publish_head(&mut bytes, version, &head, None).unwrap();
    bytes.extend_from_slice(&publish.payload);
    assert_eq!(total, bytes.len());
    assert_eq!(publish_head(&mut BytesMut::new(), version, &head, Some(1)), None);
    bytes
}

proptest! {
    #[test]
    fn a_publish_of_5_is_read_and_written_as_another_codec_does(publish in publish()) {
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        let packet = read(Version::V5, bytes);
        let mut bytes = write(Version::V5, &packet);
        let again = v5::Packet::read(&mut bytes, None).unwrap();
        prop_assert_eq!(again, v5::Packet::Publish(publish));
    }

    #[test]
    fn a_publish_of_3_1_1_too(publish in publish()) {
        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
        let mut publish = v4::Publish {
            dup: publish.dup,
            qos: rumqttc::qos(publish.qos as u8).unwrap(),
            retain: publish.retain,
            topic,
            pkid: publish.pkid,
            payload: publish.payload,
        };
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        let packet = read(Version::V311, bytes);
        let mut bytes = write(Version::V311, &packet);
        let again = v4::Packet::read(&mut bytes, usize::MAX).unwrap();
        // The other codec leaves the topic out of nothing.
        publish.dup = publish.dup && publish.pkid > 0;
        prop_assert_eq!(again, v4::Packet::Publish(publish));
    }

    #[test]
    fn no_bytes_make_reading_panic(
        publish in publish(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        first in any::<u8>(),
    ) {
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for version in [Version::V311, Version::V5] {
            let _ = super::sniff_version(&bytes);
            let _ = frame_length(&bytes, 1000);
            let _ = decode(version, bytes.clone().freeze());
            let mut other = bytes.clone();
            other[0] = first;
            other.truncate(cut.index(other.len()) + 1);
            let _ = decode(version, other.freeze());
        }
    }

    #[test]
    fn no_random_bytes_make_reading_panic(bytes in any::<Vec<u8>>()) {
        let _ = super::sniff_version(&bytes);
        let _ = frame_length(&bytes, 1000);
        for version in [Version::V311, Version::V5] {
            let _ = decode(version, Bytes::from(bytes.clone()));
        }
    }
}

#[test]
fn lengths_are_found_as_soon_as_they_are_there() {
    for (bytes, length) in [
        (&[][..], None),
        (&[0xc0], None),
        (&[0xc0, 0], Some(2)),
        (&[0x30, 0x7f], Some(129)),
        (&[0x30, 0x80], None),
        (&[0x30, 0x80, 0x01], Some(131)),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f], Some(268_435_460)),
    ] {
        assert_eq!(frame_length(bytes, usize::MAX), Ok(length), "{bytes:x?}");
    }
    assert!(frame_length(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX).is_err());
    let fault = frame_length(&[0x30, 0x7f], 128).unwrap_err();
    assert_eq!(fault.reason, Reason::PACKET_TOO_LARGE);
    assert_eq!(frame_length(&[0x30, 0x7f], 129), Ok(Some(129)));
}

#[test]
fn connect_is_read_as_another_codec_writes_it() {
    let properties = v5::ConnectProperties {
        session_expiry_interval: Some(7),
        receive_maximum: Some(8),
        max_packet_size: Some(900),
        request_problem_info: Some(0),
        ..v5::ConnectProperties::new()
    };
    let will_properties = v5::LastWillProperties {
        delay_interval: Some(5),
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(6),
        content_type: Some("c".into()),
        response_topic: Some("r".into()),
        correlation_data: Some(Bytes::from_static(b"\0")),
        user_properties: vec![("a".into(), "b".into())],
    };
    let qos = rumqttc::v5::mqttbytes::QoS::ExactlyOnce;
    let will = v5::LastWill::new("will", "gone", qos, true, Some(will_properties));
    let connect = v5::Connect {
        keep_alive: 60,
        client_id: "id".into(),
        clean_start: true,
        properties: Some(properties),
    };
    let mut bytes = BytesMut::new();
    connect.write(&Some(will), &Some(v5::Login::new("u", "p")), &mut bytes).unwrap();
    assert_eq!(super::sniff_version(&bytes), Version::V5);
    let Packet::Connect(connect) = read(Version::V5, bytes) else { panic!() };
    assert_eq!((&*connect.client_id, connect.clean, connect.keep_alive_s), ("id", true, 60));
    assert_eq!((connect.session_expiry_s, connect.receive_maximum), (7, 8));
    assert_eq!((connect.packet_bytes_max, connect.problem_information), (Some(900), false));
    assert_eq!(connect.username.as_deref(), Some("u"));
    assert_eq!(connect.password.as_deref(), Some(&b"p"[..]));
    let will = connect.will.unwrap();
    assert_eq!((will.delay_s, will.publish.expiry_s), (5, Some(6)));
    assert_eq!((will.publish.qos, will.publish.retain), (QoS::ExactlyOnce, true));
    assert_eq!(&*will.publish.topic, "will");
    let expected = MessageProperties {
        utf8_payload: true,
        content_type: Some("c".into()),
        response_topic: Some("r".into()),
        correlation: Some(Bytes::from_static(b"\0")),
        user: vec![("a".into(), "b".into())],
    };
    assert_eq!(will.publish.properties.as_deref(), Some(&expected));
}

/// What the listener writes, as another codec reads it.
fn written(write: impl FnOnce(&mut BytesMut)) -> v5::Packet {
    let mut bytes = BytesMut::new();
    write(&mut bytes);
    let packet = v5::Packet::read(&mut bytes, None).unwrap();
    assert!(bytes.is_empty());
    packet
}

#[test]
fn connack_is_read_by_another_codec() {
    let answer = ConnAck {
        session_present: true,
        reason: Reason::SUCCESS,
        reason_string: Some("text".into()),
        session_expiry_s: Some(1),
        receive_maximum: Some(2),
        packet_bytes_max: Some(3),
        assigned_client_id: Some("id".into()),
        topic_alias_maximum: 4,
        server_keep_alive_s: Some(5),
    };
    let packet = written(|bytes| connack(bytes, Version::V5, &answer));
    let v5::Packet::ConnAck(read) = packet else { panic!("{packet:?}") };
    assert!(read.session_present);
    let properties = read.properties.unwrap();
    assert_eq!(properties.session_expiry_interval, Some(1));
    assert_eq!(properties.receive_max, Some(2));
    assert_eq!(properties.max_packet_size, Some(3));
    assert_eq!(properties.assigned_client_identifier.as_deref(), Some("id"));
    assert_eq!(properties.topic_alias_max, Some(4));
    assert_eq!(properties.server_keep_alive, Some(5));
    assert_eq!(properties.reason_string.as_deref(), Some("text"));
}

#[test]
fn other_answers_are_read_by_another_codec() {
    let ack = Ack { kind: AckKind::PubAck, packet_id: 300, reason: Reason::QUOTA_EXCEEDED };
    let packet = written(|bytes| puback(bytes, Version::V5, ack, Some("full")));
    let v5::Packet::PubAck(read) = packet else { panic!("{packet:?}") };
    assert_eq!((read.pkid, read.reason), (300, v5::PubAckReason::QuotaExceeded));
    assert_eq!(read.properties.unwrap().reason_string.as_deref(), Some("full"));

    let codes: Vec<_> = (0..200).map(|_| Reason::TOPIC_FILTER_INVALID).collect();
    let packet = written(|bytes| suback(bytes, Version::V5, 9, &codes));
    let v5::Packet::SubAck(read) = packet else { panic!("{packet:?}") };
    assert_eq!((read.pkid, read.return_codes.len()), (9, 200));

    let packet = written(|bytes| unsuback(bytes, Version::V5, 9, &[Reason::SUCCESS]));
    assert!(matches!(packet, v5::Packet::UnsubAck(_)));

    let reason = Reason::SERVER_SHUTTING_DOWN;
    let packet = written(|bytes| disconnect(bytes, Version::V5, reason, Some("bye")));
    let v5::Packet::Disconnect(read) = packet else { panic!("{packet:?}") };
    assert_eq!(read.reason_code, v5::DisconnectReasonCode::ServerShuttingDown);
    let mut nothing = BytesMut::new();
    disconnect(&mut nothing, Version::V311, reason, None);
    assert!(nothing.is_empty(), "3.1.1 has no DISCONNECT from a server");
}

#[test]
fn payloads_and_long_texts_are_slices_of_the_frame() {
    let frame = Bytes::from_static(b"\x30\x1f\x00\x1aplants/1/lines/7/robots/42\x00xy");
    let Packet::Publish(publish) = decode(Version::V5, frame.clone()).unwrap() else { panic!() };
    assert_eq!(publish.topic, Text::from("plants/1/lines/7/robots/42"));
    assert_eq!(publish.payload.as_ptr(), frame[31..].as_ptr());
    assert_eq!(publish.topic.as_bytes().as_ptr(), frame[4..].as_ptr());
}
