//! The device listener: an MQTT broker of our own, 3.1.1 and 5 on one port.

mod access;
mod broker;
mod budget;
mod config;
mod connection;
mod fan_out;
mod inbound;
mod incoming;
mod outbound;
mod outgoing;
mod pace;
mod packets;
mod persist;
mod retained;
mod session;
mod sessions;
mod shared;
mod stored;
mod subscriptions;
mod upgrade;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use transload_adapter::{
    Adapter, ConnectError, Context, Endpoints, Event, Interest, Lint, ReplyPath, SendError,
    SourceCapabilities, TargetCapabilities,
};
use transload_envelope::Outgoing;
use transload_listen::{Bound, Connection, Places, Refused, Serve, Settings, Tls};

use self::{
    access::Access, broker::Broker, connection::Peer, inbound::DeviceInbound,
    outbound::DeviceOutbound,
};
pub use self::{
    access::{Permission, hash_line},
    config::{CertificateUser, Config, Target},
};
use crate::{carriage::LISTENER, topic};

/// How many messages may wait between all connections and the gateway. Behind them, connections wait in
/// a line, with one message each: so this is how many of a flood a device's message waits for.
const DELIVERIES_MAX: usize = 128;

/// The role that devices connect to.
#[derive(Clone, Copy, Debug)]
pub struct MqttListener;

#[async_trait]
impl Adapter for MqttListener {
    const KIND: &'static str = "mqtt";
    const ROLE_KEY: &'static str = "listen";
    const SUMMARY: &'static str = "a broker that MQTT devices connect to";
    const TEMPLATED: &'static [&'static str] = &["topic", "reply_topic"];

    type Config = Config;
    type Target = Target;

    fn lint(config: &Config) -> Vec<Lint> {
        config::lint(config)
    }

    fn lint_target(_: &Config, target: &Target) -> Vec<Lint> {
        config::lint_target(target)
    }

    fn lint_source(_: &Config, pattern: &str) -> Vec<Lint> {
        config::lint_source(pattern)
    }

    fn describe(config: &Config) -> String {
        let mut places = vec![config.listen.to_string()];
        places.extend(config.websocket.map(|websocket| format!("WebSocket {websocket}")));
        places.extend(config.tls.as_ref().map(|_| "TLS".into()));
        places.extend(config.plain.map(|plain| format!("without TLS {plain}")));
        places.join(", ")
    }

    fn describe_target(_: &Config, target: &Target) -> String {
        let mut text = match &target.topic {
            Some(topic) => format!("topic {topic}"),
            None => "topic as the address".into(),
        };
        if let Some(qos) = target.qos {
            text.push_str(", QoS ");
            text.push_str(&qos.to_string());
        }
        if target.retain == Some(true) {
            text.push_str(", retained");
        }
        text
    }

    fn source(_: &Config) -> SourceCapabilities {
        SourceCapabilities {
            receives: true,
            acknowledges: true,
            refuses: false,
            replies: ReplyPath::Message,
            brings: &LISTENER,
        }
    }

    fn target(_: &Config, _: &Target) -> TargetCapabilities {
        TargetCapabilities { sends: true, confirms: true, replies: true, carries: &LISTENER }
    }

    fn reconnects(_: &Config, _: &Interest, _: &Interest) -> bool {
        // The connections of devices stay when the routes change.
        false
    }

    fn follows_address(_: &Config, target: &Target) -> bool {
        target.topic.is_none()
    }

    fn place(
        _: &Config,
        target: &Target,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        let topic = topic::of(message, target.topic.as_deref(), "the listener's own")?;
        Ok(Some(("topic", topic.to_string())))
    }

    async fn connect(
        config: Arc<Config>,
        context: Context,
    ) -> Result<Endpoints<Target>, ConnectError> {
        Self::open(config, context).await.map(|(endpoints, _)| endpoints)
    }
}

