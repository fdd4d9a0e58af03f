//! A listener with a gateway that does as the test says, and raw clients.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{
    Context, Delivery, Destination, Endpoints, Event, Interest, Observer, SendError, Sent,
    Settlement, store::Store,
};
use transload_adapter_mqtt::{Addresses, ListenerTarget, MqttListener};
use transload_delivery::MemoryStore;
use transload_envelope::{Envelope, Origin, Outgoing};

/// Everything that must happen happens within this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// What must not happen is waited for so long.
pub(crate) const QUIET: Duration = Duration::from_millis(60);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, wait).await;
}

#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<HashMap<Event, u64>>);

impl Observer for Counts {
    fn count(&self, event: Event, by: u64) {
        *self.0.lock().unwrap().entry(event).or_default() += by;
    }
}

/// A listener and what a test needs of its surroundings.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) websocket: Option<SocketAddr>,
    pub(crate) plain: Option<SocketAddr>,
    pub(crate) context: Context,
    pub(crate) counts: Arc<Counts>,
    pub(crate) endpoints: Endpoints<ListenerTarget>,
}

/// Starts a listener for routes that match `gateway/#`.
pub(crate) async fn start(settings: &str) -> Listener {
    start_with(settings, Arc::new(MemoryStore::new())).await
}

pub(crate) async fn start_with(settings: &str, store: Arc<dyn Store>) -> Listener {
    let text = format!("listen = \"127.0.0.1:0\"\n{settings}");
    let config = Arc::new(toml::from_str(&text).unwrap());
    let counts = Arc::new(Counts::default());
    let context = Context {
        name: "devices".into(),
        credits: Arc::new(Semaphore::new(1024)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        updates: transload_adapter::Updates::default(),
        interest: Arc::new(Interest { patterns: vec!["gateway/{rest...}".into()] }),
        store,
        observer: Arc::clone(&counts) as Arc<dyn Observer>,
    };
    let (endpoints, addresses) = MqttListener::open(config, context.clone()).await.unwrap();
    let Addresses { tcp: address, websocket, plain } = addresses;
    Listener { address, websocket, plain, context, counts, endpoints }
}

impl Listener {
    pub(crate) fn count(&self, event: Event) -> u64 {
        self.counts.0.lock().unwrap().get(&event).copied().unwrap_or(0)
    }

    /// The next message that the gateway is given.
    pub(crate) async fn receive(&mut self) -> Delivery {
        let mut deliveries = Vec::new();
        let inbound = self.endpoints.inbound.as_mut().unwrap();
        soon("a message for the gateway", inbound.receive(&mut deliveries, 1)).await.unwrap();
        deliveries.pop().unwrap()
    }

    /// Asserts that the gateway is given nothing.
    pub(crate) async fn receives_nothing(&mut self) {
        let mut deliveries = Vec::new();
        let inbound = self.endpoints.inbound.as_mut().unwrap();
        let received = timeout(QUIET, inbound.receive(&mut deliveries, 1)).await;
        assert!(received.is_err(), "{deliveries:?}");
    }

    /// From now on settles everything as accepted, and passes it on.
    pub(crate) fn accept_all(&mut self) -> mpsc::Receiver<Envelope> {
        self.settle_all(|_| Settlement::Accepted)
    }

    pub(crate) fn settle_all(
        &mut self,
        verdict: impl Fn(&Envelope) -> Settlement + Send + 'static,
    ) -> mpsc::Receiver<Envelope> {
        let mut inbound = self.endpoints.inbound.take().unwrap();
        let (sender, receiver) = mpsc::channel(100_000);
        self.context.tasks.spawn(async move {
            let mut deliveries = Vec::new();
            while inbound.receive(&mut deliveries, 64).await.is_ok() {
                for Delivery { envelope, receipt } in deliveries.drain(..) {
                    let verdict = verdict(&envelope);
                    sender.try_send(envelope).unwrap();
                    receipt.settle(verdict);
                }
            }
        });
        receiver
    }

    /// Publishes as a route does.
    pub(crate) async fn send(&self, target: &str, outgoing: Outgoing) -> Result<Sent, SendError> {
        let target: ListenerTarget = toml::from_str(target).unwrap();
        let outbound = self.endpoints.outbound.as_ref().unwrap();
        let to = Destination { name: "route/0", target: &target };
        soon("a result", outbound.send(to, &[outgoing])).await.pop().unwrap()
    }

    /// A client of MQTT 5 with a clean session.
    pub(crate) async fn v5(&self, client_id: &str) -> V5 {
        let mut client = V5::open(self.address).await;
        client.connect(v5_connect(client_id)).await;
        client
    }

    /// A client of MQTT 3.1.1 with a clean session.
    pub(crate) async fn v4(&self, client_id: &str) -> V4 {
        let mut client = V4::open(self.address).await;
        client.connect(v4_connect(client_id)).await;
        client
    }
}

pub(crate) fn outgoing(address: &str, payload: &'static [u8]) -> Outgoing {
    let envelope = Envelope::new(Origin::new("test", "test", address), payload);
    Outgoing { envelope, arguments: [].into_iter().collect() }
}

pub(crate) fn v5_connect(client_id: &str) -> v5::Connect {
    v5::Connect { keep_alive: 60, client_id: client_id.into(), clean_start: true, properties: None }
}

/// A session that lives on for a while.
pub(crate) fn v5_persistent(client_id: &str, clean_start: bool) -> v5::Connect {
    let properties =
        v5::ConnectProperties { session_expiry_interval: Some(600), ..connect_properties() };
    v5::Connect { clean_start, properties: Some(properties), ..v5_connect(client_id) }
}

pub(crate) fn connect_properties() -> v5::ConnectProperties {
    v5::ConnectProperties {
        session_expiry_interval: None,
        receive_maximum: None,
        max_packet_size: None,
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    }
}

pub(crate) fn v4_connect(client_id: &str) -> v4::Connect {
    v4::Connect {
        protocol: rumqttc::Protocol::V4,
        keep_alive: 60,
        client_id: client_id.into(),
        clean_session: true,
        last_will: None,
        login: None,
    }
}

pub(crate) fn v5_publish(topic: &str, qos: v5_qos::QoS, pkid: u16, payload: &[u8]) -> v5::Publish {
    v5::Publish {
        qos,
        pkid,
        topic: bytes::Bytes::copy_from_slice(topic.as_bytes()),
        payload: bytes::Bytes::copy_from_slice(payload),
        ..v5::Publish::default()
    }
}

pub(crate) mod v5_qos {
    pub(crate) use rumqttc::v5::mqttbytes::QoS;
}

pub(crate) fn v5_filter(path: &str, qos: v5_qos::QoS) -> v5::Filter {
    v5::Filter { path: path.into(), qos, ..v5::Filter::default() }
}

/// A raw connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: BytesMut,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // A listener that has closed already is what some tests wait for.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads more; false at the end of the stream.
    pub(crate) async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..))
    }

    /// Waits until the listener closes, and returns what it said before.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        soon("the end of the connection", async { while self.fill().await {} }).await;
        self.buffer.to_vec()
    }
}

