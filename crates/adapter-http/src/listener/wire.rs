//! The bytes of a connection: which version of HTTP they are, and peers that take nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use transload_listen::Stream;

/// What every connection of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A connection that gives up a peer which takes nothing of what is sent to it.
pub(super) struct Wire {
    stream: Stream,
    /// What was read to find out the version.
    read_ahead: Bytes,
    write_timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    /// Finds out the version: by the handshake of TLS, and in the clear by the first bytes.
    pub(super) async fn open(
        mut stream: Stream,
        write_timeout: Duration,
    ) -> io::Result<(Version, Self)> {
        let version = match (&stream, stream.protocol()) {
            (Stream::Tls(_), Some(b"h2")) => Some(Version::Http2),
            (Stream::Tls(_), Some(_) | None) => Some(Version::Http1),
            (Stream::Tcp(_), _) => None,
        };
        let mut read_ahead = Vec::new();
        let version = match version {
            Some(version) => version,
            None => first_bytes(&mut stream, &mut read_ahead).await?,
        };
        let wire = Self { stream, read_ahead: read_ahead.into(), write_timeout, stalled: None };
        Ok((version, wire))
    }

    /// What to do after a write that made progress, or none.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

/// Reads until it is plain which version it is.
async fn first_bytes(stream: &mut Stream, read: &mut Vec<u8>) -> io::Result<Version> {
    let mut piece = [0; PREFACE.len()];
    while read.len() < PREFACE.len() {
        let room = piece.get_mut(read.len()..).unwrap_or_default();
        let count = stream.read(room).await?;
        read.extend_from_slice(room.get(..count).unwrap_or_default());
        if count == 0 || !PREFACE.starts_with(read) {
            return Ok(Version::Http1);
        }
    }
    Ok(Version::Http2)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, into);
        }
        let count = this.read_ahead.len().min(into.remaining());
        into.put_slice(this.read_ahead.get(..count).unwrap_or_default());
        this.read_ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunks: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, chunks);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch(cx, shut)
    }
}
