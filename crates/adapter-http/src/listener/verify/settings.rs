use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{Lint, Secret, units::HumanDuration};

use super::{Verifier, scheme};
use crate::secrets::{SecretFault, Secrets};

/// How the requests to a path are signed. A request without a good signature is answered with 401.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifySettings {
    /// Whose form the signatures have; `"hmac"` is any other, described by the keys that follow.
    pub scheme: SchemeName,

    /// The secret that is shared with the sender.
    #[serde(default)]
    pub secret: Option<Secret>,

    /// A file with the secret, relative to the working directory; read again when the configuration
    /// is. Several lines are several secrets, each of which is good, for a change from one to the
    /// other.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,

    /// Several secrets, each of which is good, in the place of one.
    #[serde(default)]
    pub secrets: Vec<Secret>,

    /// How far the time in a signature may be from that of this machine, where the scheme has a
    /// time: 5 minutes if it is left out.
    #[serde(default)]
    pub tolerance: Option<HumanDuration>,

    /// With `"hmac"`: the header that holds the signature.
    #[serde(default)]
    pub header: Option<String>,

    /// With `"hmac"`: what stands before the signature, such as `sha256=`.
    #[serde(default)]
    pub prefix: Option<String>,

    /// With `"hmac"`: the hash function; `"sha256"` if it is left out.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,

    /// With `"hmac"`: how the signature is written; `"hex"`, in lower case, if it is left out.
    #[serde(default)]
    pub encoding: Option<Encoding>,

    /// With `"hmac"`: what is signed, with `{body}` exactly once and `{header.NAME}`, such as
    /// `{header.X-Timestamp}.{body}`. The body alone if it is left out.
    #[serde(default)]
    pub content: Option<String>,

    /// With `"hmac"`: the header with the time of the signature in seconds since 1970; must be part
    /// of `content`. Without it, old requests are as good as new ones.
    #[serde(default)]
    pub timestamp_header: Option<String>,

    /// With `"hmac"`: the header with the sender's id of the message.
    #[serde(default)]
    pub id_header: Option<String>,

    /// With `"hmac"`: the header with the type of the event.
    #[serde(default)]
    pub event_header: Option<String>,
}

/// The known schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeName {
    /// GitHub.
    Github,
    /// GitLab's secret token.
    Gitlab,
    /// Any HMAC in a header.
    Hmac,
    /// Shopify.
    Shopify,
    /// Slack.
    Slack,
    /// Standard Webhooks, Svix, `OpenAI`, GitLab's signing token.
    StandardWebhooks,
    /// Stripe.
    Stripe,
    /// Twitter, now X.
    Twitter,
    /// Zendesk.
    Zendesk,
}

/// A hash function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Only for senders that have nothing better.
    Sha1,
    /// The usual one.
    #[default]
    Sha256,
    /// The longest one.
    Sha512,
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// In lower case.
    #[default]
    Hex,
    /// With `+`, `/` and padding (RFC 4648, section 4).
    Base64,
    /// With `-` and `_`, without padding (RFC 4648, section 5).
    Base64url,
}

/// What is wrong with settings, at which of their keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub(in crate::listener) struct Fault {
    pub(in crate::listener) key: &'static str,
    pub(in crate::listener) message: String,
    help: Option<String>,
}

impl Fault {
    pub(in crate::listener) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into(), help: None }
    }

    fn of_secret(fault: SecretFault) -> Self {
        Self::new(fault.key.unwrap_or("scheme"), fault.message).with_help(fault.help)
    }

    pub(in crate::listener) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The finding about the key below `path`.
    pub(in crate::listener) fn lint(self, path: &str) -> Lint {
        let dot = if self.key.is_empty() { "" } else { "." };
        let lint = Lint::error(format!("{path}{dot}{}", self.key), self.message);
        match self.help {
            Some(help) => lint.with_help(help),
            None => lint,
        }
    }
}

impl VerifySettings {
    fn places(&self) -> Secrets<'_> {
        Secrets {
            one: self.secret.as_ref(),
            file: self.secret_file.as_ref(),
            several: &self.secrets,
        }
    }

    /// The secrets, at least one.
    pub(super) fn secrets(&self) -> Result<Vec<String>, Fault> {
        self.places().read().map_err(Fault::of_secret)
    }

    pub(super) fn secret_fault(&self, message: &'static str) -> Fault {
        Fault::of_secret(self.places().fault(message, "look for it at the sender"))
    }

    pub(in crate::listener) fn lint(&self, path: &str, lints: &mut Vec<Lint>) {
        // The keys first, since a fault in them is found whether or not the secrets are there.
        if let Err(fault) = scheme(self).and_then(|_| Verifier::new(self)) {
            lints.push(fault.lint(path));
        }
        let has_time = match self.scheme {
            SchemeName::Github | SchemeName::Gitlab | SchemeName::Shopify | SchemeName::Twitter => {
                false
            }
            SchemeName::Hmac => self.timestamp_header.is_some(),
            SchemeName::Slack
            | SchemeName::StandardWebhooks
            | SchemeName::Stripe
            | SchemeName::Zendesk => true,
        };
        if self.tolerance.is_some() && !has_time {
            let message = "signatures of this scheme have no time, so none is checked";
            lints.push(Lint::warning(format!("{path}.tolerance"), message));
        }
        if self.scheme == SchemeName::Hmac {
            return;
        }
        for (key, given) in [
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("encoding", self.encoding.is_some()),
            ("content", self.content.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("id_header", self.id_header.is_some()),
            ("event_header", self.event_header.is_some()),
        ] {
            if given {
                let lint = Lint::error(format!("{path}.{key}"), "the scheme says this itself");
                lints.push(lint.with_help("leave it out, or write `scheme = \"hmac\"`"));
            }
        }
    }
}
