//! The client against a scripted broker, which does what real ones seldom do.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{
    Adapter, ConnectError, Context, Destination, Endpoints, Interest, NoObserver, SendError, Sent,
    Settlement,
};
use transload_delivery::MemoryStore;
use transload_envelope::{Arguments, Envelope, Origin, Outgoing, Text};

use super::{ClientConfig, ClientTarget, MqttClient};
use crate::codec::{self, Ack, AckKind, ConnAck, Packet, PublishHead, QoS, Reason, Version};

const DEADLINE: Duration = Duration::from_secs(10);

/// One connection at the broker's side.
struct Peer {
    stream: TcpStream,
    read: BytesMut,
    version: Version,
    client_id: Text,
}

impl Peer {
    /// Takes a connection and answers its CONNECT.
    async fn accept(listener: &TcpListener, reason: Reason) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer =
            Self { stream, read: BytesMut::new(), version: Version::V5, client_id: Text::new() };
        let frame = peer.frame().await.unwrap();
        peer.version = codec::sniff_version(&frame);
        let Packet::Connect(connect) = codec::decode(peer.version, frame).unwrap() else {
            panic!("the first packet is CONNECT")
        };
        peer.client_id = connect.client_id;
        let mut out = BytesMut::new();
        let connack = ConnAck {
            session_present: false,
            reason,
            reason_string: None,
            session_expiry_s: None,
            receive_maximum: None,
            packet_bytes_max: Some(2_000),
            assigned_client_id: None,
            topic_alias_maximum: 0,
            server_keep_alive_s: None,
        };
        codec::connack(&mut out, peer.version, &connack);
        peer.write(&out).await;
        peer
    }

    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = codec::frame_length(&self.read, 1 << 20).unwrap()
                && self.read.len() >= length
            {
                return Some(self.read.split_to(length).freeze());
            }
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next packet; `None` at the end of the connection.
    async fn packet(&mut self) -> Option<Packet> {
        let frame = self.frame().await?;
        Some(codec::decode(self.version, frame).unwrap())
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn puback(&mut self, packet_id: u16, reason: Reason) {
        let mut out = BytesMut::new();
        codec::puback(
            &mut out,
            self.version,
            Ack { kind: AckKind::PubAck, packet_id, reason },
            None,
        );
        self.write(&out).await;
    }

    async fn publish(&mut self, packet_id: u16, payload: &str) {
        let mut out = BytesMut::new();
        let head = PublishHead {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            packet_id,
            topic: &"a/b".into(),
            expiry_s: None,
            subscription_ids: &[],
            properties: None,
            payload_bytes: payload.len(),
        };
        codec::publish_head(&mut out, self.version, &head, None).unwrap();
        out.extend_from_slice(payload.as_bytes());
        self.write(&out).await;
    }

    async fn suback(&mut self, packet_id: u16, code: Reason) {
        let mut out = BytesMut::new();
        codec::suback(&mut out, self.version, packet_id, &[code]);
        self.write(&out).await;
    }

    async fn expect_publishes(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.packet().await {
                Some(Packet::Publish(publish)) => ids.push(publish.packet_id),
                other => panic!("a publish is expected, not {other:?}"),
            }
        }
        ids
    }

    async fn expect_subscribe(&mut self) -> u16 {
        match self.packet().await {
            Some(Packet::Subscribe(subscribe)) => subscribe.packet_id,
            other => panic!("SUBSCRIBE is expected, not {other:?}"),
        }
    }
}

fn context(patterns: &[&str]) -> Context {
    Context {
        name: "other".into(),
        credits: Arc::new(Semaphore::new(1_000)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        interest: Arc::new(Interest {
            patterns: patterns.iter().map(|p| Text::from(*p)).collect(),
        }),
        updates: transload_adapter::Updates::default(),
        store: Arc::new(MemoryStore::default()),
        observer: Arc::new(NoObserver),
    }
}

async fn broker() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url = 'mqtt://{}'\n", listener.local_addr().unwrap());
    (listener, url)
}

