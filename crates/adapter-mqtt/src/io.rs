//! Frames from and to one peer over a byte stream, of the listener and of the client alike.

use std::{collections::VecDeque, fmt, future::poll_fn, io, io::IoSlice, pin::Pin, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::codec::{self, Fault};

/// A peer's byte stream: TCP, TLS or WebSocket.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// How much room a read begins with; what an idle connection costs.
const READ_BYTES_MIN: usize = 1024;
/// How much room a busy connection's read has.
const READ_BYTES_MAX: usize = 64 * 1024;
/// A read buffer of which all was taken is not kept above this, in bytes.
const IDLE_BYTES_MAX: usize = 4 * READ_BYTES_MAX;
/// Frames below this are copied out of the read buffer, so that a small message that waits for
/// long does not hold a large buffer.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Payloads below this are copied behind their header; larger ones are shared by all subscribers.
const INLINE_BYTES_MAX: usize = 4 * 1024;

/// What came of waiting for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many bytes were read; 0 is the end of the stream.
    Read(usize),
    /// Something was written.
    Wrote,
}

/// Frames from and to one peer. Reading and writing go on side by side, so that a peer that writes
/// without reading cannot make both sides wait for each other.
pub(crate) struct Io {
    wire: Box<dyn Wire>,
    input: BytesMut,
    read_bytes: usize,
    /// Frames below this are copied.
    copy_bytes_max: usize,
    /// Bytes on their way to the peer.
    pub(crate) output: Output,
    unflushed: bool,
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("input", &self.input.len())
            .field("output", &self.output.len())
            .finish_non_exhaustive()
    }
}

impl Io {
    pub(crate) fn new(wire: Box<dyn Wire>) -> Self {
        Self {
            wire,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            copy_bytes_max: COPY_BYTES_MAX,
            output: Output::default(),
            unflushed: false,
        }
    }

    /// For one connection that brings many messages, of which many wait for their
    /// acknowledgement: each frame takes the memory that it needs and no more, and the read buffer
    /// is used again and again.
    #[must_use]
    pub(crate) fn copying_frames(self) -> Self {
        Self { copy_bytes_max: usize::MAX, ..self }
    }

    /// Whether the read buffer is never shared, so that making room in it costs no new one.
    fn copies_all(&self) -> bool {
        self.copy_bytes_max == usize::MAX
    }

    /// Writes what there is to write, and reads when asked to; returns after the first progress.
    /// Cancel-safe.
    pub(crate) async fn progress(&mut self, read: bool) -> io::Result<Progress> {
        if read {
            self.make_room();
        }
        poll_fn(|cx| {
            let mut wrote = false;
            while !self.output.is_empty() {
                match poll_write_buf(Pin::new(&mut self.wire), cx, &mut self.output) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(_)) => wrote = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            self.unflushed |= wrote;
            if self.unflushed && self.output.is_empty() {
                match Pin::new(&mut self.wire).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            if read
                && let Poll::Ready(bytes) =
                    poll_read_buf(Pin::new(&mut self.wire), cx, &mut self.input)
            {
                return Poll::Ready(bytes.map(Progress::Read));
            }
            if wrote { Poll::Ready(Ok(Progress::Wrote)) } else { Poll::Pending }
        })
        .await
        .inspect(|progress| self.adapt(*progress))
    }

    fn make_room(&mut self) {
        let least = if self.copies_all() { self.read_bytes } else { READ_BYTES_MIN };
        if self.input.capacity() - self.input.len() < least {
            self.input.reserve(self.read_bytes);
        }
    }

    /// Gives a busy connection larger reads.
    fn adapt(&mut self, progress: Progress) {
        if let Progress::Read(bytes) = progress {
            self.read_bytes = if bytes >= self.read_bytes {
                (self.read_bytes * 2).min(READ_BYTES_MAX)
            } else {
                (self.read_bytes / 2).max(bytes.next_power_of_two()).max(READ_BYTES_MIN)
            };
        }
    }

    /// The next whole frame that was read.
    pub(crate) fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Fault> {
        let Some(length) = codec::frame_length(&self.input, bytes_max)? else { return Ok(None) };
        let missing = length.saturating_sub(self.input.len());
        if missing > 0 {
            // The room is made as the bytes come, so that a large length alone costs nothing.
            self.input.reserve(missing.min(READ_BYTES_MAX));
            return Ok(None);
        }
        let frame = match self.input.get(..length) {
            Some(frame) if length < self.copy_bytes_max => {
                let frame = Bytes::copy_from_slice(frame);
                self.input.advance(length);
                frame
            }
            _ => self.input.split_to(length).freeze(),
        };
        let idle = !self.copies_all() && self.read_bytes == READ_BYTES_MIN;
        if self.input.is_empty() && (idle || self.input.capacity() > IDLE_BYTES_MAX) {
            self.input = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Whether a whole frame waits in the read buffer, or one that is refused by its length.
    pub(crate) fn has_frame(&self, bytes_max: usize) -> bool {
        match codec::frame_length(&self.input, bytes_max) {
            Ok(length) => length.is_some_and(|length| length <= self.input.len()),
            Err(_) => true,
        }
    }

    /// What was read and is no whole frame yet.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.input
    }

    /// Writes everything that is to be written, and closes. Not cancel-safe.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        while !self.output.is_empty() || self.unflushed {
            poll_fn(|cx| {
                while !self.output.is_empty() {
                    match poll_write_buf(Pin::new(&mut self.wire), cx, &mut self.output) {
                        Poll::Ready(Ok(0)) => {
                            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                        }
                        Poll::Ready(Ok(_)) => self.unflushed = true,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Pin::new(&mut self.wire).poll_flush(cx)
            })
            .await?;
            self.unflushed = false;
        }
        poll_fn(|cx| Pin::new(&mut self.wire).poll_shutdown(cx)).await
    }

    /// Reads what still comes until the peer closes too. A connection that is dropped with bytes
    /// unread is reset, and the peer may lose what was written to it last.
    pub(crate) async fn drain(&mut self) {
        while let Ok(Progress::Read(1..) | Progress::Wrote) = self.progress(true).await {
            self.input.clear();
        }
    }
}

/// Bytes on their way to one peer: small packets in one buffer, large payloads as they are.
#[derive(Debug, Default)]
pub(crate) struct Output {
    chunks: VecDeque<Bytes>,
    chunks_bytes: usize,
    tail: BytesMut,
    written: u64,
}

impl Output {
    /// How many bytes have gone out.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Where packets are written.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Adds a payload behind what was written.
    pub(crate) fn payload(&mut self, payload: &Bytes) {
        if payload.len() < INLINE_BYTES_MAX {
            self.tail.extend_from_slice(payload);
        } else {
            let head = self.tail.split().freeze();
            self.chunks_bytes += head.len() + payload.len();
            self.chunks.extend([head, payload.clone()]);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.chunks_bytes + self.tail.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
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
    use super::*;

    #[test]
    fn output_keeps_its_order_however_it_is_taken() {
        let mut output = Output::default();
        let mut expected = Vec::new();
        for size in [3, 5000, 0, 1, 4096, 9_usize] {
            output.buffer().extend_from_slice(b"head");
            let payload = Bytes::from(vec![size.to_le_bytes()[0]; size]);
            output.payload(&payload);
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(&payload);
        }
        assert_eq!(output.len(), expected.len());
        let mut got = Vec::new();
        while output.has_remaining() {
            let part = output.chunk().len().min(1000);
            assert!(part > 0);
            got.extend_from_slice(&output.chunk()[..part]);
            output.advance(part);
        }
        assert_eq!(got, expected);
    }
}
