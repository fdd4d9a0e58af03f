//! What each error of the client means for the gateway: one exhaustive table per operation.

use std::fmt;

use serde::Deserialize;
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

/// What `JetStream` says instead of doing what it was asked for.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ApiError {
    code: u16,
    #[serde(default)]
    err_code: u16,
    #[serde(default)]
    description: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, err_code, description } = self;
        let description = if description.is_empty() { "unknown" } else { description };
        write!(f, "{description} (code {code}, error code {err_code})")
    }
}

/// What a stream answered instead of a confirmation, by the codes of the server's `errors.json`.
pub(crate) fn stream_refusal(error: &ApiError) -> SendError {
    match error.err_code {
        // The message, or its headers, exceed the stream's maximum.
        10_054 | 10_097 => SendError::Rejected { reason: text(error) },
        // The store failed, the stream's bytes are used up, or those of the server's storage, its
        // memory, its resources or the account's.
        10_077 | 10_122 | 10_047 | 10_028 | 10_023 | 10_002
        // The cluster is not available, not active, not assigned, or this is not its leader.
        | 10_008 | 10_006 | 10_007 | 10_009
        // JetStream is not enabled, or not for the account; the stream is offline or not there.
        | 10_076 | 10_039 | 10_118 | 10_059 => SendError::Busy { after: None, reason: text(error) },
        // The rest concerns this message (a duplicate under way, another stream than expected, a
        // `Nats-TTL` that the stream does not allow), or is new: tried a bounded number of times.
        _ => SendError::Failed { reason: text(error) },
    }
}

/// Why a consumer cannot be used.
pub(crate) fn consumer(name: &str, error: &ApiError) -> ConnectError {
    ConnectError::Refused { reason: format!("consumer {name}: {error}").into() }
}

/// Why nothing is known of a consumer.
pub(crate) fn no_consumer(name: &str, why: &str) -> ConnectError {
    ConnectError::Unreachable(Loss::boxed(format!("consumer {name}: {why}")))
}

fn text(error: &impl ToString) -> transload_envelope::Text {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(code: u64) -> ApiError {
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
}
