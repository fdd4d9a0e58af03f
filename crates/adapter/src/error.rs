use std::time::Duration;

use transload_envelope::Text;

/// A client library's error; adapters never expose its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers, or the answer broke off: worth trying again.
    #[error("cannot reach the peer")]
    Unreachable(#[source] BoxError),
    /// The peer answers and does not want us: wrong credentials, a missing queue, no permission.
    /// Tried again too, since the cure may happen at the peer, but a person should look.
    #[error("the peer refused: {reason}")]
    Refused {
        /// What the peer said.
        reason: Text,
    },
    /// Trying again cannot help: the address is in use, a certificate cannot be read. The gateway
    /// does not start.
    #[error("{reason}")]
    Unusable {
        /// What is wrong and how to cure it.
        reason: Text,
    },
}

impl ConnectError {
    /// Of two peers that could not be connected to, one that refused tells a person the most;
    /// otherwise the later one counts.
    #[must_use]
    pub fn or(self, later: Self) -> Self {
        match (self, later) {
            (refused @ Self::Refused { .. }, Self::Unreachable(_)) => refused,
            (_, later) => later,
        }
    }
}

/// Why nothing more comes in.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection is lost; connect again.
    #[error("disconnected")]
    Disconnected(#[source] BoxError),
    /// The adapter was asked to stop and has handed over everything.
    #[error("end of input")]
    Ended,
}

/// Why a message was not sent, named by the reaction that it needs.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The target takes nothing at present: hold everything meant for it, and try again, not
    /// before the delay if the peer gave one. Is not counted as an attempt of this message.
    #[error("the target is busy: {reason}")]
    Busy {
        /// As asked for by the peer.
        after: Option<Duration>,
        /// What the peer said.
        reason: Text,
    },
    /// The connection is gone: connect again, then try again. The message may have arrived. Is not
    /// counted as an attempt of this message.
    #[error("disconnected")]
    Disconnected(#[source] BoxError),
    /// The peer could not handle this message now and may later (a negative acknowledgement, HTTP
    /// 500): try again, a bounded number of times.
    #[error("the target failed: {reason}")]
    Failed {
        /// What the peer said.
        reason: Text,
    },
    /// This message will never be accepted: to the dead letters.
    #[error("the target rejected the message: {reason}")]
    Rejected {
        /// What the peer said.
        reason: Text,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_refused_tells_more_than_one_that_is_away() {
        let refused = || ConnectError::Refused { reason: "no".into() };
        let away = || ConnectError::Unreachable("away".into());
        let unusable = ConnectError::Unusable { reason: "none".into() };
        assert!(matches!(refused().or(away()), ConnectError::Refused { .. }));
        assert!(matches!(away().or(refused()), ConnectError::Refused { .. }));
        assert!(matches!(unusable.or(away()), ConnectError::Unreachable(_)));
    }
}
