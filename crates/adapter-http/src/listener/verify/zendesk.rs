use std::time::Duration;

use serde::Deserialize;

use super::{Delivery, Key, Refused, Scheme, Signed, mac::same};

/// `X-Zendesk-Webhook-Signature: BASE64` over `TIME` and the body, with
/// `X-Zendesk-Webhook-Signature-Timestamp: TIME` in the form of RFC 3339.
#[derive(Debug)]
pub(super) struct Zendesk {
    pub(super) tolerance: Duration,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Scheme for Zendesk {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only("x-zendesk-webhook-signature")?;
        let time = request.only("x-zendesk-webhook-signature-timestamp")?;
        request.fresh_date(time, self.tolerance)?;
        let expected = key.sha256(&[time.as_bytes(), request.body()]).base64();
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        Delivery {
            id: request.told("x-zendesk-webhook-invocation-id"),
            event: request.read_body::<Body>().and_then(|body| body.kind),
        }
    }
}
