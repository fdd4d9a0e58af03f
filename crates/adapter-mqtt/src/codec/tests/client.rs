//! The side of a client, with another codec as its server.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

use super::{publish, text};
use crate::codec::{
    ConnectHead, Disconnect, FromServer, Packet, QoS, Reason, RetainHandling, SubscribeOptions,
    Version, connect, decode, decode_from_server, frame_length, goodbye, pingreq, publish_head,
    subscribe,
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

fn read(version: Version, bytes: &BytesMut) -> FromServer {
    assert_eq!(frame_length(bytes, usize::MAX), Ok(Some(bytes.len())));
    decode_from_server(version, bytes.clone().freeze()).unwrap()
}

fn head(version: Version) -> ConnectHead<'static> {
    ConnectHead {
        version,
        client_id: "me",
        clean: false,
        keep_alive_s: 30,
        login: Some(("user", "secret")),
        session_expiry_s: 7,
        receive_maximum: 8,
        packet_bytes_max: Some(900),
    }
}

fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut bytes = BytesMut::new();
    write(&mut bytes);
    bytes
}

#[test]
fn connect_is_read_by_another_codec() {
    let mut bytes = written(|bytes| connect(bytes, &head(Version::V5)));
    let v5::Packet::Connect(read, will, login) = v5::Packet::read(&mut bytes, None).unwrap() else {
        panic!("CONNECT is expected")
    };
    assert!(bytes.is_empty() && will.is_none());
    assert_eq!((&*read.client_id, read.clean_start, read.keep_alive), ("me", false, 30));
    assert_eq!(login, Some(v5::Login::new("user", "secret")));
    let properties = read.properties.unwrap();
    assert_eq!(properties.session_expiry_interval, Some(7));
    assert_eq!(properties.receive_maximum, Some(8));
    assert_eq!(properties.max_packet_size, Some(900));
    assert_eq!(properties.topic_alias_max, None, "which is 0");

    let mut bytes = written(|bytes| connect(bytes, &head(Version::V311)));
    let v4::Packet::Connect(read) = v4::Packet::read(&mut bytes, 1000).unwrap() else {
        panic!("CONNECT is expected")
    };
    assert!(bytes.is_empty() && read.last_will.is_none());
    assert_eq!((&*read.client_id, read.clean_session, read.keep_alive), ("me", false, 30));
    assert_eq!(read.login, Some(v4::Login::new("user", "secret")));
}

#[test]
fn a_login_may_have_no_password_and_a_client_no_login() {
    for (login, expected) in [(None, None), (Some(("user", "")), Some(v5::Login::new("user", "")))]
    {
        let mut bytes = written(|bytes| {
            connect(bytes, &ConnectHead { login, clean: true, ..head(Version::V5) });
        });
        assert_eq!(bytes[9], if login.is_some() { 0x82 } else { 0x02 }, "the flags");
        let v5::Packet::Connect(_, _, login) = v5::Packet::read(&mut bytes, None).unwrap() else {
            panic!("CONNECT is expected")
        };
        assert_eq!(login, expected);
    }
}

#[test]
fn subscribe_is_read_by_another_codec() {
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    let filters = [("a/+", options), ("$share/g/b/#", SubscribeOptions::default())];
    let mut bytes = written(|bytes| subscribe(bytes, Version::V5, 9, &filters));
    let v5::Packet::Subscribe(read) = v5::Packet::read(&mut bytes, None).unwrap() else {
        panic!("SUBSCRIBE is expected")
    };
    assert_eq!((read.pkid, read.filters.len()), (9, 2));
    let [first, second] = &*read.filters else { panic!("two filters are expected") };
    assert_eq!((&*first.path, first.qos as u8, first.preserve_retain), ("a/+", 1, true));
    assert_eq!(first.retain_forward_rule, v5::RetainForwardRule::OnNewSubscribe);
    assert_eq!((&*second.path, second.qos as u8), ("$share/g/b/#", 0));

    let mut bytes = written(|bytes| subscribe(bytes, Version::V311, 9, &filters));
    let v4::Packet::Subscribe(read) = v4::Packet::read(&mut bytes, 1000).unwrap() else {
        panic!("SUBSCRIBE is expected")
    };
    assert_eq!((read.pkid, read.filters.len()), (9, 2));
    assert_eq!(read.filters[0].qos, rumqttc::QoS::AtLeastOnce);
}

