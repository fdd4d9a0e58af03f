//! Settings of who may send and read, and how much.

use std::{num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Secret,
    units::{ByteSize, HumanDuration},
};

use crate::listener::verify::VerifySettings;

/// Who may send messages and read streams: whoever shows one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// Users with passwords (basic authentication).
    pub basic: Vec<BasicUser>,

    /// Tokens (`Authorization: Bearer …`).
    pub bearer: Vec<BearerToken>,

    /// Names of client certificates: the common name, an alternative name, or the whole subject;
    /// `"*"` is every certificate that the listener's `client_ca_file` has signed.
    pub client_certificates: Vec<String>,
}

/// A user.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicUser {
    /// The name, which rules see as the attribute `user`.
    pub username: String,

    /// The password.
    #[serde(default)]
    pub password: Option<Secret>,

    /// A file with the password, relative to the working directory; read again when the
    /// configuration is.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// A token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BearerToken {
    /// Whose token it is; rules see it as the attribute `user`.
    pub name: String,

    /// The token.
    #[serde(default)]
    pub token: Option<Secret>,

    /// A file with the token, relative to the working directory; read again when the configuration
    /// is.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// What is different for some paths. Of all paths that match, the first counts; what it leaves out is
/// as for the whole listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathSettings {
    /// The pattern or patterns of the paths, as in routes, such as `hooks/github` or `hooks/#`.
    #[serde(rename = "match")]
    pub pattern: Patterns,

    /// The methods by which messages are taken; `POST` and `PUT` if it is left out.
    #[serde(default)]
    pub methods: Vec<IntakeMethod>,

    /// How the requests must be signed. Senders of signed requests need no credential of `auth`,
    /// unless this path has an `auth` of its own; nobody can read a stream by a signature.
    #[serde(default)]
    pub verify: Option<VerifySettings>,

    /// Who may send to these paths and read from them, in the place of the listener's `auth`.
    #[serde(default)]
    pub auth: Option<AuthSettings>,

    /// Must be `true` for paths that everybody may send to and read from, where the others ask for
    /// credentials.
    #[serde(default)]
    pub insecure_without_authentication: bool,

    /// As for the listener.
    #[serde(default)]
    pub content_types: Option<Vec<String>>,

    /// As for the listener.
    #[serde(default)]
    pub max_body_bytes: Option<ByteSize>,

    /// As for the listener.
    #[serde(default)]
    pub decode_gzip: Option<bool>,

    /// Limits that hold for these paths, beside those of the listener.
    #[serde(default)]
    pub rate_limit: Option<RateLimitSettings>,

    /// As for the listener.
    #[serde(default)]
    pub webhook_origins: Option<Vec<String>>,
}

/// One pattern or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(from = "OneOrMany")]
#[schemars(with = "OneOrMany")]
pub struct Patterns(pub(in crate::listener) Vec<String>);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Patterns {
    fn from(given: OneOrMany) -> Self {
        match given {
            OneOrMany::One(pattern) => Self(vec![pattern]),
            OneOrMany::Many(patterns) => Self(patterns),
        }
    }
}

/// A method by which messages can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum IntakeMethod {
    /// RFC 9110, section 9.3.3.
    Post,
    /// RFC 9110, section 9.3.4.
    Put,
    /// RFC 5789.
    Patch,
    /// RFC 9110, section 9.3.5.
    Delete,
}

impl From<IntakeMethod> for Method {
    fn from(method: IntakeMethod) -> Self {
        match method {
            IntakeMethod::Post => Self::POST,
            IntakeMethod::Put => Self::PUT,
            IntakeMethod::Patch => Self::PATCH,
            IntakeMethod::Delete => Self::DELETE,
        }
    }
}

/// How many requests may come. One more is answered with 429 and `Retry-After`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitSettings {
    /// Of one client, such as `"10/s"`, `"600/m"` or `"5000/h"`; the number is also how many may
    /// come at once. One client is one IPv4 address or one IPv6 network of 64 bits.
    pub per_client: Option<Rate>,

    /// Of all clients together.
    pub total: Option<Rate>,
}

/// A number of requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Rate {
    pub(in crate::listener) count: NonZeroU32,
    pub(in crate::listener) period: Duration,
}

/// The largest number of a rate; more would be below a microsecond for one.
const COUNT_MAX: u32 = 1_000_000;

impl TryFrom<String> for Rate {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "a rate has the form `10/s`, `600/m` or `5000/h`";
        let (count, unit) = text.split_once('/').ok_or(form)?;
        let count = count.trim().parse::<NonZeroU32>().map_err(|_| form)?;
        if count.get() > COUNT_MAX {
            return Err("a rate is at most 1000000 in its time");
        }
        let period = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(form),
        };
        Ok(Self { count, period })
    }
}

/// The header in which proxies say who their client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Which pages of other origins may use the listener from a browser.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsSettings {
    /// The origins, such as `https://app.example.com`; `"*"` is every one.
    pub origins: Vec<String>,

    /// The header fields that pages may set.
    #[serde(default = "headers")]
    pub headers: Vec<String>,

    /// How long a browser may remember the answer to its question.
    #[serde(default = "max_age")]
    pub max_age: HumanDuration,
}

fn headers() -> Vec<String> {
    ["authorization", "content-type", "idempotency-key", "last-event-id"].map(Into::into).into()
}

fn max_age() -> HumanDuration {
    HumanDuration::from_mins(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_a_number_in_a_time() {
        for (text, expected) in [
            ("10/s", Some((10, 1))),
            ("600 / m", Some((600, 60))),
            ("5000/h", Some((5_000, 3_600))),
            ("0/s", None),
            ("10", None),
            ("10/d", None),
            ("-1/s", None),
            ("2000000/s", None),
        ] {
            let rate = text.parse::<Rate>().ok();
            let rate = rate.map(|rate| (rate.count.get(), rate.period.as_secs()));
            assert_eq!(rate, expected, "{text}");
        }
    }
}
