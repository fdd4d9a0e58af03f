//! Connections: to which broker, with which credentials, and what becomes of them.

use std::{path::Path, time::Duration};

use amq_protocol::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use futures_util::future;
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls::ClientConfig;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use transload_adapter::{BoxError, ConnectError, Lost};
use transload_envelope::Text;

use crate::{
    client::{self, Arrival, Client},
    config::{AmqpConfig, Auth, ServerUrl},
    error::{Reaction, reaction},
};

/// RabbitMQ would have frames of 128 KiB; a connection holds a few in memory. It is also the bound on
/// all properties of a message.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// How long a broker may take to agree to the end of a connection.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is for. Each direction has its own, since a broker that is short of memory
/// or disk stops reading from those that publish, and would leave acknowledgements unread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Publish,
    Consume,
}

/// How a connection fares.
#[derive(Clone, Debug)]
pub(crate) enum LinkState {
    Open,
    /// The broker takes nothing at present, for this reason.
    Blocked(Text),
    Lost(client::Error),
}

/// Resolves when one of the connections is lost.
pub(crate) fn lost(states: impl IntoIterator<Item = watch::Receiver<LinkState>>) -> Lost {
    let waits = states.into_iter().map(|state| Box::pin(loss(state))).collect::<Vec<_>>();
    Box::pin(async move { future::select_all(waits).await.0 })
}

async fn loss(mut state: watch::Receiver<LinkState>) -> BoxError {
    match state.wait_for(|state| matches!(state, LinkState::Lost(_))).await.as_deref() {
        Ok(LinkState::Lost(error)) => Box::new(error.clone()),
        Ok(LinkState::Open | LinkState::Blocked(_)) | Err(_) => "the connection has ended".into(),
    }
}

/// Says what becomes of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    /// The adapter's name.
    pub(crate) name: Text,
    /// Where the broker is.
    pub(crate) place: String,
    pub(crate) purpose: Purpose,
}

impl Teller {
    /// Logs a new state, once.
    pub(crate) fn tell(&self, state: &LinkState) {
        let Self { name: adapter, place, purpose } = self;
        match state {
            LinkState::Open => info!(%adapter, place, ?purpose, "the broker takes messages again"),
            LinkState::Blocked(reason) => {
                warn!(%adapter, place, ?purpose, %reason, "the broker takes nothing at present");
            }
            // The gateway tells of the loss itself.
            LinkState::Lost(_) => {}
        }
    }

    /// How the connection is named at the broker.
    pub(crate) fn connection_name(&self, config: &AmqpConfig) -> String {
        let own = config.connection_name.clone();
        let name = own.unwrap_or_else(|| format!("transload {}", self.name));
        let purpose = match self.purpose {
            Purpose::Publish => "publish",
            Purpose::Consume => "consume",
        };
        format!("{name} ({purpose})")
    }
}

/// Opens a connection to the first broker that accepts one; what its consumers are sent comes out at
/// the other end.
pub(crate) async fn open(
    config: &AmqpConfig,
    name: &Text,
    tasks: &TaskTracker,
    purpose: Purpose,
) -> Result<(Client, mpsc::Receiver<Arrival>), ConnectError> {
    let mut failure = no_url();
    for url in config.url.iter() {
        let Broker { uri, tls, place } = broker(url, config).await?;
        let teller = Teller { name: name.clone(), place, purpose };
        match Client::connect(&uri, config, tls, &teller, tasks).await {
            Ok(client) => return Ok(client),
            Err(error) => failure = failure.or(locate(&teller.place, error)),
        }
    }
    Err(failure)
}

fn no_url() -> ConnectError {
    ConnectError::Unusable { reason: "there is no URL".into() }
}

/// A broker of the settings, and all that is needed to connect.
struct Broker {
    uri: AMQPUri,
    tls: Option<Tls>,
    /// Where it is, without secrets.
    place: String,
}

async fn broker(url: &ServerUrl, config: &AmqpConfig) -> Result<Broker, ConnectError> {
    let password = password(config)?;
    let mut uri = url
        .parse()
        .map_err(|fault| ConnectError::Unusable { reason: format!("url: {fault}").into() })?;
    complete(&mut uri, config, password.as_deref());
    let tls = tls(&uri, config).await?;
    Ok(Broker { uri, tls, place: url.public() })
}

/// TLS of one connection.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    /// Whom the certificate has to be for.
    pub(crate) server_name: String,
}

async fn tls(uri: &AMQPUri, config: &AmqpConfig) -> Result<Option<Tls>, ConnectError> {
    if uri.scheme == AMQPScheme::AMQP {
        return Ok(None);
    }
    let server_name = config.server_name.as_ref().unwrap_or(&uri.authority.host).clone();
    Ok(Some(Tls { config: config.tls.config(&[]).await?, server_name }))
}

/// Adds what the settings say outside the URL.
fn complete(uri: &mut AMQPUri, config: &AmqpConfig, password: Option<&str>) {
    if let Some(username) = &config.username {
        uri.authority.userinfo.username.clone_from(username);
    }
    if let Some(password) = password {
        password.clone_into(&mut uri.authority.userinfo.password);
    }
    if config.auth == Auth::External {
        uri.query.auth_mechanism = Some(SASLMechanism::External);
    }
    let heartbeat = u16::try_from(config.heartbeat.get().as_secs()).unwrap_or(u16::MAX);
    uri.query.heartbeat.get_or_insert(heartbeat);
    uri.query.frame_max.get_or_insert(FRAME_BYTES_MAX);
}