#[test]
fn small_packets_are_read_by_another_codec() {
    let mut bytes = written(pingreq);
    assert_eq!(v4::Packet::read(&mut bytes.clone(), 10).unwrap(), v4::Packet::PingReq);
    assert!(matches!(v5::Packet::read(&mut bytes, None).unwrap(), v5::Packet::PingReq(_)));
    let bytes = written(goodbye);
    assert_eq!(v4::Packet::read(&mut bytes.clone(), 10).unwrap(), v4::Packet::Disconnect);
    // The other codec refuses version 5's shortest form (MQTT 5, section 3.14.2.1).
    let expected = Disconnect { reason: Reason::SUCCESS, session_expiry_s: None };
    let read = decode(Version::V5, bytes.freeze()).unwrap();
    assert_eq!(read, Packet::Disconnect(expected));
}

#[test]
fn connack_is_read_as_another_codec_writes_it() {
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(1),
        receive_max: Some(2),
        max_qos: Some(1),
        retain_available: Some(0),
        max_packet_size: Some(3),
        assigned_client_identifier: Some("id".into()),
        topic_alias_max: Some(4),
        reason_string: Some("text".into()),
        user_properties: vec![("a".into(), "b".into()), ("a".into(), "c".into())],
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(1),
        shared_subscription_available: Some(0),
        server_keep_alive: Some(5),
        response_information: Some("r".into()),
        server_reference: Some("s".into()),
        authentication_method: Some("m".into()),
        authentication_data: Some(Bytes::from_static(b"d")),
    };
    let code = v5::ConnectReturnCode::Success;
    let connack = v5::ConnAck { session_present: true, code, properties: Some(properties) };
    let bytes = written(|bytes| assert!(connack.write(bytes).is_ok()));
    let FromServer::ConnAck(read) = read(Version::V5, &bytes) else { panic!("CONNACK") };
    assert!(read.session_present);
    assert_eq!((read.reason, read.reason_string.as_deref()), (Reason::SUCCESS, Some("text")));
    assert_eq!((read.session_expiry_s, read.receive_maximum), (Some(1), Some(2)));
    assert_eq!((read.packet_bytes_max, read.server_keep_alive_s), (Some(3), Some(5)));
    assert_eq!((read.assigned_client_id.as_deref(), read.topic_alias_maximum), (Some("id"), 4));
}

#[test]
fn refusals_of_3_1_1_are_told_by_the_codes_of_5() {
    for version in VERSIONS {
        for (code, reason) in [
            (1, Reason::UNSUPPORTED_VERSION),
            (2, Reason::CLIENT_ID_NOT_VALID),
            (3, Reason::SERVER_UNAVAILABLE),
            (4, Reason::BAD_USER_NAME_OR_PASSWORD),
            (5, Reason::NOT_AUTHORIZED),
        ] {
            let frame = Bytes::copy_from_slice(&[0x20, 2, 0, code]);
            let FromServer::ConnAck(read) = decode_from_server(version, frame).unwrap() else {
                panic!("CONNACK is expected")
            };
            assert_eq!(read.reason, reason);
        }
        let reserved = Bytes::from_static(&[0x20, 2, 0, 6]);
        assert!(decode_from_server(version, reserved).is_err());
    }
}

#[test]
fn other_answers_are_read_as_another_codec_writes_them() {
    let return_codes = vec![
        v5::SubscribeReasonCode::Success(rumqttc::v5::mqttbytes::QoS::AtLeastOnce),
        v5::SubscribeReasonCode::NotAuthorized,
    ];
    let properties = v5::SubAckProperties {
        reason_string: Some("text".into()),
        user_properties: vec![("a".into(), "b".into())],
    };
    let suback = v5::SubAck { pkid: 7, return_codes, properties: Some(properties) };
    let bytes = written(|bytes| assert!(suback.write(bytes).is_ok()));
    let FromServer::SubAck(answer) = read(Version::V5, &bytes) else { panic!("SUBACK") };
    assert_eq!(answer.packet_id, 7);
    assert_eq!(answer.codes().collect::<Vec<_>>(), [Reason(1), Reason::NOT_AUTHORIZED]);

    let suback = v4::SubAck::new(7, vec![v4::SubscribeReasonCode::Failure]);
    let bytes = written(|bytes| assert!(suback.write(bytes).is_ok()));
    let FromServer::SubAck(answer) = read(Version::V311, &bytes) else { panic!("SUBACK") };
    assert_eq!(answer.codes().collect::<Vec<_>>(), [Reason::UNSPECIFIED]);

    let bytes = written(|bytes| assert!(v4::PingResp.write(bytes).is_ok()));
    for version in VERSIONS {
        assert_eq!(read(version, &bytes), FromServer::PingResp);
    }

    let mut disconnect = v5::Disconnect::new(v5::DisconnectReasonCode::SessionTakenOver);
    disconnect.properties = Some(v5::DisconnectProperties {
        session_expiry_interval: None,
        reason_string: Some("text".into()),
        user_properties: vec![("a".into(), "b".into())],
        server_reference: Some("s".into()),
    });
    let bytes = written(|bytes| assert!(disconnect.write(bytes).is_ok()));
    let FromServer::Disconnect(farewell) = read(Version::V5, &bytes) else { panic!("DISCONNECT") };
    assert_eq!(farewell.reason, Reason::SESSION_TAKEN_OVER);
    assert_eq!(farewell.reason_string.as_deref(), Some("text"));
}

