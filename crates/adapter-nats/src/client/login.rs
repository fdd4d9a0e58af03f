//! How a connection begins: the server says who it is, TLS, and who we are.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Buf as _;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use transload_adapter::{
    BoxError, ConnectError, Secret,
    wire::{Io, Stream},
};
use transload_tls::ClientTls;

use super::{
    address::ServerAddress,
    input::{Parsed, Said, parse},
};

/// How many bytes a server takes in a message unless it says otherwise.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Who we are.
pub(crate) struct Login {
    /// What the connection is called at the server.
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) tls: ClientTls,
    /// The first tokens of the subjects on which answers come.
    pub(crate) inbox_prefix: Arc<str>,
}

/// How we prove it.
pub(crate) enum Identity {
    /// Not at all.
    Nobody,
    Token(Secret),
    User {
        name: String,
        password: Secret,
    },
    /// A key, and the JWT that it belongs to where the server asks for one.
    Key {
        key: Box<KeyPair>,
        jwt: Option<Secret>,
    },
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Token(_) => "Token",
            Self::User { .. } => "User",
            Self::Key { .. } => "Key",
        })
    }
}

/// What is known of the server.
#[derive(Debug)]
pub(super) struct Server {
    version: (u16, u16),
    message_bytes_max: AtomicUsize,
}

impl Server {
    /// Its major and minor version; zero where it does not say.
    pub(super) fn version(&self) -> (u16, u16) {
        self.version
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.message_bytes_max.load(Ordering::Relaxed)
    }

    /// Takes note of what it says of itself later.
    pub(super) fn note(&self, info: &Info) {
        if let Some(bytes) = info.max_payload {
            self.message_bytes_max.store(bytes, Ordering::Relaxed);
        }
    }
}

/// What matters of `INFO`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "it is the server's")]
pub(super) struct Info {
    version: String,
    tls_required: bool,
    tls_available: bool,
    headers: bool,
    nonce: String,
    max_payload: Option<usize>,
    /// Whether it is about to shut down.
    pub(super) ldm: bool,
}

impl Info {
    /// Reads it as far as it can be read.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// `CONNECT`.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "it is the protocol's")]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'a str,
    lang: &'static str,
    version: &'static str,
    /// That we read `INFO` at any time.
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

/// Logs in, and returns the connection when the server has let us in.
pub(super) async fn login(
    stream: Box<dyn Stream>,
    address: &ServerAddress,
    login: Login,
) -> Result<(Io, Server), ConnectError> {
    let mut io = Io::new(stream);
    let info = greeting(&mut io).await?;
    if !info.headers {
        return Err(refused(
            "the server has no headers (it is older than 2.2, or has them disabled)",
        ));
    }
    let wanted = address.needs_tls() || login.tls != ClientTls::default();
    if wanted && !info.tls_required && !info.tls_available {
        return Err(refused("the server offers no TLS"));
    }
    if wanted || info.tls_required {
        io = encrypted(io, address, &login.tls).await?;
    }
    let mut line = serde_json::to_vec(&connect(&login, &info, wanted)?)
        .map_err(|error| ConnectError::Unusable { reason: error.to_string().into() })?;
    line.extend_from_slice(b"\r\nPING\r\n");
    let buffer = io.output.buffer();
    buffer.extend_from_slice(b"CONNECT ");
    buffer.extend_from_slice(&line);
    answered(&mut io).await?;
    let server = Server {
        version: version(&info.version),
        message_bytes_max: AtomicUsize::new(info.max_payload.unwrap_or(MESSAGE_BYTES_MAX)),
    };
    Ok((io, server))
}

fn connect<'a>(login: &'a Login, info: &Info, tls: bool) -> Result<Connect<'a>, ConnectError> {
    let mut connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: tls,
        name: &login.name,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
        auth_token: None,
        user: None,
        pass: None,
        jwt: None,
        nkey: None,
        sig: None,
    };
    match &login.identity {
        Identity::Nobody => {}
        Identity::Token(token) => connect.auth_token = Some(token.expose()),
        Identity::User { name, password } => {
            (connect.user, connect.pass) = (Some(&**name), Some(password.expose()));
        }
        Identity::Key { key, jwt } => {
            let signature = key.sign(info.nonce.as_bytes());
            let signature = signature.map_err(|_| ConnectError::Unusable {
                reason: "the nkey is a public one, which cannot log in".into(),
            })?;
            connect.sig = Some(URL_SAFE_NO_PAD.encode(signature));
            match jwt {
                Some(jwt) => connect.jwt = Some(jwt.expose()),
                None => connect.nkey = Some(key.public_key()),
            }
        }
    }
    Ok(connect)
}

/// Waits for `INFO`.
async fn greeting(io: &mut Io) -> Result<Info, ConnectError> {
    loop {
        match parse(&io.input).map_err(unreachable)? {
            Parsed::Whole(Said::Info(json), bytes) => {
                let info = Info::read(json)
                    .ok_or_else(|| unreachable("what the server says of itself cannot be read"))?;
                io.input.advance(bytes);
                return Ok(info);
            }
            Parsed::Whole(Said::Error(text), _) => return Err(refused(&text)),
            Parsed::Whole(..) => {
                return Err(unreachable("the server does not say who it is"));
            }
            Parsed::Part(_) => {}
        }
        io.progress(true).await.map_err(unreachable)?;
    }
}

/// Waits until the server has answered for `CONNECT`.
async fn answered(io: &mut Io) -> Result<(), ConnectError> {
    loop {
        match parse(&io.input).map_err(unreachable)? {
            Parsed::Whole(said, bytes) => {
                match said {
                    Said::Pong => {
                        io.input.advance(bytes);
                        return Ok(());
                    }
                    Said::Error(text) => return Err(refused(&text)),
                    Said::Info(_) | Said::Fine | Said::Message(..) => {}
                    Said::Ping => io.output.buffer().extend_from_slice(b"PONG\r\n"),
                }
                io.input.advance(bytes);
            }
            Parsed::Part(_) => {
                io.progress(true).await.map_err(unreachable)?;
            }
        }
    }
}

async fn encrypted(io: Io, address: &ServerAddress, tls: &ClientTls) -> Result<Io, ConnectError> {
    // Whatever came in clear behind the greeting could be from anybody.
    if !io.input.is_empty() {
        return Err(refused("the server goes on without TLS"));
    }
    let name = ServerName::try_from(address.host().to_owned()).map_err(unreachable)?;
    let connector = TlsConnector::from(Arc::new(tls.config(&[]).await?));
    let stream = connector.connect(name, io.into_stream()).await.map_err(unreachable)?;
    Ok(Io::new(Box::new(stream)))
}

fn version(text: &str) -> (u16, u16) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

fn refused(reason: &str) -> ConnectError {
    ConnectError::Refused { reason: reason.into() }
}

fn unreachable(error: impl Into<BoxError>) -> ConnectError {
    ConnectError::Unreachable(error.into())
}
