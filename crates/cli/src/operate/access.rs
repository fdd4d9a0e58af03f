//! Where the gateway is: running, to be asked over HTTP, or stopped, with its files to be opened.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use transload_adapter::Secret;
use transload_gateway::{Offline, OfflineError, config::Configuration};

use super::Failure;

/// How long a running gateway may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a running gateway may take to answer; its disk may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// The gateway.
pub(super) enum Access {
    Running(SocketAddr, Option<Secret>),
    Stopped { files: Box<Offline>, folder: PathBuf },
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(address, _) => write!(f, "The gateway runs; it is asked at {address}."),
            Self::Stopped { folder, .. } => {
                write!(f, "The gateway is stopped; its files in `{}` are used.", folder.display())
            }
        }
    }
}

impl Access {
    /// Finds out whether a gateway runs on the data directory: that is so when its files are locked.
    pub(super) async fn open(configuration: &Configuration) -> Result<Self, Failure> {
        let settings = &configuration.gateway;
        match Offline::open(configuration).await {
            Ok(files) => {
                let folder = settings.data_dir.clone();
                Ok(Self::Stopped { files: Box::new(files), folder })
            }
            Err(OfflineError::Running) => match settings.admin {
                Some(address) => {
                    Ok(Self::Running(reachable(address), settings.admin_token.clone()))
                }
                None => Err("the gateway runs and has no admin address: write \
                             `admin = \"127.0.0.1:9640\"` into `[gateway]`, or stop it first"
                    .to_owned()),
            },
            Err(
                error @ (OfflineError::Missing(_) | OfflineError::Data(_) | OfflineError::Queue(_)),
            ) => Err(error.to_string()),
        }
    }

    /// Whether a gateway runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(..))
    }

    /// Asks for a page; an answer that is no success is a failure.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.request("GET", path, None).await
    }

    /// Posts to a page; an answer that is no success is a failure.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.request("POST", path, Some(body)).await
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (status, answer) = match self {
            Self::Stopped { files, .. } => files.request(method, path, body).await,
            Self::Running(address, token) => {
                let asking = ask(*address, token.as_ref(), method, path, body);
                let asked = timeout(ANSWER_TIMEOUT, asking).await;
                asked
                    .unwrap_or_else(|_| Err("there was no answer in time".into()))
                    .map_err(|error| format!("the gateway cannot be asked at {address}: {error}"))?
            }
        };
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        match answer.get("error").and_then(Value::as_str) {
            Some(reason) => Err(reason.to_owned()),
            None => Err(format!("the gateway answered with the status {status}")),
        }
    }

    /// Writes what is open and closes.
    pub(super) async fn close(self) {
        match self {
            Self::Running(..) => {}
            Self::Stopped { files, .. } => files.close().await,
        }
    }
}

/// An address that listens everywhere is reached on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(
    address: SocketAddr,
    token: Option<&Secret>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), BoxError> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let body = body.map(ToString::to_string).unwrap_or_default();
    let mut request = Request::builder();
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_reached_here() {
        for (address, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()).to_string(), expected);
        }
    }
}
