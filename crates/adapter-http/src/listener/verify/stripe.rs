use std::time::Duration;

use serde::Deserialize;

use super::{Delivery, Key, Refused, Scheme, Signed, mac::same};

/// How many signatures of one request are looked at.
const SIGNATURES_MAX: usize = 16;

/// `Stripe-Signature: t=TIME,v1=HEX,v1=HEX` over `TIME.BODY`; one of the signatures must be right.
/// The key is the whole secret, `whsec_` included.
#[derive(Debug)]
pub(super) struct Stripe {
    pub(super) tolerance: Duration,
}

#[derive(Deserialize)]
struct Body {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Scheme for Stripe {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let field = request.only("stripe-signature")?;
        let pairs = || field.split(',').filter_map(|pair| pair.trim().split_once('='));
        let mut times = pairs().filter(|(name, _)| *name == "t").map(|(_, time)| time);
        let time = match (times.next(), times.next()) {
            (Some(time), None) => time,
            (None, _) => return Err(Refused::Malformed),
            (Some(_), Some(_)) => return Err(Refused::Repeated),
        };
        request.fresh(time, self.tolerance)?;
        let expected = key.sha256(&[time.as_bytes(), b".", request.body()]).hex();
        let mut given = pairs().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX);
        if given.any(|(_, given)| same(expected.as_bytes(), given.as_bytes())) {
            Ok(())
        } else {
            Err(Refused::Different)
        }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        let body = request.read_body::<Body>();
        body.map_or_else(Delivery::default, |body| Delivery { id: body.id, event: body.kind })
    }
}