async fn connect(
    settings: &str,
    patterns: &[&str],
) -> Result<Endpoints<ClientTarget>, ConnectError> {
    let config: ClientConfig = toml::from_str(settings).unwrap();
    timeout(DEADLINE, MqttClient::connect(Arc::new(config), context(patterns))).await.unwrap()
}

fn messages(count: usize, payload: &str) -> Vec<Outgoing> {
    let message = || Outgoing {
        envelope: Envelope::new(Origin::new("web", "http", "a/b"), payload.to_owned()),
        arguments: Arguments::default(),
    };
    (0..count).map(|_| message()).collect()
}

async fn send(
    endpoints: &Endpoints<ClientTarget>,
    target: &ClientTarget,
    batch: &[Outgoing],
) -> Vec<Result<Sent, SendError>> {
    let outbound = endpoints.outbound.as_ref().unwrap();
    timeout(DEADLINE, outbound.send(Destination { name: "d", target }, batch)).await.unwrap()
}

const VERSIONS: [&str; 2] = ["5", "3.1.1"];

#[tokio::test]
async fn confirmations_go_by_packet_id_and_reason() {
    let (listener, url) = broker().await;
    let script = TaskTracker::new().spawn(async move {
        let mut sink = Peer::accept(&listener, Reason::SUCCESS).await;
        assert_eq!(sink.client_id, "transload-other-out");
        let ids = sink.expect_publishes(4).await;
        let answers = [
            Reason::SUCCESS,
            Reason::NO_MATCHING_SUBSCRIBERS,
            Reason::QUOTA_EXCEEDED,
            Reason::PAYLOAD_FORMAT_INVALID,
        ];
        // The other way round, which the specification does not allow, and is met all the same.
        for (id, reason) in ids.into_iter().zip(answers).rev() {
            sink.puback(id, reason).await;
        }
        sink
    });
    let endpoints = connect(&url, &[]).await.unwrap();
    let results = send(&endpoints, &ClientTarget::default(), &messages(4, "x")).await;
    assert!(
        matches!(
            &*results,
            [
                Ok(Sent::Confirmed),
                Ok(Sent::NoReceiver),
                Err(SendError::Failed { .. }),
                Err(SendError::Rejected { .. })
            ]
        ),
        "{results:?}"
    );
    // The broker's own bound, from its CONNACK.
    let large = send(&endpoints, &ClientTarget::default(), &messages(1, &"x".repeat(2_000))).await;
    assert!(matches!(&*large, [Err(SendError::Rejected { .. })]), "{large:?}");
    let unacknowledged = ClientTarget { qos: Some(0), ..ClientTarget::default() };
    let results = send(&endpoints, &unacknowledged, &messages(1, "")).await;
    assert!(matches!(&*results, [Ok(Sent::Unconfirmed)]), "{results:?}");
    drop(script.await.unwrap());
}

#[tokio::test]
async fn what_is_not_acknowledged_when_the_connection_breaks_is_not_confirmed() {
    for version in VERSIONS {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            let mut sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let ids = sink.expect_publishes(3).await;
            sink.puback(ids[0], Reason::SUCCESS).await;
            // Closing with nothing unread, so that the acknowledgement still arrives.
            sink.stream.shutdown().await.unwrap();
            (listener, sink)
        });
        let settings = format!("{url}version = '{version}'");
        let mut endpoints = connect(&settings, &[]).await.unwrap();
        let results = send(&endpoints, &ClientTarget::default(), &messages(3, "x")).await;
        assert!(
            matches!(
                &*results,
                [
                    Ok(Sent::Confirmed),
                    Err(SendError::Disconnected(_)),
                    Err(SendError::Disconnected(_))
                ]
            ),
            "{version}: {results:?}"
        );
        timeout(DEADLINE, &mut endpoints.lost).await.unwrap();
        let again = send(&endpoints, &ClientTarget::default(), &messages(1, "x")).await;
        assert!(matches!(&*again, [Err(SendError::Disconnected(_))]), "{version}: {again:?}");
        // Nobody connects again behind the gateway's back.
        let (listener, _sink) = script.await.unwrap();
        assert!(timeout(Duration::from_millis(200), listener.accept()).await.is_err());
    }
}

