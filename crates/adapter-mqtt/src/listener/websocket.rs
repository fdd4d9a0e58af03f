//! MQTT over WebSocket (MQTT 5, section 6): packets in binary messages, however they are cut.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{Request, Response},
        http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

/// The path that clients ask for.
const PATH: &str = "/mqtt";

/// A WebSocket as a stream of bytes.
pub(super) struct WebSocketWire<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

type Refusal = tokio_tungstenite::tungstenite::handshake::server::ErrorResponse;

/// Does the handshake of a server. Refuses other paths with 404, and clients that do not offer the
/// subprotocol `mqtt` with 400 [MQTT-6.0.0-3].
pub(super) async fn accept<S>(stream: S, bytes_max: usize) -> Result<WebSocketWire<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(bytes_max.saturating_add(256 * 1024))
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let socket = accept_hdr_async_with_config(stream, check, Some(config)).await?;
    Ok(WebSocketWire { socket, unread: Bytes::new() })
}

#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn check(request: &Request, mut response: Response) -> Result<Response, Refusal> {
    let offers_mqtt = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim() == "mqtt");
    let status = if request.uri().path() != PATH {
        StatusCode::NOT_FOUND
    } else if !offers_mqtt {
        StatusCode::BAD_REQUEST
    } else {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
        return Ok(response);
    };
    let mut refusal = Refusal::new(None);
    *refusal.status_mut() = status;
    Err(refusal)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketWire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    // [MQTT-6.0.0-1]
                    return Poll::Ready(Err(io::Error::other("a WebSocket message that is text")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.unread.len().min(into.remaining());
        into.put_slice(&this.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketWire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &mut self.get_mut().socket;
        ready!(Pin::new(&mut *socket).poll_ready(cx)).map_err(io::Error::other)?;
        let mut part = bytes.get(..64 * 1024).unwrap_or(bytes);
        let message = Message::Binary(part.copy_to_bytes(part.len()));
        let count = message.len();
        Pin::new(socket).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(cx).map_err(io::Error::other)
    }
}
