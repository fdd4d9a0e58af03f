//! What each outcome means to the other side: the one table of reactions.

use std::{error::Error, time::Duration};

use http::StatusCode;
use transload_adapter::{Refusal, SendError, Sent, Settlement};
use transload_envelope::{Envelope, Text};

/// What the sender of a request is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// 202: the message is accepted.
    Accepted,
    /// A target's answer.
    Reply(Box<Envelope>),
    /// Anything else.
    Problem {
        /// The status.
        status: StatusCode,
        /// Why, for people.
        detail: Text,
        /// When to try again.
        retry_after: Option<Duration>,
    },
}

impl Answer {
    pub(crate) fn problem(status: StatusCode, detail: impl Into<Text>) -> Self {
        Self::Problem { status, detail: detail.into(), retry_after: None }
    }

    /// 503: the same request may be sent again after the delay.
    pub(crate) fn later(after: Duration, detail: impl Into<Text>) -> Self {
        Self::Problem {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: detail.into(),
            retry_after: Some(after),
        }
    }
}

/// What a settlement means to the sender of a request.
pub(crate) fn answer(settlement: Settlement) -> Answer {
    match settlement {
        Settlement::Accepted => Answer::Accepted,
        Settlement::Replied(reply) => Answer::Reply(reply),
        Settlement::Unrouted => Answer::problem(StatusCode::NOT_FOUND, "no route wants this path"),
        Settlement::Released { after } => {
            Answer::later(after, "the message cannot be taken now; send it again")
        }
        Settlement::Rejected { refusal: Refusal::Full, reason } => {
            Answer::later(Duration::ZERO, reason)
        }
        Settlement::Rejected { refusal: Refusal::Invalid, reason } => {
            Answer::problem(StatusCode::UNPROCESSABLE_ENTITY, reason)
        }
        Settlement::Rejected { refusal: Refusal::Loop, reason } => {
            Answer::problem(StatusCode::LOOP_DETECTED, reason)
        }
        Settlement::Rejected { refusal: Refusal::Target, reason } => {
            Answer::problem(StatusCode::BAD_GATEWAY, reason)
        }
    }
}

/// What a target's answer means to a message. `excerpt` is the start of its body, `location` where
/// a redirect points to.
///
/// 5xx other than the temporary ones may be the fault of this very message, so they are counted
/// and end in the dead letters; 4xx are its fault for certain.
pub(crate) fn reaction(
    status: StatusCode,
    retry_after: Option<Duration>,
    location: Option<&str>,
    excerpt: &str,
) -> Result<Sent, SendError> {
    let reason = || -> Text {
        let mut reason = format!("status {status}");
        if let Some(location) = location.filter(|_| status.is_redirection()) {
            reason.push_str("; redirects are not followed: ");
            reason.push_str(location);
        }
        if !excerpt.is_empty() {
            reason.push_str(": ");
            reason.push_str(excerpt);
        }
        reason.into()
    };
    match status.as_u16() {
        200..=299 => Ok(Sent::Confirmed),
        408 | 425 | 429 | 502 | 503 | 504 => {
            Err(SendError::Busy { after: retry_after, reason: reason() })
        }
        500..=599 => Err(SendError::Failed { reason: reason() }),
        _ => Err(SendError::Rejected { reason: reason() }),
    }
}

/// What a request that got no answer means to its message.
///
/// The gateway needs to make nothing anew after a fault, so none is reported as a disconnection.
/// When no connection came about, the target is busy, however long it takes. When the fault came
/// later, the message itself may be its cause, so the attempt is counted.
pub(crate) fn fault(error: reqwest::Error) -> SendError {
    // The URL may hold secrets.
    let error = error.without_url();
    let reason = causes(&error);
    if error.is_builder() {
        SendError::Rejected { reason }
    } else if error.is_connect() {
        SendError::Busy { after: None, reason }
    } else {
        SendError::Failed { reason }
    }
}

/// An error and its causes in one line.
pub(crate) fn causes(error: &dyn Error) -> Text {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_reaction() {
        let kind = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            match reaction(status, Some(Duration::from_secs(3)), Some("/x"), "no") {
                Ok(Sent::Confirmed) => "confirmed".to_owned(),
                Ok(other) => panic!("{other:?}"),
                Err(SendError::Busy { after, .. }) => {
                    assert_eq!(after, Some(Duration::from_secs(3)));
                    "busy".to_owned()
                }
                Err(SendError::Failed { .. }) => "failed".to_owned(),
                Err(SendError::Rejected { reason }) => format!("rejected: {reason}"),
                Err(SendError::Disconnected(error)) => panic!("{error}"),
            }
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(kind(status), "confirmed", "{status}");
        }
        for status in [408, 425, 429, 502, 503, 504] {
            assert_eq!(kind(status), "busy", "{status}");
        }
        for status in [500, 501, 505, 599] {
            assert_eq!(kind(status), "failed", "{status}");
        }
        assert_eq!(kind(404), "rejected: status 404 Not Found: no");
        assert_eq!(kind(410), "rejected: status 410 Gone: no");
        assert_eq!(kind(302), "rejected: status 302 Found; redirects are not followed: /x: no");
    }

    #[test]
    fn every_settlement_has_its_answer() {
        let status = |settlement| match answer(settlement) {
            Answer::Accepted => 202,
            Answer::Reply(_) => 200,
            Answer::Problem { status, retry_after, .. } => {
                assert_eq!(status == 503, retry_after.is_some(), "503 always says when");
                status.as_u16()
            }
        };
        let rejected = |refusal| Settlement::Rejected { refusal, reason: "no".into() };
        assert_eq!(status(Settlement::Accepted), 202);
        assert_eq!(status(Settlement::Unrouted), 404);
        assert_eq!(status(Settlement::RELEASED), 503);
        assert_eq!(status(rejected(Refusal::Full)), 503);
        assert_eq!(status(rejected(Refusal::Invalid)), 422);
        assert_eq!(status(rejected(Refusal::Target)), 502);
        assert_eq!(status(rejected(Refusal::Loop)), 508);
    }
}