/// Where a listener really listens, also where the settings ask for any free port.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// MQTT over TCP.
    pub tcp: SocketAddr,
    /// MQTT over WebSocket, where there is such an address.
    pub websocket: Option<SocketAddr>,
    /// MQTT over TCP without TLS, where there is an address of its own for it.
    pub plain: Option<SocketAddr>,
}

impl MqttListener {
    /// Does what [`Adapter::connect`] does, and tells the addresses.
    pub async fn open(
        config: Arc<Config>,
        context: Context,
    ) -> Result<(Endpoints<Target>, Addresses), ConnectError> {
        let sockets = open(&config).await?;
        let addresses = Addresses {
            tcp: sockets.tcp.address(),
            websocket: sockets.websocket.as_ref().map(Bound::address),
            plain: sockets.plain.as_ref().map(Bound::address),
        };
        let (sender, deliveries) = mpsc::channel(DELIVERIES_MAX);
        let unusable = |reason| ConnectError::Unusable { reason };
        let access = Access::open(&config, &context.tasks).map_err(unusable)?;
        let tls = config.tls.as_ref().map(|tls| Tls::new(tls, &[])).transpose();
        let tls = tls.map_err(|fault| unusable(format!("`tls`: {fault}").into()))?;
        let users_file = config.users_file.clone();
        let broker = Broker::new(config, context.clone(), (access, tls), sender)
            .await
            .map_err(|error| ConnectError::Unreachable(Box::new(error)))?;
        context.tasks.spawn(Arc::clone(&broker).keep_time());
        context.tasks.spawn(Arc::clone(&broker).measure());
        context.tasks.spawn(Arc::clone(&broker).follow_updates());
        if let Some(file) = users_file {
            context.tasks.spawn(access::watch(Arc::clone(&broker), file));
        }
        listen(&broker, sockets);
        let closing = Arc::new(broker.closing.clone().drop_guard());
        let inbound = DeviceInbound::new(deliveries, context.stop.clone(), Arc::clone(&closing));
        let endpoints = Endpoints {
            inbound: Some(Box::new(inbound)),
            outbound: Some(Arc::new(DeviceOutbound::new(broker, closing))),
            lost: Box::pin(std::future::pending()),
        };
        Ok((endpoints, addresses))
    }
}

/// Ends all connections when both endpoints are gone.
type Closing = Arc<DropGuard>;

struct Sockets {
    tcp: Bound,
    websocket: Option<Bound>,
    plain: Option<Bound>,
}

async fn open(config: &Config) -> Result<Sockets, ConnectError> {
    let bind = async |address: SocketAddr| {
        Bound::new(address)
            .await
            .map_err(|error| ConnectError::Unusable { reason: error.to_string().into() })
    };
    let optional = async |address: Option<SocketAddr>| match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    };
    Ok(Sockets {
        tcp: bind(config.listen).await?,
        websocket: optional(config.websocket).await?,
        plain: optional(config.plain).await?,
    })
}

fn listen(broker: &Arc<Broker>, sockets: Sockets) {
    let stop = accepting(broker);
    let settings = Settings {
        places: Places::new(
            broker.config.max_connections,
            broker.config.max_connections_per_address.unwrap_or(usize::MAX),
        ),
        tls: broker.tls.clone(),
        stop,
        tasks: broker.context.tasks.clone(),
    };
    let name = &broker.context.name;
    let tls = broker.tls.is_some();
    tracing::info!(adapter = %name, address = %sockets.tcp.address(), tls, "Listening for MQTT.");
    let tcp = Arc::new(Tcp(Arc::clone(broker)));
    settings.tasks.spawn(transload_listen::serve(sockets.tcp, settings.clone(), Arc::clone(&tcp)));
    if let Some(plain) = sockets.plain {
        tracing::info!(adapter = %name, address = %plain.address(), tls = false, "Listening for MQTT.");
        let settings = Settings { tls: None, ..settings.clone() };
        settings.tasks.spawn(transload_listen::serve(plain, settings.clone(), tcp));
    }
    if let Some(websocket) = sockets.websocket {
        let address = websocket.address();
        tracing::info!(adapter = %name, %address, tls, "Listening for MQTT over WebSocket.");
        let server = Arc::new(WebSocket(Arc::clone(broker)));
        settings.tasks.spawn(transload_listen::serve(websocket, settings.clone(), server));
    }
}