#[test]
fn what_a_server_must_not_send_is_refused() {
    for (frame, why) in [
        (&b"\x10\0"[..], "only clients send"),
        (b"\x82\0", "only clients send"),
        (b"\xa2\0", "only clients send"),
        (b"\xc0\0", "only clients send"),
        (b"\x40\x02\0\x01", "never sent"),
        (b"\x62\x02\0\x01", "never sent"),
        (b"\xb0\x02\0\x01", "never sent"),
        (b"\xf0\0", "AUTH"),
        (b"\0\0", "reserved packet type"),
        (b"\xd1\0", "reserved flags"),
        (b"\xd0\x01\0", "behind the packet's end"),
        (b"\x20\x03\x02\0\0", "reserved flags"),
        (b"\x20\x03\x01\x87\0", "a refusal that has a session"),
        (b"\x20\x03\0\x10\0", "CONNACK has not"),
        (b"\x20\x07\0\0\x04\x24\x01\x24\x01", "comes twice"),
        (b"\x20\x05\0\0\x02\x24\x02", "0 or 1"),
        (b"\x20\x05\0\0\x02\x01\x01", "does not belong"),
        (b"\x90\x03\0\x01\0", "SUBACK has not"),
        (b"\x90\x04\0\x01\0\x03", "SUBACK has not"),
        (b"\x90\x04\0\0\0\0", "packet identifier 0"),
        (b"\x30\x07\0\x01a\x04\x23\0\x01", "ends too early"),
        (b"\x30\x07\0\x01a\x03\x23\0\x01", "topic alias"),
        (b"\x30\x03\0\0\0", "topic name"),
        (b"\x30\x06\0\x03a/#\0", "topic name"),
        (b"\x30\x04\0\x01\xff\0", "not UTF-8"),
        (b"\x36\x06\0\x01a\0\x01\0", "QoS 3"),
        (b"\xe0\x07\x8e\x05\x11\0\0\0\x01", "does not belong"),
    ] {
        let fault = decode_from_server(Version::V5, Bytes::copy_from_slice(frame)).unwrap_err();
        assert!(fault.what.contains(why), "{frame:x?}: {fault}");
    }
    let disconnect = Bytes::from_static(b"\xe0\0");
    assert!(decode_from_server(Version::V311, disconnect).is_err());
}

proptest! {
    #[test]
    fn a_publish_is_read_as_another_codec_writes_it(
        mut publish in publish(),
        ids in proptest::collection::vec(1..268_435_455_usize, 0..3),
        topic in text(),
    ) {
        publish.topic = format!("t{topic}").into();
        if !ids.is_empty() {
            publish.properties.get_or_insert_default().subscription_identifiers = ids;
        }
        let bytes = written(|bytes| assert!(publish.write(bytes).is_ok()));
        let FromServer::Publish(read) = read(Version::V5, &bytes) else { panic!("PUBLISH") };
        let mut again = BytesMut::new();
        publish_head(&mut again, Version::V5, &read.head(), None).unwrap();
        again.extend_from_slice(&read.payload);
        if let Some(properties) = &mut publish.properties {
            // They say nothing that a message keeps.
            properties.subscription_identifiers.clear();
            if *properties == v5::PublishProperties::default() {
                publish.properties = None;
            }
        }
        let again = v5::Packet::read(&mut again, None).unwrap();
        prop_assert_eq!(again, v5::Packet::Publish(publish));
    }

    #[test]
    fn no_bytes_make_reading_panic(
        publish in publish(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        random in any::<Vec<u8>>(),
        first in any::<u8>(),
    ) {
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let mut other = bytes.clone();
        other[0] = first;
        for bytes in [bytes.freeze(), other.freeze(), random.into()] {
            for version in VERSIONS {
                let _ = decode_from_server(version, bytes.clone());
            }
        }
    }
}
