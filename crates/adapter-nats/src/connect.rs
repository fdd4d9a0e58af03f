//! One connection to one of the servers, without the client's own reconnecting.
//!
//! Invariants:
//! - A connection is made once. When it is lost everything on it ends, and the gateway decides when
//!   another one is made: so nothing that was buffered for the old one can arrive late.
//! - Secrets are read when connecting and are never part of an error.

use std::{
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, ReconnectToServer, ServerAddr};
use percent_encoding::percent_decode_str;
use transload_adapter::{ConnectError, Context, Secret};
use transload_tls::ClientTls;

use crate::{
    config::NatsConfig,
    error,
    link::{Link, Watch},
};

/// How many messages of one subscription the client holds while the adapter's own task, which
/// always reads, has not yet taken them.
const CLIENT_BUFFER: usize = 16_384;

/// An address where no server can be, so that an attempt fails at once.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// Connects to the first server that lets us in.
pub(crate) async fn connect(
    config: &NatsConfig,
    context: &Context,
) -> Result<(Client, Arc<Link>), ConnectError> {
    let mut last = None;
    for url in config.url.list() {
        let address = ServerAddr::from_str(url.expose())
            .map_err(|_| unusable("a server's URL cannot be read"))?;
        // A failed attempt ends its own link and no other.
        let link = Link::new(Arc::clone(&context.observer));
        let options = options(config, context, &link, &address).await?;
        let nowhere =
            ServerAddr::from_str(NOWHERE).map_err(|error| unusable(&error.to_string()))?;
        let servers = vec![address.clone(), nowhere];
        match options.connect(servers).await {
            Ok(client) => return Ok((client, link)),
            Err(error) => {
                tracing::debug!(host = address.host(), %error, "no connection to this server");
                last = Some(error);
            }
        }
    }
    Err(last.map_or_else(|| unusable("there is no server to connect to"), error::connect))
}

async fn options(
    config: &NatsConfig,
    context: &Context,
    link: &Arc<Link>,
    address: &ServerAddr,
) -> Result<ConnectOptions, ConnectError> {
    let watch = Arc::new(Watch(Arc::clone(link)));
    let mut options = once(ConnectOptions::new(), address)
        .name(format!("transload {}", context.name))
        .connection_timeout(config.connect_timeout.get())
        .request_timeout(Some(config.confirm_timeout.get()))
        .ping_interval(config.ping_interval.get())
        .subscription_capacity(CLIENT_BUFFER)
        .ignore_discovered_servers()
        .retain_servers_order()
        .event_callback(move |event| {
            let watch = Arc::clone(&watch);
            async move { watch.0.note(&event) }
        });
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    // Not by a configuration of rustls: besides that, the client reads the system's certificates,
    // and does not connect where one of them is broken or where there are none.
    if let Some(file) = &config.tls.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.tls.certificate_file, &config.tls.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if config.tls != ClientTls::default() {
        options = options.require_tls(true);
    }
    log_in(options, config, address).await
}

/// Makes the client connect once and never again.
///
/// It has no setting for that: with a limit of one attempt it would still make one more connection
/// after a loss, and send over it what was waiting for the old one. So the server of every further
/// attempt is one that cannot be reached.
fn once(options: ConnectOptions, address: &ServerAddr) -> ConnectOptions {
    let used = AtomicBool::new(false);
    let address = address.clone();
    options.max_reconnects(1).reconnect_to_server_callback(move |servers, _| {
        let again = used.swap(true, Ordering::SeqCst);
        let mut servers = servers.into_iter().map(|server| server.addr);
        let next = servers.find(|server| (*server == address) != again);
        let next = next.map(|addr| ReconnectToServer { addr, delay: Some(Duration::ZERO) });
        async move { next }
    })
}

async fn log_in(
    options: ConnectOptions,
    config: &NatsConfig,
    address: &ServerAddr,
) -> Result<ConnectOptions, ConnectError> {
    if let Some(file) = &config.credentials_file {
        let text = read(file).await?;
        return options
            .credentials(text.expose())
            .map_err(|_| unusable(&format!("{} is not a credentials file", file.display())));
    }
    if let Some(file) = &config.nkey_file {
        return Ok(options.nkey(first_line(file).await?));
    }
    if let Some(token) = &config.token {
        return Ok(options.token(token.expose().to_owned()));
    }
    if let Some(file) = &config.token_file {
        return Ok(options.token(first_line(file).await?));
    }
    if let Some(user) = &config.username {
        let password = match (&config.password, &config.password_file) {
            (Some(password), _) => password.expose().to_owned(),
            (None, Some(file)) => first_line(file).await?,
            (None, None) => String::new(),
        };
        return Ok(options.user_and_password(user.clone(), password));
    }
    // The client does not read what a URL holds before the `@`; a name alone is a token there.
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Ok(match (address.username().map(decode), address.password().map(decode)) {
        (Some(user), Some(password)) => options.user_and_password(user, password),
        (Some(token), None) => options.token(token),
        (None, _) => options,
    })
}

async fn read(file: &Path) -> Result<Secret, ConnectError> {
    let path = file.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    match text {
        Ok(Ok(text)) => Ok(Secret::new(text)),
        Ok(Err(error)) => Err(unusable(&format!("cannot read {}: {error}", file.display()))),
        Err(error) => Err(unusable(&format!("cannot read {}: {error}", file.display()))),
    }
}

async fn first_line(file: &Path) -> Result<String, ConnectError> {
    let text = read(file).await?;
    Ok(text.expose().lines().next().unwrap_or_default().trim().to_owned())
}

fn unusable(reason: &str) -> ConnectError {
    ConnectError::Unusable { reason: reason.into() }
}