/// Fires when no more connections are to be accepted: at the stop signal, or when the endpoints
/// are gone.
fn accepting(broker: &Arc<Broker>) -> CancellationToken {
    let stop = broker.closing.child_token();
    let ended = stop.clone();
    let stopped = broker.context.stop.clone();
    broker.context.tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = stopped.cancelled() => ended.cancel(),
        }
    });
    stop
}

fn refused(broker: &Broker, peer: SocketAddr, why: &Refused) {
    broker.count(Event::ConnectionRefused, 1);
    match why {
        Refused::TooManyConnections => {
            tracing::warn!(%peer, "A client was turned away: there are too many connections.");
        }
        Refused::TooManyOfOneAddress => {
            tracing::warn!(%peer, "A client was turned away: its address has too many connections.");
        }
        Refused::Handshake(error) => tracing::info!(%peer, %error, "A TLS handshake failed."),
    }
}

struct Tcp(Arc<Broker>);

impl Serve for Tcp {
    async fn serve(self: Arc<Self>, connection: Connection) {
        let Connection { stream, peer: address, identity, place } = connection;
        connection::serve(Arc::clone(&self.0), Box::new(stream), Peer { address, identity }).await;
        drop(place);
    }

    fn refused(&self, peer: SocketAddr, why: &Refused) {
        refused(&self.0, peer, why);
    }
}

struct WebSocket(Arc<Broker>);

impl Serve for WebSocket {
    async fn serve(self: Arc<Self>, connection: Connection) {
        let Connection { stream, peer, identity, place } = connection;
        let broker = &self.0;
        let bytes_max = broker.config.max_packet_bytes.as_usize();
        let handshake = upgrade::accept(stream, bytes_max);
        match tokio::time::timeout(broker.config.connect_timeout.get(), handshake).await {
            Ok(Ok(wire)) => {
                let peer = Peer { address: peer, identity };
                connection::serve(Arc::clone(broker), Box::new(wire), peer).await;
            }
            Ok(Err(error)) => {
                broker.count(Event::ConnectionRefused, 1);
                tracing::info!(%peer, %error, "A WebSocket handshake failed.");
            }
            Err(_) => broker.count(Event::ConnectionRefused, 1),
        }
        drop(place);
    }

    fn refused(&self, peer: SocketAddr, why: &Refused) {
        refused(&self.0, peer, why);
    }
}

#[cfg(test)]
mod tests {
    use transload_adapter::Registry;

    use super::*;

    #[test]
    fn the_registry_knows_the_role_and_its_settings() {
        let registry = Registry::default().with::<MqttListener>();
        let mut kinds = registry.kinds();
        let kind = kinds.next().unwrap();
        assert_eq!((kind.kind(), kind.role_key()), ("mqtt", "listen"));
        let target = Target {
            topic: Some("a/{b}".into()),
            qos: Some(2),
            retain: Some(true),
            reply_topic: None,
            reply_correlation: None,
        };
        let config = toml::from_str("listen = \"127.0.0.1:1883\"").unwrap();
        let text = MqttListener::describe_target(&config, &target);
        assert_eq!(text, "topic a/{b}, QoS 2, retained");
        assert_eq!(MqttListener::describe(&config), "127.0.0.1:1883");
        let config = toml::from_str(
            "listen = \"[::1]:8883\"\nwebsocket = \"[::1]:443\"\nplain = \"127.0.0.1:1883\"\n\
             tls = { certificate_file = \"c\", key_file = \"k\" }",
        );
        let text = MqttListener::describe(&config.unwrap());
        assert_eq!(text, "[::1]:8883, WebSocket [::1]:443, TLS, without TLS 127.0.0.1:1883");
    }
}