fn password(config: &AmqpConfig) -> Result<Option<String>, ConnectError> {
    match (&config.password_file, &config.password) {
        (Some(path), _) => read_secret(path).map(Some),
        (None, password) => Ok(password.as_ref().map(|secret| secret.expose().to_owned())),
    }
}

/// Not a reason to give up: whoever writes the file may be late.
fn read_secret(path: &Path) -> Result<String, ConnectError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConnectError::Refused {
        reason: format!("cannot read password_file {}: {error}", path.display()).into(),
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn locate(place: &str, error: ConnectError) -> ConnectError {
    match error {
        ConnectError::Unreachable(source) => {
            ConnectError::Unreachable(format!("{place}: {source}").into())
        }
        ConnectError::Refused { reason } => {
            ConnectError::Refused { reason: format!("{place}: {reason}").into() }
        }
        ConnectError::Unusable { reason } => ConnectError::Unusable { reason },
    }
}

/// Whether this error leaves the connection as it was.
pub(crate) fn is_lost(error: &client::Error) -> bool {
    matches!(reaction(error), Reaction::Lost | Reaction::Refused(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use transload_tls::testing::Authority;

    use super::*;

    fn config(text: &str) -> AmqpConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn credentials_beside_the_url_win() {
        let config = config("url = 'amqp://a:b@h/v'\nusername = 'u'\npassword = 'p'");
        let mut uri = config.url[0].parse().unwrap();
        complete(&mut uri, &config, password(&config).unwrap().as_deref());
        let user = &uri.authority.userinfo;
        assert_eq!((user.username.as_str(), user.password.as_str()), ("u", "p"));
        assert_eq!(uri.query.heartbeat, Some(30));
        assert_eq!(uri.query.frame_max, Some(FRAME_BYTES_MAX));
    }

    #[test]
    fn what_the_url_says_stays() {
        let config = config("url = 'amqp://a:b@h/v?heartbeat=7&frame_max=8192'");
        let mut uri = config.url[0].parse().unwrap();
        complete(&mut uri, &config, None);
        assert_eq!(uri.authority.userinfo.password, "b");
        assert_eq!((uri.query.heartbeat, uri.query.frame_max), (Some(7), Some(8192)));
    }

    #[test]
    fn a_missing_password_file_is_told_by_name() {
        let config = config("url = 'amqp://h'\npassword_file = '/nowhere/at/all'");
        let error = password(&config).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }

    async fn open_urls(urls: &str) -> Result<(), ConnectError> {
        let config = config(&format!("url = {urls}\nconnect_timeout = '200ms'"));
        open(&config, &"svc".into(), &TaskTracker::new(), Purpose::Publish).await.map(drop)
    }

    #[tokio::test]
    async fn a_broker_that_is_away_is_told_by_its_place_only() {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let error =
            open_urls(&format!("['amqp://u:geheim@127.0.0.1:{port}/%2f']")).await.unwrap_err();
        let ConnectError::Unreachable(source) = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains(&format!("127.0.0.1:{port}/%2f")), "{source}");
        assert!(!format!("{error:?} {source}").contains("geheim"));
    }

    /// Accepts one TLS client that shows a certificate of this authority, and returns what it says
    /// first, or why it was not let in.
    async fn tls_server(
        listener: tokio::net::TcpListener,
        authority: &Authority,
    ) -> std::io::Result<[u8; 8]> {
        use tokio::io::AsyncReadExt as _;

        let shown = authority.sign("broker", &["broker.example"]);
        let config = Authority::server(&shown, Some(authority));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut stream = acceptor.accept(listener.accept().await?.0).await?;
        let mut said = [0; 8];
        stream.read_exact(&mut said).await?;
        Ok(said)
    }

    #[tokio::test]
    async fn certificates_of_our_own_authority_are_shown_and_trusted() {
        let (own, other) = (Authority::new("own"), Authority::new("other"));
        let shown = own.sign("gateway", &[]);
        for (authority, server_name, trusted) in [
            (&own, "broker.example", true),
            (&other, "broker.example", false),
            (&own, "elsewhere.example", false),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let config = config(&format!(
                "url = 'amqps://127.0.0.1:{port}'\nauth = 'external'\nconnect_timeout = '2s'\n\
                 server_name = '{server_name}'\n[tls]\nca_file = '{}'\n{}",
                authority.file().display(),
                shown.settings()
            ));
            assert_eq!(crate::lint::lint(&config), []);
            let name = "svc".into();
            let tasks = TaskTracker::new();
            let opening = open(&config, &name, &tasks, Purpose::Publish);
            let (said, opened) = tokio::join!(tls_server(listener, &own), opening);
            assert_eq!(said.is_ok_and(|said| said.starts_with(b"AMQP")), trusted);
            assert!(opened.is_err(), "it was no broker");
        }
    }

    #[test]
    fn a_login_by_certificate_is_asked_for() {
        let config = config("url = 'amqps://h'\nauth = 'external'");
        let mut uri = config.url[0].parse().unwrap();
        complete(&mut uri, &config, None);
        assert_eq!(uri.query.auth_mechanism, Some(SASLMechanism::External));
    }

    #[tokio::test]
    async fn a_broker_that_says_nothing_is_given_up_and_hung_up_on() {
        use tokio::io::AsyncReadExt;

        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("'amqp://{}'", silent.local_addr().unwrap());
        let (opened, accepted) = tokio::join!(open_urls(&url), silent.accept());
        assert!(matches!(opened, Err(ConnectError::Unreachable(_))));
        let mut said = Vec::new();
        let (mut socket, _) = accepted.unwrap();
        let ended = socket.read_to_end(&mut said);
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
        assert!(said.starts_with(b"AMQP"), "{said:?}");
    }
}
