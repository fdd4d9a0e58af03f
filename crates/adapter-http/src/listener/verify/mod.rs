//! Signatures of webhooks.
//!
//! Invariants:
//! - What is checked are the bytes of the body as they came, before anything has parsed them.
//! - Nothing of the sender's signature is decoded: what it would have to be is computed, written in
//!   the scheme's form, and compared in constant time.
//! - A field that counts must be there exactly once.
//! - The sender is not told why it is refused.
//!
//! A new scheme is a file beside this one that implements [`Scheme`], a name in
//! [`SchemeName`](settings::SchemeName), and a line in [`scheme`].

mod github;
mod gitlab;
mod hmac;
mod mac;
mod settings;
mod shopify;
mod signed;
mod slack;
mod standard_webhooks;
mod stripe;
#[cfg(test)]
mod tests;
mod twitter;
mod zendesk;

use std::{fmt, time::Duration};

pub use self::settings::{Algorithm, Encoding, SchemeName, VerifySettings};
pub(crate) use self::standard_webhooks::sign as sign_standard_webhook;
pub(super) use self::{
    mac::Key,
    settings::Fault,
    signed::{Refused, Signed},
};

/// How the requests of one provider are signed.
trait Scheme: fmt::Debug + Send + Sync {
    /// The key that a secret stands for, or what is wrong with the secret.
    fn key(&self, secret: &str) -> Result<Key, &'static str> {
        Ok(Key::new(secret.as_bytes()))
    }

    /// Checks a request against one key.
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused>;

    /// What the provider says about a request that was found good.
    fn delivery(&self, _request: &Signed<'_>) -> Delivery {
        Delivery::default()
    }

    /// The answer to a good request that is a question and no message.
    fn challenge(&self, _request: &Signed<'_>) -> Option<Challenge> {
        None
    }

    /// The answer to a question in the query of a GET.
    fn query_challenge(&self, _query: &str, _key: &Key) -> Option<Challenge> {
        None
    }
}

/// What a provider says about a message beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// The same for each attempt to deliver the message.
    pub(super) id: Option<String>,
    /// The type of the event.
    pub(super) event: Option<String>,
}

/// The answer that shows a provider that its address is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Checks the requests of one path.
#[derive(Debug)]
pub(super) struct Verifier {
    scheme: Box<dyn Scheme>,
    /// At least one; several while secrets change.
    keys: Vec<Key>,
}

/// A request that was found good.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// It is a message.
    Message(Delivery),
    /// It is a question.
    Challenge(Challenge),
}

impl Verifier {
    /// Reads the secrets of the settings.
    pub(super) fn new(settings: &VerifySettings) -> Result<Self, Fault> {
        let scheme = scheme(settings)?;
        let keys = settings
            .secrets()?
            .iter()
            .map(|secret| scheme.key(secret).map_err(|message| settings.secret_fault(message)))
            .collect::<Result<_, _>>()?;
        Ok(Self { scheme, keys })
    }

    /// Checks a request.
    pub(super) fn verify(&self, request: &Signed<'_>) -> Result<Verified, Refused> {
        let mut refused = Refused::Different;
        for key in &self.keys {
            match self.scheme.check(request, key) {
                Ok(()) => {
                    let challenge = self.scheme.challenge(request).map(Verified::Challenge);
                    let message = || Verified::Message(self.scheme.delivery(request));
                    return Ok(challenge.unwrap_or_else(message));
                }
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    /// The answer to a question in the query of a GET, made with the first of the secrets.
    pub(super) fn query_challenge(&self, query: &str) -> Option<Challenge> {
        self.scheme.query_challenge(query, self.keys.first()?)
    }
}

/// How far the clocks of two sides may differ.
const TOLERANCE: Duration = Duration::from_mins(5);

/// The one list of schemes.
fn scheme(settings: &VerifySettings) -> Result<Box<dyn Scheme>, Fault> {
    let tolerance = settings.tolerance.map_or(TOLERANCE, Into::into);
    Ok(match settings.scheme {
        SchemeName::Github => Box::new(github::Github),
        SchemeName::Gitlab => Box::new(gitlab::Gitlab),
        SchemeName::Hmac => Box::new(hmac::Hmac::new(settings, tolerance)?),
        SchemeName::Shopify => Box::new(shopify::Shopify),
        SchemeName::Slack => Box::new(slack::Slack { tolerance }),
        SchemeName::StandardWebhooks => Box::new(standard_webhooks::StandardWebhooks { tolerance }),
        SchemeName::Stripe => Box::new(stripe::Stripe { tolerance }),
        SchemeName::Twitter => Box::new(twitter::Twitter),
        SchemeName::Zendesk => Box::new(zendesk::Zendesk { tolerance }),
    })
}
