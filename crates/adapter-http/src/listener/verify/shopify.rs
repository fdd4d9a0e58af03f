use super::{Delivery, Key, Refused, Scheme, Signed, mac::same};

/// `X-Shopify-Hmac-SHA256: BASE64` over the body.
#[derive(Debug)]
pub(super) struct Shopify;

impl Scheme for Shopify {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only("x-shopify-hmac-sha256")?;
        let expected = key.sha256(&[request.body()]).base64();
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        Delivery {
            id: request.told("x-shopify-webhook-id"),
            event: request.told("x-shopify-topic"),
        }
    }
}
