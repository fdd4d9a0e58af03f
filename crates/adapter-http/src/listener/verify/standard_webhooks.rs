//! Standard Webhooks (<https://www.standardwebhooks.com>), also of Svix, `OpenAI` and GitLab's
//! signing tokens.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Delivery, Key, Refused, Scheme, Signed, mac::same};

/// How many signatures of one request are looked at.
const SIGNATURES_MAX: usize = 16;

/// `webhook-signature: v1,BASE64 v1,BASE64` over `ID.TIME.BODY`, with `webhook-id: ID` and
/// `webhook-timestamp: TIME`; or the same with `svix-`. One of the signatures must be right. The key
/// is what stands behind `whsec_`, in base64.
#[derive(Debug)]
pub(super) struct StandardWebhooks {
    pub(super) tolerance: Duration,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The names of the fields.
struct Names {
    id: &'static str,
    time: &'static str,
    signature: &'static str,
}

const NAMES: [Names; 2] = [
    Names { id: "webhook-id", time: "webhook-timestamp", signature: "webhook-signature" },
    Names { id: "svix-id", time: "svix-timestamp", signature: "svix-signature" },
];

/// Those fields that the request has; all three are of one kind.
fn names(request: &Signed<'_>) -> Result<&'static Names, Refused> {
    NAMES.iter().find(|names| request.has(names.signature)).ok_or(Refused::Missing)
}

fn key(secret: &str) -> Result<Key, &'static str> {
    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    let bytes = STANDARD.decode(encoded).map_err(|_| "behind `whsec_` the secret is not base64")?;
    if bytes.is_empty() { Err("the secret is empty") } else { Ok(Key::new(&bytes)) }
}

fn signature(key: &Key, id: &str, time: &str, body: &[u8]) -> String {
    key.sha256(&[id.as_bytes(), b".", time.as_bytes(), b".", body]).base64()
}

impl Scheme for StandardWebhooks {
    fn key(&self, secret: &str) -> Result<Key, &'static str> {
        key(secret)
    }

    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let names = names(request)?;
        let (id, time) = (request.only(names.id)?, request.only(names.time)?);
        let given = request.only(names.signature)?;
        request.fresh(time, self.tolerance)?;
        let expected = signature(key, id, time, request.body());
        let mut given = given.split(' ').take(SIGNATURES_MAX);
        let right = |given: &str| {
            let given = given.strip_prefix("v1,");
            given.is_some_and(|given| same(expected.as_bytes(), given.as_bytes()))
        };
        if given.any(right) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        let id = names(request).ok().and_then(|names| request.told(names.id));
        Delivery { id, event: request.read_body::<Body>().and_then(|body| body.kind) }
    }
}

/// The `webhook-signature` of a request of ours: one signature for each secret, so that both of two
/// are good while they change. `time` is in seconds since the epoch, as in `webhook-timestamp`.
pub(crate) fn sign(
    secrets: &[&str],
    id: &str,
    time: u64,
    body: &[u8],
) -> Result<String, &'static str> {
    let time = time.to_string();
    let mut signatures = Vec::with_capacity(secrets.len());
    for secret in secrets {
        signatures.push(format!("v1,{}", signature(&key(secret)?, id, &time, body)));
    }
    Ok(signatures.join(" "))
}
