//! The way to the broker: TCP, with TLS, as a WebSocket, or both.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

use crate::{
    client::{error::Broken, options::Peer},
    io::Stream,
    websocket::{self, SUBPROTOCOL, WebSocketWire},
};

/// How much larger than a packet a WebSocket message may be: brokers put many packets into one.
const MESSAGE_BYTES_MORE: usize = 16 * 1024 * 1024;

/// Connects once.
pub(super) async fn connect(peer: &Peer, bytes_max: usize) -> Result<Box<dyn Stream>, Broken> {
    let stream = TcpStream::connect((&*peer.host, peer.port)).await.map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    Ok(match (&peer.tls, &peer.websocket) {
        (None, None) => Box::new(stream),
        (None, Some(url)) => Box::new(upgrade(url, stream, bytes_max).await?),
        (Some(tls), None) => Box::new(secure(tls, &peer.host, stream).await?),
        (Some(tls), Some(url)) => {
            let stream = secure(tls, &peer.host, stream).await?;
            Box::new(upgrade(url, stream, bytes_max).await?)
        }
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is used as a function of an error")]
fn lost(error: std::io::Error) -> Broken {
    Broken::Lost(format!("I/O: {error}"))
}

async fn secure(
    tls: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Broken> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Broken::Unusable(format!("TLS: {host}: {error}")))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    connector
        .connect(name, stream)
        .await
        .map_err(|error| Broken::Lost(format!("TLS: I/O: {error}")))
}

/// Does the handshake of a client, which asks for the subprotocol `mqtt` [MQTT-6.0.0-3].
async fn upgrade<S>(url: &str, stream: S, bytes_max: usize) -> Result<WebSocketWire<S>, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = url.into_client_request().map_err(|error| refusal(&error))?;
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    let settings = websocket::settings(bytes_max.saturating_add(MESSAGE_BYTES_MORE));
    match client_async_with_config(request, stream, Some(settings)).await {
        Ok((socket, _)) => Ok(WebSocketWire::new(socket)),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &Error) -> Broken {
    let reason = format!("WebSocket: {error}");
    match error {
        Error::Url(_) | Error::HttpFormat(_) => Broken::Unusable(reason),
        // The server speaks WebSocket, and not MQTT over it.
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => Broken::Refused(reason),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Http(_) => Broken::Lost(reason),
    }
}