#[tokio::test]
async fn a_backlog_before_the_suback_does_not_wedge_and_is_acknowledged_in_order() {
    for version in VERSIONS {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            let sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let mut source = Peer::accept(&listener, Reason::SUCCESS).await;
            assert_eq!(source.client_id, "transload-other");
            let subscribe = source.expect_subscribe().await;
            for id in 1..=3 {
                source.publish(id, &id.to_string()).await;
            }
            source.suback(subscribe, Reason(1)).await;
            let mut ids = Vec::new();
            while ids.len() < 3 {
                match source.packet().await {
                    Some(Packet::Ack(ack)) => ids.push(ack.packet_id),
                    other => panic!("PUBACK is expected, not {other:?}"),
                }
            }
            drop(sink);
            ids
        });
        let settings = format!("{url}version = '{version}'\nmax_inflight = 3");
        let mut endpoints = connect(&settings, &["a/#"]).await.unwrap();
        let inbound = endpoints.inbound.as_mut().unwrap();
        let mut got = Vec::new();
        while got.len() < 3 {
            timeout(DEADLINE, inbound.receive(&mut got, 10)).await.unwrap().unwrap();
        }
        let payloads: Vec<_> =
            got.iter().map(|delivery| delivery.envelope.payload.clone()).collect();
        assert_eq!(payloads, ["1", "2", "3"]);
        for delivery in got.into_iter().rev() {
            delivery.receipt.settle(Settlement::Accepted);
        }
        assert_eq!(script.await.unwrap(), [1, 2, 3], "{version}");
    }
}

#[tokio::test]
async fn a_released_message_is_offered_again_on_the_same_connection() {
    let (listener, url) = broker().await;
    let script = TaskTracker::new().spawn(async move {
        let sink = Peer::accept(&listener, Reason::SUCCESS).await;
        let mut source = Peer::accept(&listener, Reason::SUCCESS).await;
        let subscribe = source.expect_subscribe().await;
        source.suback(subscribe, Reason(1)).await;
        source.publish(9, "x").await;
        let ack = source.packet().await;
        drop(sink);
        ack
    });
    let mut endpoints = connect(&url, &["a/#"]).await.unwrap();
    let inbound = endpoints.inbound.as_mut().unwrap();
    for verdict in [Settlement::RELEASED, Settlement::Accepted] {
        let mut got = Vec::new();
        timeout(DEADLINE, inbound.receive(&mut got, 10)).await.unwrap().unwrap();
        assert_eq!(got.len(), 1);
        got.remove(0).receipt.settle(verdict);
    }
    assert!(matches!(script.await.unwrap(), Some(Packet::Ack(ack)) if ack.packet_id == 9));
}

#[tokio::test]
async fn refusals_are_told_from_outages() {
    for version in VERSIONS {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            drop(Peer::accept(&listener, Reason(0x87)).await);
            let sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let mut source = Peer::accept(&listener, Reason::SUCCESS).await;
            let subscribe = source.expect_subscribe().await;
            source.suback(subscribe, Reason(0x87)).await;
            (sink, source)
        });
        let settings = format!("{url}version = '{version}'");
        let login = connect(&settings, &[]).await;
        assert!(matches!(login, Err(ConnectError::Refused { .. })), "{version}: {login:?}");
        let subscription = connect(&settings, &["a/#"]).await;
        let Err(ConnectError::Refused { reason }) = subscription else {
            panic!("{version}: {subscription:?}")
        };
        assert!(reason.contains("a/#"), "{reason}");
        drop(script.await.unwrap());
        let away = connect(&settings, &[]).await;
        assert!(matches!(away, Err(ConnectError::Unreachable(_))), "{version}: {away:?}");
    }
}
