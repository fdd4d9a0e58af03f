//! A connection that somebody reads and writes.

use std::io;

use bytes::BytesMut;

use super::{Output, Progress, Stream, Wire};

/// How much room a read begins with. To those that publish come confirmations, of a few bytes each.
const READ_BYTES_MIN: usize = 4 * 1024;
/// How much room a read has once one was filled.
const READ_BYTES_MAX: usize = 64 * 1024;
/// An empty read buffer is not kept above this, in bytes.
const IDLE_BYTES_MAX: usize = 4 * READ_BYTES_MAX;

/// Both directions of one connection to a broker, with what was read and what is to be written.
#[derive(Debug)]
pub struct Io {
    wire: Wire,
    /// What was read and not taken.
    pub input: BytesMut,
    read_bytes: usize,
    /// What is to be written.
    pub output: Output,
}

impl Io {
    /// A stream of which nothing was read or written yet.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            wire: Wire::new(stream),
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            output: Output::default(),
        }
    }

    /// Writes what there is to write, and reads if it is asked to; returns after the first progress.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of the stream, and its end.
    pub async fn progress(&mut self, read: bool) -> io::Result<Progress> {
        if read {
            self.make_room(self.read_bytes);
        }
        let input = read.then_some(&mut self.input);
        let progress = self.wire.progress(&mut self.output, input).await?;
        match progress {
            Progress::Read(0) => {
                let reason = "the broker has closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
            Progress::Read(bytes) if bytes >= self.read_bytes => self.read_bytes = READ_BYTES_MAX,
            Progress::Read(_) | Progress::Wrote => {}
        }
        Ok(progress)
    }

    /// Makes room for so many bytes behind what was read, for whoever knows that they come.
    pub fn make_room(&mut self, bytes: usize) {
        if self.input.is_empty() && self.input.capacity() > IDLE_BYTES_MAX.max(bytes) {
            self.input = BytesMut::new();
        }
        self.input.reserve(bytes);
    }

    /// Writes everything that is to be written. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.wire.flush(&mut self.output).await
    }

    /// Writes everything that is to be written, and closes.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn close(&mut self) -> io::Result<()> {
        self.wire.close(&mut self.output).await
    }

    /// The stream alone, for a protocol that begins anew on it, such as TLS.
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.wire.into_stream()
    }
}
