//! How the connection that takes messages in is made, and what comes of it when it cannot be.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        handshake::server::{ErrorResponse, Request, Response},
        http::HeaderValue,
    },
};
use tokio_util::task::TaskTracker;
use transload_adapter::ConnectError;
use transload_tls::testing::Authority;

use super::broker::{Peer, broker, connect, granted, publish};
use crate::{
    codec::{ConnAck, Reason, Version},
    io::Stream,
    websocket::WebSocketWire,
};

/// What becomes of a connection whose broker lets the publishing one in and answers the other's
/// CONNECT with these bytes.
async fn answered(settings: &str, answer: &'static [u8]) -> ConnectError {
    let (listener, url) = broker().await;
    let script = TaskTracker::new().spawn(async move {
        let sink = Peer::accept(&listener, Reason::SUCCESS).await;
        let (stream, _) = listener.accept().await.unwrap();
        let mut source = Peer::new(Box::new(stream));
        source.expect_connect().await;
        source.write(answer).await;
        source.stream.shutdown().await.unwrap();
        (sink, source)
    });
    let result = connect(&format!("{url}{settings}"), &["a/#"]).await;
    drop(script.await.unwrap());
    result.unwrap_err()
}

#[tokio::test]
async fn refusals_are_told_by_name() {
    for (version, answer, name) in [
        ("5", &b"\x20\x03\0\x86\0"[..], "bad user name or password (0x86)"),
        ("5", b"\x20\x08\0\x87\x05\x1f\0\x02no", "not authorized (0x87): no"),
        ("5", b"\x20\x03\0\x84\0", "it may know `version = \"3.1.1\"`"),
        // A broker that has never heard of version 5.
        ("5", b"\x20\x02\0\x01", "it may know `version = \"3.1.1\"`"),
        ("5", b"\x20\x03\0\x8a\0", "banned"),
        ("3.1.1", b"\x20\x02\0\x02", "client identifier not valid"),
        ("3.1.1", b"\x20\x02\0\x03", "server unavailable"),
        ("3.1.1", b"\x20\x02\0\x04", "bad user name or password"),
        ("3.1.1", b"\x20\x02\0\x05", "not authorized"),
        ("5", b"\xd0\0", "no MQTT broker"),
    ] {
        let error = answered(&format!("version = '{version}'"), answer).await;
        let ConnectError::Refused { reason } = error else { panic!("{name}: {error:?}") };
        assert!(reason.contains(name), "{name}: {reason}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_outage() {
    for (answer, why) in [
        (&b""[..], "closed the connection"),
        (b"H\0", "cannot be taken"),
        (b"\x20\x03\x02\0\0", "reserved flags"),
        (b"\x20\x80\x80\x80\x80\x01", "remaining length"),
    ] {
        let error = answered("", answer).await;
        let ConnectError::Unreachable(reason) = error else { panic!("{why}: {error:?}") };
        assert!(reason.to_string().contains(why), "{why}: {reason}");
    }
}

#[tokio::test]
async fn a_broker_that_takes_no_packet_so_large_is_not_asked() {
    let (listener, url) = broker().await;
    let script = TaskTracker::new().spawn(async move {
        let sink = Peer::accept(&listener, Reason::SUCCESS).await;
        let connack = ConnAck { packet_bytes_max: Some(20), ..granted() };
        (sink, Peer::accept_with(&listener, connack).await)
    });
    let error = connect(&url, &["a/long/filter/#"]).await.unwrap_err();
    let ConnectError::Unusable { reason } = error else { panic!("{error:?}") };
    assert!(reason.contains("the broker takes 20"), "{reason}");
    drop(script.await.unwrap());
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_not_waited_for_for_ever() {
    for answers in [false, true] {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            let sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let (stream, _) = listener.accept().await.unwrap();
            let source = if answers {
                let mut source = Peer::answer(Box::new(stream), &granted()).await;
                source.expect_subscribe().await;
                source
            } else {
                Peer::new(Box::new(stream))
            };
            (sink, source)
        });
        let error = connect(&format!("{url}connect_timeout = '1s'"), &["a/#"]).await.unwrap_err();
        let ConnectError::Unreachable(reason) = error else { panic!("{error:?}") };
        assert!(reason.to_string().contains("does not answer"), "{reason}");
        drop(script.await.unwrap());
    }
}

#[tokio::test]
async fn the_login_and_the_terms_are_said() {
    for version in ["5", "3.1.1"] {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            let sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let (stream, _) = listener.accept().await.unwrap();
            let mut source = Peer::new(Box::new(stream));
            (sink, source.expect_connect().await)
        });
        let settings = format!(
            "{url}version = '{version}'\nusername = 'ann'\npassword = 'secret'\nmax_inflight = 7\n\
             keep_alive = '9s'\nclient_id = 'me'\nsession_expiry = '1m'\nmax_packet_bytes = '2KiB'"
        );
        connect(&settings, &["a/#"]).await.unwrap_err();
        let (_sink, connect) = script.await.unwrap();
        assert_eq!((&*connect.client_id, connect.clean, connect.keep_alive_s), ("me", false, 9));
        assert_eq!(connect.username.as_deref(), Some("ann"));
        assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
        if connect.version == Version::V5 {
            assert_eq!((connect.session_expiry_s, connect.receive_maximum), (60, 7));
            assert_eq!(connect.packet_bytes_max, Some(2048));
        }
    }
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    reason = "the signature is the library's"
)]
fn choose_mqtt(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let protocol = HeaderValue::from_static("mqtt");
    response.headers_mut().insert("sec-websocket-protocol", protocol);
    Ok(response)
}

