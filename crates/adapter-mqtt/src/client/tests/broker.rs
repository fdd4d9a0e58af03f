//! A scripted broker.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{Adapter, ConnectError, Context, Endpoints, Interest, NoObserver};
use transload_delivery::MemoryStore;
use transload_envelope::Text;

use crate::{
    client::{ClientConfig, ClientTarget, MqttClient},
    codec::{self, Ack, AckKind, ConnAck, Connect, Packet, PublishHead, QoS, Reason, Version},
    io::Stream,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// What the broker says to whom it lets in.
pub(crate) fn granted() -> ConnAck {
    ConnAck {
        session_present: false,
        reason: Reason::SUCCESS,
        reason_string: None,
        session_expiry_s: None,
        receive_maximum: None,
        packet_bytes_max: Some(2_000),
        assigned_client_id: None,
        topic_alias_maximum: 0,
        server_keep_alive_s: None,
    }
}

/// A message under `a/b`, of quality of service 0 with the packet identifier 0, and else 1.
pub(crate) fn publish(version: Version, packet_id: u16, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let head = PublishHead {
        dup: false,
        qos: if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: false,
        packet_id,
        topic: &"a/b".into(),
        expiry_s: None,
        subscription_ids: &[],
        properties: None,
        payload_bytes: payload.len(),
    };
    codec::publish_head(&mut out, version, &head, None).unwrap();
    out.extend_from_slice(payload);
    out
}

/// One connection at the broker's side.
pub(crate) struct Peer {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) read: BytesMut,
    pub(crate) version: Version,
    pub(crate) client_id: Text,
}

impl Peer {
    /// Takes a connection and answers its CONNECT.
    pub(crate) async fn accept(listener: &TcpListener, reason: Reason) -> Self {
        Self::accept_with(listener, ConnAck { reason, ..granted() }).await
    }

    pub(crate) async fn accept_with(listener: &TcpListener, connack: ConnAck) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self::answer(Box::new(stream), &connack).await
    }

    /// The same on a connection that is there already.
    pub(crate) async fn answer(stream: Box<dyn Stream>, connack: &ConnAck) -> Self {
        let mut peer = Self::new(stream);
        let connect = peer.expect_connect().await;
        peer.client_id = connect.client_id;
        let mut out = BytesMut::new();
        codec::connack(&mut out, peer.version, connack);
        peer.write(&out).await;
        peer
    }

    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, read: BytesMut::new(), version: Version::V5, client_id: Text::new() }
    }

    pub(crate) async fn expect_connect(&mut self) -> Connect {
        let frame = self.frame().await.unwrap();
        self.version = codec::sniff_version(&frame);
        let Packet::Connect(connect) = codec::decode(self.version, frame).unwrap() else {
            panic!("the first packet is CONNECT")
        };
        *connect
    }

    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
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
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        let frame = self.frame().await?;
        Some(codec::decode(self.version, frame).unwrap())
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn puback(&mut self, packet_id: u16, reason: Reason) {
        let mut out = BytesMut::new();
        codec::puback(
            &mut out,
            self.version,
            Ack { kind: AckKind::PubAck, packet_id, reason },
            None,
        );
        self.write(&out).await;
    }

    pub(crate) async fn publish(&mut self, packet_id: u16, payload: &str) {
        let out = publish(self.version, packet_id, payload.as_bytes());
        self.write(&out).await;
    }

    pub(crate) async fn suback(&mut self, packet_id: u16, code: Reason) {
        let mut out = BytesMut::new();
        codec::suback(&mut out, self.version, packet_id, &[code]);
        self.write(&out).await;
    }

    pub(crate) async fn expect_publishes(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.packet().await {
                Some(Packet::Publish(publish)) => ids.push(publish.packet_id),
                other => panic!("a publish is expected, not {other:?}"),
            }
        }
        ids
    }

    pub(crate) async fn expect_subscribe(&mut self) -> u16 {
        match self.packet().await {
            Some(Packet::Subscribe(subscribe)) => subscribe.packet_id,
            other => panic!("SUBSCRIBE is expected, not {other:?}"),
        }
    }
}

pub(crate) fn context(patterns: &[&str]) -> Context {
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

pub(crate) async fn broker() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url = 'mqtt://{}'\n", listener.local_addr().unwrap());
    (listener, url)
}

pub(crate) async fn connect(
    settings: &str,
    patterns: &[&str],
) -> Result<Endpoints<ClientTarget>, ConnectError> {
    let config: ClientConfig = toml::from_str(settings).unwrap();
    timeout(DEADLINE, MqttClient::connect(Arc::new(config), context(patterns))).await.unwrap()
}
