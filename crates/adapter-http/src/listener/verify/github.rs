use super::{Delivery, Key, Refused, Scheme, Signed, mac::same};

/// `X-Hub-Signature-256: sha256=HEX` over the body.
#[derive(Debug)]
pub(super) struct Github;

impl Scheme for Github {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only("x-hub-signature-256")?;
        let given = given.strip_prefix("sha256=").ok_or(Refused::Malformed)?;
        let expected = key.sha256(&[request.body()]).hex();
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        Delivery { id: request.told("x-github-delivery"), event: request.told("x-github-event") }
    }
}