macro_rules! client {
    ($name:ident, $version:ident, $read:expr, $write:expr) => {
        pub(crate) struct $name(pub(crate) Raw);

        impl $name {
            pub(crate) async fn open(address: SocketAddr) -> Self {
                Self(Raw::open(address).await)
            }

            pub(crate) async fn send(&mut self, packet: $version::Packet) {
                let mut bytes = BytesMut::new();
                $write(&packet, &mut bytes);
                self.0.write(&bytes).await;
            }

            async fn next(&mut self) -> Option<$version::Packet> {
                loop {
                    match $read(&mut self.0.buffer) {
                        Some(packet) => return Some(packet),
                        None if !self.0.fill().await => return None,
                        None => {}
                    }
                }
            }

            /// The next packet.
            pub(crate) async fn recv(&mut self) -> $version::Packet {
                soon("a packet", self.next()).await.expect("the connection is closed")
            }

            /// The next packet, which must be PUBLISH.
            pub(crate) async fn message(&mut self) -> $version::Publish {
                match self.recv().await {
                    $version::Packet::Publish(publish) => publish,
                    other => panic!("not PUBLISH: {other:?}"),
                }
            }

            /// Asserts that nothing comes.
            pub(crate) async fn nothing(&mut self) {
                let next = timeout(QUIET, self.next()).await;
                assert!(next.is_err(), "{next:?}");
            }

            /// Waits for the end of the connection, and returns the last packets.
            pub(crate) async fn end(&mut self) -> Vec<$version::Packet> {
                let mut packets = Vec::new();
                let all = async {
                    while let Some(packet) = self.next().await {
                        packets.push(packet);
                    }
                };
                soon("the end of the connection", all).await;
                packets
            }
        }
    };
}

client!(
    V5,
    v5,
    |buffer: &mut BytesMut| match v5::Packet::read(buffer, None) {
        Ok(packet) => Some(packet),
        Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => None,
        Err(error) => panic!("the listener wrote what cannot be read: {error:?}"),
    },
    |packet: &v5::Packet, bytes: &mut BytesMut| {
        packet.write(bytes, None).unwrap();
    }
);

