//! Bytes from and to the broker.

use std::io;

use bytes::BytesMut;
use transload_adapter::wire::Wire;
pub(super) use transload_adapter::wire::{Output, Progress, Stream};

/// How much room a read begins with. To those that publish come confirmations, of a few bytes each.
const READ_BYTES_MIN: usize = 4 * 1024;
/// How much room a read has once one was filled.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Io {
    wire: Wire,
    /// What was read and not taken.
    pub(super) input: BytesMut,
    read_bytes: usize,
    pub(super) output: Output,
}

impl Io {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            wire: Wire::new(stream),
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            output: Output::default(),
        }
    }

    /// Writes what there is to write, and reads if it is asked to; returns after the first progress.
    /// The end of the stream is an error. Cancel-safe.
    pub(super) async fn progress(&mut self, read: bool) -> io::Result<Progress> {
        if read {
            self.input.reserve(self.read_bytes);
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

    /// Writes everything that is to be written. Cancel-safe.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.wire.flush(&mut self.output).await
    }
}
