//! Bytes from and to the broker.

use std::{collections::VecDeque, future::poll_fn, io, io::IoSlice, pin::Pin, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

/// A broker's byte stream: TCP or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How much room a read begins with. To those that publish come confirmations, of a few bytes each.
const READ_BYTES_MIN: usize = 4 * 1024;
/// How much room a read has once one was filled.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What came of waiting for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Read,
    Wrote,
}

/// Both directions of one stream, which go on side by side: a broker that writes before it reads on
/// cannot make both sides wait for each other.
pub(super) struct Io {
    stream: Box<dyn Stream>,
    pub(super) input: BytesMut,
    read_bytes: usize,
    pub(super) output: Output,
    unflushed: bool,
}

impl Io {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            output: Output::default(),
            unflushed: false,
        }
    }

    /// Writes what there is to write, and reads if it is asked to; returns after the first progress.
    /// The end of the stream is an error. Cancel-safe.
    pub(super) async fn progress(&mut self, read: bool) -> io::Result<Progress> {
        poll_fn(|cx| {
            let mut wrote = false;
            while !self.output.is_empty() {
                match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.output) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(_)) => (wrote, self.unflushed) = (true, true),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if self.unflushed && self.output.is_empty() {
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            if !read {
                return if wrote { Poll::Ready(Ok(Progress::Wrote)) } else { Poll::Pending };
            }
            self.input.reserve(self.read_bytes);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input) {
                Poll::Ready(Ok(0)) => {
                    let reason = "the broker has closed the connection";
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason)))
                }
                Poll::Ready(Ok(count)) => {
                    if count == self.read_bytes {
                        self.read_bytes = READ_BYTES_MAX;
                    }
                    Poll::Ready(Ok(Progress::Read))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending if wrote => Poll::Ready(Ok(Progress::Wrote)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Whether everything has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }
}

/// Bytes on their way to the broker, in pieces, so that large payloads are not copied.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Output {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let count = into.len().min(self.pieces.len());
        for (slot, piece) in into.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            if first.len() > count {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn pieces_are_left_behind_as_they_are_written() {
        let mut output = Output::default();
        for piece in ["abc", "", "defg", "h"] {
            output.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!((output.len(), output.chunk()), (8, &b"abc"[..]));
        output.advance(5);
        assert_eq!((output.len(), output.chunk()), (3, &b"fg"[..]));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(output.chunks_vectored(&mut slices), 2);
        output.advance(3);
        assert!(output.is_empty());
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_read_all_the_same() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut io = Io::new(Box::new(near));
        io.output.push(vec![7; 100].into());
        assert_eq!(io.progress(true).await.unwrap(), Progress::Wrote);
        far.write_all(b"hello").await.unwrap();
        assert_eq!(io.progress(true).await.unwrap(), Progress::Read);
        assert_eq!((&io.input[..], io.output.len()), (&b"hello"[..], 84));
        let mut rest = [0; 100];
        let reading = far.read_exact(&mut rest);
        let writing = async {
            while !io.is_flushed() {
                io.progress(true).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(reading, writing);
        read.unwrap();
        drop(far);
        assert_eq!(io.progress(true).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
