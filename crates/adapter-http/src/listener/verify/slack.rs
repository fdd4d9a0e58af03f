use std::time::Duration;

use serde::Deserialize;

use super::{Challenge, Delivery, Key, Refused, Scheme, Signed, mac::same};

/// `X-Slack-Signature: v0=HEX` over `v0:TIME:BODY`, with `X-Slack-Request-Timestamp: TIME`.
#[derive(Debug)]
pub(super) struct Slack {
    pub(super) tolerance: Duration,
}

/// What is read of a body. Slash commands have another form, and no id.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: Option<String>,
    challenge: Option<String>,
    event_id: Option<String>,
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Scheme for Slack {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only("x-slack-signature")?;
        let time = request.only("x-slack-request-timestamp")?;
        request.fresh(time, self.tolerance)?;
        let given = given.strip_prefix("v0=").ok_or(Refused::Malformed)?;
        let expected = key.sha256(&[b"v0:", time.as_bytes(), b":", request.body()]).hex();
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        let Some(body) = request.read_body::<Body>() else { return Delivery::default() };
        let event = body.event.and_then(|event| event.kind).or(body.kind);
        Delivery { id: body.event_id, event }
    }

    fn challenge(&self, request: &Signed<'_>) -> Option<Challenge> {
        let body = request.read_body::<Body>()?;
        let asked = body.kind.as_deref() == Some("url_verification");
        let body = body.challenge.filter(|_| asked)?;
        Some(Challenge { content_type: "text/plain", body })
    }
}