client!(
    V4,
    v4,
    |buffer: &mut BytesMut| match v4::Packet::read(buffer, usize::MAX) {
        Ok(packet) => Some(packet),
        Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => None,
        Err(error) => panic!("the listener wrote what cannot be read: {error:?}"),
    },
    |packet: &v4::Packet, bytes: &mut BytesMut| {
        packet.write(bytes, usize::MAX).unwrap();
    }
);

impl V5 {
    pub(crate) async fn connect(&mut self, connect: v5::Connect) -> v5::ConnAck {
        self.connect_with(connect, None).await
    }

    pub(crate) async fn connect_with(
        &mut self,
        connect: v5::Connect,
        will: Option<v5::LastWill>,
    ) -> v5::ConnAck {
        self.send(v5::Packet::Connect(connect, will, None)).await;
        match self.recv().await {
            v5::Packet::ConnAck(connack) => connack,
            other => panic!("not CONNACK: {other:?}"),
        }
    }

    pub(crate) async fn subscribe(
        &mut self,
        filters: Vec<v5::Filter>,
    ) -> Vec<v5::SubscribeReasonCode> {
        self.subscribe_with(filters, None).await
    }

    pub(crate) async fn subscribe_with(
        &mut self,
        filters: Vec<v5::Filter>,
        id: Option<usize>,
    ) -> Vec<v5::SubscribeReasonCode> {
        let properties =
            id.map(|id| v5::SubscribeProperties { id: Some(id), user_properties: Vec::new() });
        self.send(v5::Packet::Subscribe(v5::Subscribe { pkid: 7, filters, properties })).await;
        match self.recv().await {
            v5::Packet::SubAck(suback) if suback.pkid == 7 => suback.return_codes,
            other => panic!("not SUBACK: {other:?}"),
        }
    }

    /// Subscribes to one filter and asserts that it is granted.
    pub(crate) async fn listen(&mut self, filter: &str, qos: v5_qos::QoS) {
        let codes = self.subscribe(vec![v5_filter(filter, qos)]).await;
        assert_eq!(codes, [v5::SubscribeReasonCode::Success(qos)]);
    }

    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        qos: v5_qos::QoS,
        pkid: u16,
        payload: &[u8],
    ) {
        self.send(v5::Packet::Publish(v5_publish(topic, qos, pkid, payload))).await;
    }

    pub(crate) async fn retain(&mut self, topic: &str, payload: &[u8]) {
        let qos = v5_qos::QoS::AtLeastOnce;
        let publish = v5::Publish { retain: true, ..v5_publish(topic, qos, 9, payload) };
        self.send(v5::Packet::Publish(publish)).await;
        let ack = self.puback().await;
        assert!(!matches!(ack.reason, v5::PubAckReason::QuotaExceeded), "{ack:?}");
    }

    pub(crate) async fn puback(&mut self) -> v5::PubAck {
        match self.recv().await {
            v5::Packet::PubAck(puback) => puback,
            other => panic!("not PUBACK: {other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&mut self, pkid: u16) {
        self.send(v5::Packet::PubAck(v5::PubAck::new(pkid, None))).await;
    }

    /// Everything that was sent before has been handled when this returns.
    pub(crate) async fn ping(&mut self) {
        self.send(v5::Packet::PingReq(v5::PingReq)).await;
        assert!(matches!(self.recv().await, v5::Packet::PingResp(_)));
    }
}

impl V4 {
    pub(crate) async fn connect(&mut self, connect: v4::Connect) -> v4::ConnAck {
        self.send(v4::Packet::Connect(connect)).await;
        match self.recv().await {
            v4::Packet::ConnAck(connack) => connack,
            other => panic!("not CONNACK: {other:?}"),
        }
    }

    pub(crate) async fn listen(&mut self, filter: &str, qos: rumqttc::QoS) {
        let mut subscribe = v4::Subscribe::new(filter, qos);
        subscribe.pkid = 7;
        self.send(v4::Packet::Subscribe(subscribe)).await;
        match self.recv().await {
            v4::Packet::SubAck(suback) => {
                assert_eq!(suback.return_codes, [v4::SubscribeReasonCode::Success(qos)]);
            }
            other => panic!("not SUBACK: {other:?}"),
        }
    }

    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        qos: rumqttc::QoS,
        pkid: u16,
        payload: &[u8],
    ) {
        let mut publish = v4::Publish::new(topic, qos, payload);
        publish.pkid = pkid;
        self.send(v4::Packet::Publish(publish)).await;
    }
}
