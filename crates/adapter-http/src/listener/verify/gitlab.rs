use super::{Delivery, Key, Refused, Scheme, Signed, mac::same};

/// `X-Gitlab-Token: SECRET`. It says who sends and nothing about the body. (GitLab's signing token
/// is the scheme of Standard Webhooks.)
#[derive(Debug)]
pub(super) struct Gitlab;

impl Scheme for Gitlab {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only("x-gitlab-token")?;
        // Digests are compared, so that the time does not tell the length of the secret.
        let digest = |bytes| key.sha256(&[bytes]).hex();
        let (expected, given) = (digest(key.bytes()), digest(given.as_bytes()));
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        let id = request.told("idempotency-key").or_else(|| request.told("x-gitlab-event-uuid"));
        Delivery { id, event: request.told("x-gitlab-event") }
    }
}
