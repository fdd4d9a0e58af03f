//! Frames from and to one peer over a byte stream, of the listener and of the client alike.

use std::{fmt, io};

use bytes::{Buf as _, Bytes, BytesMut};
use transload_adapter::wire::{Output, Wire};
pub(crate) use transload_adapter::wire::{Progress, Stream};

use crate::codec::{self, Fault};

/// How much room a read begins with; what an idle connection costs.
const READ_BYTES_MIN: usize = 1024;
/// How much room a busy connection's read has.
const READ_BYTES_MAX: usize = 64 * 1024;
/// A read buffer of which all was taken is not kept above this, in bytes.
const IDLE_BYTES_MAX: usize = 4 * READ_BYTES_MAX;
/// Frames below this are copied out of the read buffer, so that a small message that waits for
/// long does not hold a large buffer.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Frames from and to one peer.
pub(crate) struct Io {
    wire: Wire,
    input: BytesMut,
    read_bytes: usize,
    /// Frames below this are copied.
    copy_bytes_max: usize,
    /// Bytes on their way to the peer.
    pub(crate) output: Output,
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
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            wire: Wire::new(stream),
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            copy_bytes_max: COPY_BYTES_MAX,
            output: Output::default(),
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
        let input = read.then_some(&mut self.input);
        let progress = self.wire.progress(&mut self.output, input).await?;
        self.adapt(progress);
        Ok(progress)
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

    /// Writes everything that is to be written, and closes.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.wire.close(&mut self.output).await
    }

    /// Reads what still comes until the peer closes too. A connection that is dropped with bytes
    /// unread is reset, and the peer may lose what was written to it last.
    pub(crate) async fn drain(&mut self) {
        while let Ok(Progress::Read(1..) | Progress::Wrote) = self.progress(true).await {
            self.input.clear();
        }
    }
}
