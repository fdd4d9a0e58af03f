//! Where the broker is and who we are there, and the settings as options of the client library.
//!
//! What the library does by default and this changes: a packet bound of 10 KiB, waiting for the
//! system's certificates with a panic.

use std::{path::Path, sync::Arc};

use percent_encoding::percent_decode_str;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport, v5::mqttbytes::v5::ConnectProperties};
use tokio_rustls::rustls;
use transload_adapter::{ConnectError, Secret};
use url::Url;

use super::{
    config::{ClientConfig, ProtocolVersion},
    wire::Options,
};

/// Where the broker is, and who we are there.
pub(super) struct Peer {
    /// The host, an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What to ask for where it is spoken to over WebSocket.
    pub(super) websocket: Option<String>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) login: Option<(String, Secret)>,
}

/// The name of the session.
pub(super) fn client_id(config: &ClientConfig, adapter: &str) -> String {
    config.client_id.clone().unwrap_or_else(|| format!("transload-{adapter}"))
}

/// Reads what is needed to connect: the URL, passwords, certificates.
pub(super) async fn peer(config: &ClientConfig) -> Result<Peer, ConnectError> {
    let url = Url::parse(config.url.expose()).map_err(|_| unusable("`url` cannot be read"))?;
    let host = url.host_str().ok_or_else(|| unusable("`url` names no host"))?;
    // An IPv6 address stands in brackets in a URL.
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (secure, web, usual_port) = match url.scheme() {
        "mqtt" => (false, false, 1883),
        "mqtts" => (true, false, 8883),
        "ws" => (false, true, 80),
        "wss" => (true, true, 443),
        _ => return Err(unusable("the scheme of `url` is not one of MQTT")),
    };
    let port = url.port().unwrap_or(usual_port);
    let tls = if secure { Some(Arc::new(config.tls.config(&[]).await?)) } else { None };
    let websocket = web.then(|| format!("{}://{host}:{port}{}", url.scheme(), url.path()));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let login = match &config.username {
        Some(name) => Some((name.clone(), password(config).await?)),
        None if url.username().is_empty() => None,
        None => {
            let password = url.password().map(decode).unwrap_or_default();
            Some((decode(url.username()), Secret::new(password)))
        }
    };
    Ok(Peer { host: bare, port, websocket, tls, login })
}

/// The options for the connection that publishes. What is not acknowledged is in the gateway's queues,
/// so no session is kept.
pub(super) fn options(config: &ClientConfig, peer: &Peer, adapter: &str) -> Options {
    let id = format!("{}-out", client_id(config, adapter));
    match config.version {
        ProtocolVersion::V311 => v311(config, peer, id),
        ProtocolVersion::V5 => Options::V5(Box::new(v5(config, peer, id))),
    }
}

/// The library takes the whole URL for the host where it speaks WebSocket.
fn place(peer: &Peer) -> (String, Transport) {
    let tls = peer.tls.clone().map(TlsConfiguration::Rustls);
    let transport = match (tls, &peer.websocket) {
        (None, None) => Transport::tcp(),
        (None, Some(_)) => Transport::ws(),
        (Some(tls), None) => Transport::tls_with_config(tls),
        (Some(tls), Some(_)) => Transport::wss_with_config(tls),
    };
    (peer.websocket.clone().unwrap_or_else(|| peer.host.clone()), transport)
}

fn v311(config: &ClientConfig, peer: &Peer, id: String) -> Options {
    let (address, transport) = place(peer);
    let mut options = rumqttc::MqttOptions::new(id, address, peer.port);
    let largest = config.max_packet_bytes.as_usize();
    options
        .set_transport(transport)
        .set_keep_alive(config.keep_alive.get())
        .set_clean_session(true)
        .set_max_packet_size(largest, largest)
        .set_inflight(config.max_inflight.max(1));
    if let Some((name, password)) = &peer.login {
        options.set_credentials(name.clone(), password.expose());
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(config.connect_timeout.get().as_secs().max(1));
    Options::V311(Box::new(options), network)
}

fn v5(config: &ClientConfig, peer: &Peer, id: String) -> rumqttc::v5::MqttOptions {
    let (address, transport) = place(peer);
    let mut options = rumqttc::v5::MqttOptions::new(id, address, peer.port);
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = u32::try_from(config.max_packet_bytes.get()).ok();
    properties.receive_maximum = Some(config.max_inflight.max(1));
    properties.session_expiry_interval = Some(0);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let seconds = config.connect_timeout.get().as_secs().max(1);
    network.set_connection_timeout(seconds);
    options
        .set_transport(transport)
        .set_keep_alive(config.keep_alive.get())
        .set_clean_start(true)
        .set_connect_properties(properties)
        .set_outgoing_inflight_upper_limit(config.max_inflight.max(1))
        .set_connection_timeout(seconds)
        .set_network_options(network);
    if let Some((name, password)) = &peer.login {
        options.set_credentials(name.clone(), password.expose());
    }
    options
}

async fn password(config: &ClientConfig) -> Result<Secret, ConnectError> {
    match (&config.password, &config.password_file) {
        (Some(password), _) => Ok(password.clone()),
        (None, None) => Ok(Secret::default()),
        (None, Some(file)) => {
            let bytes = read(file).await?;
            let text = String::from_utf8_lossy(&bytes);
            Ok(Secret::new(text.lines().next().unwrap_or_default().trim()))
        }
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, ConnectError> {
    let path = file.to_owned();
    let cannot = |error: &dyn std::fmt::Display| {
        unusable(&format!("cannot read {}: {error}", file.display()))
    };
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(cannot(&error)),
        Err(error) => Err(cannot(&error)),
    }
}

fn unusable(reason: &str) -> ConnectError {
    ConnectError::Unusable { reason: reason.into() }
}
