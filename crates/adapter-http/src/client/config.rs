use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Secret,
    units::{ByteSize, HumanDuration},
};
use transload_tls::ClientTls;
use url::Url;

use super::{oauth2::OAuth2Settings, sign::SignSettings};

/// An HTTP client: messages become requests to one server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The server, `http://` or `https://`, with the path below which all targets are. A query is
    /// sent with every request.
    pub url: String,

    /// How long a request may take, from its start to the end of the answer. A request that takes
    /// longer counts as a failed attempt.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,

    /// How long connecting may take.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: HumanDuration,

    /// How many requests may be under way at once, for all targets together.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: NonZeroU32,

    /// How large the body of a reply may be, for routes with `reply`.
    #[serde(default = "max_reply_bytes")]
    pub max_reply_bytes: ByteSize,

    /// Header fields of every request, such as `{ "x-api-key" = "${API_KEY}" }`. They win over
    /// headers of the message.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,

    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer_token: Option<Secret>,

    /// A file with the bearer token; white space around it is left out.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,

    /// The user for basic authentication.
    #[serde(default)]
    pub username: Option<String>,

    /// The password for basic authentication.
    #[serde(default)]
    pub password: Option<Secret>,

    /// A file with the password; a line break at its end is left out.
    #[serde(default)]
    pub password_file: Option<PathBuf>,

    /// Asks an authorization server for the bearer token (OAuth 2 client credentials). Messages wait
    /// while it gives none.
    #[serde(default)]
    pub oauth2: Option<OAuth2Settings>,

    /// TLS where `url` is `https://`: whom to trust, and which certificate to show.
    #[serde(default)]
    pub tls: ClientTls,

    /// The name that the server's certificate is for, where that is not the host in `url`. Requests
    /// ask for it in TLS (SNI) and in `Host`, and are sent to the host in `url`.
    #[serde(default)]
    pub server_name: Option<String>,

    /// Whether to connect to no address of this machine or of a private network (RFC 1918, link-local
    /// with the metadata services of clouds, shared, unique local and the like), whatever a name
    /// resolves to. Addresses are checked when a connection is made, and that very address is
    /// connected to.
    #[serde(default)]
    pub block_private_addresses: bool,

    /// Signs every request by Standard Webhooks.
    #[serde(default)]
    pub sign: Option<SignSettings>,

    /// The `User-Agent` of every request.
    #[serde(default = "user_agent")]
    pub user_agent: String,
}

/// Sends the message as a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTarget {
    /// The path below the adapter's `url`, such as `devices/{device}/events`. It is written plainly
    /// and percent-encoded level by level, so `?` and `#` are parts of a level like any other
    /// character. The message's address if it is left out.
    pub path: Option<String>,

    /// The method of the request.
    pub method: Method,

    /// How many requests may be under way to this target at once. With 1 the messages arrive in
    /// order; with more they may overtake each other.
    #[schemars(with = "u32", range(min = 1))]
    pub concurrency: Concurrency,
}

/// The number of requests to one target that may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Concurrency(pub(super) NonZeroU32);

impl Default for Concurrency {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Adds something (RFC 9110, section 9.3.3).
    #[default]
    Post,
    /// Puts the payload in the place of what the path names (RFC 9110, section 9.3.4).
    Put,
    /// Changes what the path names (RFC 5789).
    Patch,
    /// Removes what the path names (RFC 9110, section 9.3.5).
    Delete,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

const fn timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

const fn connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

const fn max_in_flight() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(63)
}

const fn max_reply_bytes() -> ByteSize {
    ByteSize::from_mib(1)
}

fn user_agent() -> String {
    concat!("transload/", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The base of all requests' URLs, or what is wrong with it.
pub(super) fn base(config: &ClientConfig) -> Result<Url, &'static str> {
    server_url(&config.url)
}

/// A URL that credentials may be sent to, or what is wrong with it.
pub(super) fn server_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "this is not a URL")?;
    if url.scheme() != "http" && url.scheme() != "https" {
        return Err("the URL must begin with `http://` or `https://`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds credentials, which would be shown");
    }
    if url.fragment().is_some() {
        return Err("the URL holds a fragment (`#…`), which is never sent");
    }
    Ok(url)
}

pub(super) fn describe(config: &ClientConfig) -> String {
    match base(config) {
        Ok(mut url) => {
            // A query may hold a key.
            url.set_query(None);
            format!("sends to {url}")
        }
        Err(_) => "sends to a URL that cannot be used".to_owned(),
    }
}
