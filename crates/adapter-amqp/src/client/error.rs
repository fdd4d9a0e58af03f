//! What can go wrong with a connection.

use std::{io, sync::Arc};

use amq_protocol::{
    frame::ProtocolVersion,
    protocol::{AMQPError, AMQPSoftError, channel, connection},
};
use transload_envelope::Text;

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The broker's reason to close a channel or the connection.
    #[error("{0}")]
    Told(AMQPError),
    /// The channel was closed before, for a reason that was told to someone else.
    #[error("the channel is closed")]
    ChannelClosed,
    /// All channels that the broker allows are in use.
    #[error("the broker allows no more channels")]
    NoChannel,
    /// The connection was closed, by whom was told to someone else.
    #[error("the connection is closed")]
    Closed,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] Arc<io::Error>),
    /// No heartbeat came for too long.
    #[error("the broker gives no sign of life")]
    Silent,
    /// The broker speaks another version of the protocol.
    #[error("the broker speaks version {0} of AMQP, and not 0-9-1")]
    Version(ProtocolVersion),
    /// The broker does not offer the way to log in that is asked for.
    #[error("{0}")]
    Login(String),
    /// The broker does not keep to the protocol.
    #[error("{0}")]
    Protocol(Text),
}

/// A result with an error of the connection.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The broker does not keep to the protocol in this way.
    pub(crate) fn protocol(text: impl Into<Text>) -> Self {
        Self::Protocol(text.into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<connection::Close> for Error {
    fn from(close: connection::Close) -> Self {
        let text = format!("{} {}", close.reply_code, close.reply_text);
        AMQPError::try_from(close).map_or_else(|_| Self::protocol(text), Self::Told)
    }
}

impl From<channel::Close> for Error {
    fn from(close: channel::Close) -> Self {
        let text = close.reply_text.clone();
        // A code that the specification does not know closes a channel all the same.
        let unknown = |_| AMQPError::new(AMQPSoftError::PRECONDITIONFAILED.into(), text);
        Self::Told(AMQPError::try_from(close).unwrap_or_else(unknown))
    }
}
