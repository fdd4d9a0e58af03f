//! A listener's part of the WebSocket handshake.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Error,
        handshake::server::{Request, Response},
        http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

use crate::websocket::{self, SUBPROTOCOL, WebSocketWire};

/// The path that clients ask for.
const PATH: &str = "/mqtt";

type Refusal = tokio_tungstenite::tungstenite::handshake::server::ErrorResponse;

/// Does the handshake of a server. Refuses other paths with 404, and clients that do not offer the
/// subprotocol `mqtt` with 400 [MQTT-6.0.0-3].
pub(super) async fn accept<S>(stream: S, bytes_max: usize) -> Result<WebSocketWire<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let settings = Some(websocket::settings(bytes_max));
    accept_hdr_async_with_config(stream, check, settings).await.map(WebSocketWire::new)
}

#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn check(request: &Request, mut response: Response) -> Result<Response, Refusal> {
    let offers_mqtt = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim() == SUBPROTOCOL);
    let status = if request.uri().path() != PATH {
        StatusCode::NOT_FOUND
    } else if !offers_mqtt {
        StatusCode::BAD_REQUEST
    } else {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        return Ok(response);
    };
    let mut refusal = Refusal::new(None);
    *refusal.status_mut() = status;
    Err(refusal)
}