/// A connection as a broker with these ways in takes it.
async fn take(listener: &TcpListener, tls: Option<&TlsAcceptor>, web: bool) -> Box<dyn Stream> {
    let (stream, _) = listener.accept().await.unwrap();
    match (tls, web) {
        (None, false) => Box::new(stream),
        (None, true) => {
            Box::new(WebSocketWire::new(accept_hdr_async(stream, choose_mqtt).await.unwrap()))
        }
        (Some(tls), false) => Box::new(tls.accept(stream).await.unwrap()),
        (Some(tls), true) => {
            let stream = tls.accept(stream).await.unwrap();
            Box::new(WebSocketWire::new(accept_hdr_async(stream, choose_mqtt).await.unwrap()))
        }
    }
}

#[tokio::test]
async fn all_ways_lead_to_a_broker() {
    let authority = Authority::new("own");
    let signed = authority.sign("broker", &["localhost"]);
    let acceptor = TlsAcceptor::from(Arc::new(Authority::server(&signed, None)));
    for (scheme, path) in [("mqtt", ""), ("mqtts", ""), ("ws", "/mqtt"), ("wss", "/mqtt")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (secure, web) = (scheme.ends_with('s') && scheme != "ws", scheme.starts_with('w'));
        let acceptor = secure.then(|| acceptor.clone());
        let script = TaskTracker::new().spawn(async move {
            let wire = take(&listener, acceptor.as_ref(), web).await;
            let sink = Peer::answer(wire, &granted()).await;
            let wire = take(&listener, acceptor.as_ref(), web).await;
            let mut source = Peer::answer(wire, &granted()).await;
            let subscribe = source.expect_subscribe().await;
            source.suback(subscribe, Reason(1)).await;
            // Packets need not begin where messages do.
            let messages = publish(source.version, 7, &vec![b'x'; 100_000]);
            let (first, second) = messages.split_at(70_000);
            source.write(first).await;
            source.write(second).await;
            (sink, source.packet().await)
        });
        let tls = format!("tls = {{ ca_file = '{}' }}", authority.file().display());
        let tls = if secure { &*tls } else { "" };
        let settings = format!("url = '{scheme}://localhost:{port}{path}'\n{tls}");
        let mut endpoints = connect(&settings, &["a/#"]).await.unwrap();
        let mut got = Vec::new();
        endpoints.inbound.as_mut().unwrap().receive(&mut got, 10).await.unwrap();
        assert_eq!(got[0].envelope.payload.len(), 100_000, "{scheme}");
        got.remove(0).receipt.settle(transload_adapter::Settlement::Accepted);
        let (_sink, ack) = script.await.unwrap();
        assert!(matches!(ack, Some(crate::codec::Packet::Ack(ack)) if ack.packet_id == 7));
    }
}

#[tokio::test]
async fn a_websocket_server_that_speaks_no_mqtt_refuses() {
    let (listener, url) = broker().await;
    let url = url.replace("mqtt:", "ws:");
    let script = TaskTracker::new().spawn(async move {
        let wire = take(&listener, None, true).await;
        let sink = Peer::answer(wire, &granted()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let other = tokio_tungstenite::accept_async(stream).await;
        (sink, other.is_ok())
    });
    let error = connect(&url, &["a/#"]).await.unwrap_err();
    let ConnectError::Refused { reason } = error else { panic!("{error:?}") };
    assert!(reason.contains("ubprotocol"), "{reason}");
    drop(script.await.unwrap());
}
