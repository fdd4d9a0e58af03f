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
    WebSocketStream,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// The name of the subprotocol [MQTT-6.0.0-3].
pub(crate) const SUBPROTOCOL: &str = "mqtt";

/// A WebSocket as a stream of bytes.
pub(crate) struct WebSocketWire<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S> WebSocketWire<S> {
    /// After the handshake of either side.
    pub(crate) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, unread: Bytes::new() }
    }
}

/// Settings for messages of so many bytes.
pub(crate) fn settings(bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(bytes_max.saturating_add(256 * 1024))
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max))
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
