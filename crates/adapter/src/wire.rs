//! Bytes from and to one peer, for protocols whose connections are our own.

mod io;

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{ErrorKind, IoSlice, Result},
    pin::Pin,
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

pub use self::io::Io;

/// Payloads below this are copied behind their header; larger ones are written where they lie, and
/// shared by all to whom they go.
const INLINE_BYTES_MAX: usize = 4 * 1024;

/// A peer's byte stream: TCP, TLS or WebSocket.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What came of waiting for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes were read; 0 is the end of the stream.
    Read(usize),
    /// Something was written.
    Wrote,
}

/// Both directions of one stream. They go on side by side, so that a peer that writes without
/// reading cannot make both sides wait for each other.
pub struct Wire {
    stream: Box<dyn Stream>,
    unflushed: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("unflushed", &self.unflushed).finish_non_exhaustive()
    }
}

impl Wire {
    /// A stream of which nothing was written yet.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, unflushed: false }
    }

    /// Writes what there is to write, and reads into the free room of the buffer, if there is one;
    /// returns after the first progress. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn progress(
        &mut self,
        output: &mut Output,
        mut input: Option<&mut BytesMut>,
    ) -> Result<Progress> {
        poll_fn(|cx| {
            let before = output.written();
            if let Poll::Ready(Err(error)) = self.poll_write(cx, output) {
                return Poll::Ready(Err(error));
            }
            if let Some(input) = &mut input
                && let Poll::Ready(bytes) = poll_read_buf(Pin::new(&mut self.stream), cx, input)
            {
                return Poll::Ready(bytes.map(Progress::Read));
            }
            if output.written() > before { Poll::Ready(Ok(Progress::Wrote)) } else { Poll::Pending }
        })
        .await
    }

    /// Ready when everything has left.
    fn poll_write(
        &mut self,
        cx: &mut std::task::Context<'_>,
        output: &mut Output,
    ) -> Poll<Result<()>> {
        while !output.is_empty() {
            match poll_write_buf(Pin::new(&mut self.stream), cx, output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(_)) => self.unflushed = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                other @ (Poll::Ready(Err(_)) | Poll::Pending) => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes everything that is to be written. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn flush(&mut self, output: &mut Output) -> Result<()> {
        poll_fn(|cx| self.poll_write(cx, output)).await
    }

    /// The stream itself.
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    /// Writes everything that is to be written, and closes.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn close(&mut self, output: &mut Output) -> Result<()> {
        self.flush(output).await?;
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }
}

/// Bytes on their way to one peer: small packets in one buffer, large payloads as they are.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Bytes>,
    chunks_bytes: usize,
    tail: BytesMut,
    written: u64,
}

impl Output {
    /// How many bytes have gone out.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Where packets are written.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Adds a payload behind what was written.
    pub fn payload(&mut self, payload: &Bytes) {
        if payload.len() < INLINE_BYTES_MAX {
            self.tail.extend_from_slice(payload);
        } else {
            let head = self.tail.split().freeze();
            self.chunks_bytes += head.len() + payload.len();
            self.chunks.extend([head, payload.clone()]);
        }
    }

    /// Adds what was written elsewhere.
    pub fn append(&mut self, other: Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = Self { written: self.written, ..other };
            return;
        }
        let head = self.tail.split().freeze();
        self.chunks_bytes += head.len() + other.chunks_bytes;
        self.chunks.push_back(head);
        self.chunks.extend(other.chunks);
        self.tail = other.tail;
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.chunks_bytes + self.tail.len()
    }

    /// Whether everything has gone out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail[..], |chunk| &chunk[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let all = self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(all.filter(|chunk| !chunk.is_empty())) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        self.written += count as u64;
        while let Some(chunk) = self.chunks.front_mut() {
            let part = count.min(chunk.len());
            chunk.advance(part);
            count -= part;
            self.chunks_bytes -= part;
            if !chunk.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            // An idle connection keeps no buffer.
            self.tail = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn taken(mut output: Output) -> Vec<u8> {
        let mut got = Vec::new();
        while output.has_remaining() {
            let part = output.chunk().len().min(1000);
            assert!(part > 0);
            got.extend_from_slice(&output.chunk()[..part]);
            output.advance(part);
        }
        got
    }

    #[test]
    fn output_keeps_its_order_however_it_is_taken() {
        let mut whole = Output::default();
        let mut expected = Vec::new();
        for size in [3, 5000, 0, 1, 4096, 9_usize] {
            let mut output = Output::default();
            output.buffer().extend_from_slice(b"head");
            let payload = Bytes::from(vec![size.to_le_bytes()[0]; size]);
            output.payload(&payload);
            let bytes = [b"head", &payload[..]].concat();
            assert_eq!(output.len(), bytes.len());
            expected.extend_from_slice(&bytes);
            whole.append(output);
        }
        assert_eq!(whole.len(), expected.len());
        assert_eq!(taken(whole), expected);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_read_all_the_same() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut wire = Wire::new(Box::new(near));
        let (mut output, mut input) = (Output::default(), BytesMut::with_capacity(64));
        output.buffer().extend_from_slice(&[7; 100]);
        let progress = wire.progress(&mut output, Some(&mut input)).await.unwrap();
        assert_eq!(progress, Progress::Wrote);
        far.write_all(b"hello").await.unwrap();
        let progress = wire.progress(&mut output, Some(&mut input)).await.unwrap();
        assert_eq!((progress, &input[..], output.len()), (Progress::Read(5), &b"hello"[..], 84));
        let mut rest = [0; 100];
        let (read, closed) = tokio::join!(far.read_exact(&mut rest), wire.close(&mut output));
        closed.unwrap();
        assert_eq!((read.unwrap(), output.is_empty()), (100, true));
        drop(far);
        let progress = wire.progress(&mut output, Some(&mut input)).await.unwrap();
        assert_eq!(progress, Progress::Read(0));
    }
}
