//! Why a caller gets no reply, and how it is told.

use std::time::Duration;

use serde_json::json;
use transload_adapter::{Refusal, RequestError, Settlement, units::HumanDuration};
use transload_envelope::{Envelope, Origin, Text, Value};

/// The header of an answer that holds its status, as HTTP numbers them.
pub(crate) const STATUS_HEADER: Text = Text::from_static("status");
/// The header of an answer that says why there is no reply.
const ERROR_HEADER: Text = Text::from_static("reply-error");
/// After how many seconds a caller is to try again.
const RETRY_AFTER_HEADER: Text = Text::from_static("retry-after");
/// When a caller is to try again where the target did not say.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    TimedOut,
    NoResponder,
    Busy,
    Disconnected,
    Failed,
    Rejected,
    Stopping,
}

impl Kind {
    /// Its name in `reply-error` and in the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timed-out",
            Self::NoResponder => "no-responder",
            Self::Busy => "busy",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Stopping => "stopping",
        }
    }

    fn status(self) -> (u16, &'static str) {
        match self {
            Self::TimedOut => (504, "Gateway Timeout"),
            Self::NoResponder | Self::Busy | Self::Disconnected | Self::Stopping => {
                (503, "Service Unavailable")
            }
            Self::Failed | Self::Rejected => (502, "Bad Gateway"),
        }
    }

    /// Whether the same request may well succeed a little later.
    fn passes(self) -> bool {
        matches!(self, Self::Busy | Self::Disconnected | Self::Stopping)
    }
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// For people.
    pub(crate) reason: Text,
    after: Option<Duration>,
}

impl Failure {
    fn new(kind: Kind, reason: impl Into<Text>) -> Self {
        Self { kind, reason: reason.into(), after: kind.passes().then_some(RETRY_AFTER) }
    }

    pub(super) fn timed_out(timeout: Duration) -> Self {
        let within = HumanDuration::from(timeout);
        Self::new(Kind::TimedOut, format!("no reply came within {within}"))
    }

    pub(super) fn busy(after: Option<Duration>, reason: Text) -> Self {
        let failure = Self::new(Kind::Busy, reason);
        Self { after: after.or(failure.after), ..failure }
    }

    pub(super) fn disconnected(reason: Text) -> Self {
        Self::new(Kind::Disconnected, reason)
    }

    pub(super) fn rejected(reason: Text) -> Self {
        Self::new(Kind::Rejected, reason)
    }

    pub(super) fn stopping() -> Self {
        Self::new(Kind::Stopping, "the gateway is stopping")
    }

    /// Every exchange ended, and none brought a reply.
    pub(super) fn none() -> Self {
        Self::new(Kind::Failed, "the target gave no reply")
    }

    /// The answer that tells the caller: a problem in JSON (RFC 9457) with the status and the kind
    /// of failure as headers.
    pub(super) fn answer(&self, request: &Envelope) -> Envelope {
        let (status, title) = self.kind.status();
        let problem = json!({
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": &*self.reason,
            "error": self.kind.name(),
            "id": request.id.as_str(),
        });
        let origin = Origin::new("", "transload", request.address.as_text().clone());
        let mut answer = Envelope::new(origin, problem.to_string());
        answer.properties_mut().content_type = Some("application/problem+json".into());
        answer.headers.push(STATUS_HEADER, Value::Int(status.into()));
        answer.headers.push(ERROR_HEADER, self.kind.name());
        if let Some(after) = self.after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            answer.headers.push(RETRY_AFTER_HEADER, Value::Int(seconds));
        }
        answer
    }

    /// What it means to a source whose message names nobody to be told.
    pub(super) fn settlement(&self) -> Settlement {
        match self.after {
            Some(after) => Settlement::Released { after },
            None => Settlement::Rejected { refusal: Refusal::Target, reason: self.reason.clone() },
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoResponder { reason } => Self::new(Kind::NoResponder, reason),
            RequestError::Busy { after, reason } => Self::busy(after, reason),
            RequestError::Disconnected(source) => Self::disconnected(source.to_string().into()),
            RequestError::Failed { reason } => Self::new(Kind::Failed, reason),
            RequestError::Rejected { reason } => Self::rejected(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_status_and_its_settlement() {
        let text = || Text::from_static("why");
        for (failure, status, retry, released) in [
            (Failure::timed_out(Duration::from_secs(5)), 504, None, false),
            (RequestError::NoResponder { reason: text() }.into(), 503, None, false),
            (RequestError::Busy { after: None, reason: text() }.into(), 503, Some(1), true),
            (
                RequestError::Busy { after: Some(Duration::from_millis(2500)), reason: text() }
                    .into(),
                503,
                Some(3),
                true,
            ),
            (RequestError::Disconnected("x".into()).into(), 503, Some(1), true),
            (RequestError::Failed { reason: text() }.into(), 502, None, false),
            (RequestError::Rejected { reason: text() }.into(), 502, None, false),
            (Failure::stopping(), 503, Some(1), true),
        ] {
            let request = Envelope::new(Origin::new("a", "fake", "x"), "");
            let answer = failure.answer(&request);
            assert_eq!(answer.headers.get("status"), Some(&Value::Int(status)), "{failure:?}");
            let after = retry.map(Value::Int);
            assert_eq!(answer.headers.get("retry-after"), after.as_ref(), "{failure:?}");
            let settlement = failure.settlement();
            assert_eq!(matches!(settlement, Settlement::Released { .. }), released, "{failure:?}");
            let body: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(body["status"], status);
            assert_eq!(body["error"], failure.kind.name());
        }
    }
}
