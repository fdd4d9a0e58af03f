//! What each error of the client means for the gateway: one exhaustive table per operation.

use async_nats::{
    ConnectErrorKind, PublishErrorKind, ServerError,
    jetstream::{self, ErrorCode, stream::ConsumerErrorKind},
};
use transload_adapter::{BoxError, ConnectError, SendError};

/// The connection is gone and no error of the client says why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Loss(pub(crate) String);

impl Loss {
    pub(crate) fn boxed(reason: impl Into<String>) -> BoxError {
        Box::new(Self(reason.into()))
    }
}

/// Why a connection was not made.
pub(crate) fn connect(error: async_nats::ConnectError) -> ConnectError {
    match error.kind() {
        ConnectErrorKind::ServerParse => ConnectError::Unusable { reason: text(&error) },
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Refused { reason: text(&error) }
        }
        // What the server says before it closes, such as that there are too many connections.
        ConnectErrorKind::Io if source::<ServerError>(&error).is_some() => {
            ConnectError::Refused { reason: text(&error) }
        }
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ConnectError::Unreachable(error.into()),
    }
}

/// Why a message was not handed to the server.
pub(crate) fn publish(error: async_nats::PublishError) -> SendError {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
            SendError::Rejected { reason: text(&error) }
        }
        PublishErrorKind::Send => SendError::Disconnected(error.into()),
    }
}

/// What a stream answered instead of a confirmation, by the codes of the server's `errors.json`.
pub(crate) fn stream_refusal(error: &jetstream::Error) -> SendError {
    match error.error_code() {
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            SendError::Rejected { reason: text(error) }
        }
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_ACTIVE
        | ErrorCode::CLUSTER_NOT_ASSIGNED
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::JETSTREAM_NOT_ENABLED
        | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::STREAM_NOT_FOUND => SendError::Busy { after: None, reason: text(error) },
        // The rest concerns this message (a duplicate under way, another stream than expected, a
        // `Nats-TTL` that the stream does not allow), or is new: tried a bounded number of times.
        _ => SendError::Failed { reason: text(error) },
    }
}

/// Why a consumer cannot be used.
pub(crate) fn consumer(name: &str, error: &jetstream::stream::ConsumerError) -> ConnectError {
    match error.kind() {
        ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request | ConsumerErrorKind::Other => {
            unreachable(name, error)
        }
        ConsumerErrorKind::InvalidConsumerType
        | ConsumerErrorKind::InvalidName
        | ConsumerErrorKind::JetStream(_) => {
            ConnectError::Refused { reason: format!("consumer {name}: {error}").into() }
        }
    }
}

fn unreachable(name: &str, error: &impl std::error::Error) -> ConnectError {
    ConnectError::Unreachable(Loss::boxed(format!("consumer {name}: {error}")))
}

fn text(error: &impl ToString) -> transload_envelope::Text {
    error.to_string().into()
}

fn source<E: std::error::Error + 'static>(error: &dyn std::error::Error) -> Option<&E> {
    error.source().and_then(|source| source.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(code: u64) -> jetstream::Error {
        serde_json::from_value(serde_json::json!({
            "code": 500, "err_code": code, "description": "said by the server",
        }))
        .unwrap()
    }

    #[test]
    fn a_full_stream_is_a_state_and_an_oversized_message_is_not() {
        for (code, wanted) in [
            (10_077, "busy"),
            (10_008, "busy"),
            (10_054, "rejected"),
            (10_060, "failed"),
            (1, "failed"),
        ] {
            let got = match stream_refusal(&refused_with(code)) {
                SendError::Busy { .. } => "busy",
                SendError::Failed { .. } => "failed",
                SendError::Rejected { .. } => "rejected",
                SendError::Disconnected(_) => "disconnected",
            };
            assert_eq!(got, wanted, "code {code}");
        }
    }

    #[test]
    fn what_the_server_says_while_connecting_is_a_refusal() {
        let said = async_nats::ServerError::Other("maximum connections exceeded".into());
        let error = async_nats::ConnectError::with_source(ConnectErrorKind::Io, said);
        assert!(matches!(connect(error), ConnectError::Refused { .. }));
        let error = async_nats::ConnectError::with_source(ConnectErrorKind::Io, "connection reset");
        assert!(matches!(connect(error), ConnectError::Unreachable(_)));
    }

    #[test]
    fn a_closed_client_is_a_loss() {
        let error = async_nats::PublishError::new(PublishErrorKind::Send);
        assert!(matches!(publish(error), SendError::Disconnected(_)));
    }
}
