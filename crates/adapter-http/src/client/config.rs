use std::{collections::BTreeMap, fs, num::NonZeroU32, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    ConnectError, Lint, Secret,
    units::{ByteSize, HumanDuration},
};
use transload_envelope::Text;
use url::Url;

use super::sign::{SignSettings, Signer};
use crate::mapping::{encode_path, is_forwardable};

/// The most requests that may be under way at once.
const IN_FLIGHT_MAX: u32 = 10_000;

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
    let url = Url::parse(&config.url).map_err(|_| "this is not a URL")?;
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

pub(super) fn lint(config: &ClientConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    if let Err(message) = base(config) {
        let help = "write it as `https://host/path`, credentials as `username` and `password`";
        lints.push(Lint::error("url", message).with_help(help));
    }
    for (path, time) in [("timeout", config.timeout), ("connect_timeout", config.connect_timeout)] {
        if time.is_zero() {
            lints.push(Lint::error(path, "the time must be longer than nothing"));
        }
    }
    if config.max_in_flight.get() > IN_FLIGHT_MAX {
        lints.push(Lint::error("max_in_flight", format!("at most {IN_FLIGHT_MAX} are possible")));
    }
    if HeaderValue::from_str(&config.user_agent).is_err() {
        lints.push(Lint::error("user_agent", "a header field cannot hold this text"));
    }
    for (name, value) in &config.headers {
        let path = format!("headers.{name}");
        match HeaderName::try_from(name) {
            Err(_) => lints.push(Lint::error(path, "this is not the name of a header field")),
            Ok(name) if !may_be_set(&name) => {
                let message = "this field belongs to the connection and is set by the client";
                lints.push(Lint::error(path, message));
            }
            Ok(_) if HeaderValue::from_str(value.expose()).is_err() => {
                lints.push(Lint::error(path, "a header field cannot hold this text"));
            }
            Ok(_) => {}
        }
    }
    lint_credentials(config, &mut lints);
    if let Some(Err(fault)) = config.sign.as_ref().map(Signer::new) {
        let path = fault.key.map_or("sign".to_owned(), |key| format!("sign.{key}"));
        lints.push(Lint::error(path, fault.message).with_help(fault.help));
    }
    lints
}

fn lint_credentials(config: &ClientConfig, lints: &mut Vec<Lint>) {
    if config.bearer_token.is_some() && config.bearer_token_file.is_some() {
        lints.push(Lint::error("bearer_token_file", "the bearer token is given twice"));
    }
    if config.password.is_some() && config.password_file.is_some() {
        lints.push(Lint::error("password_file", "the password is given twice"));
    }
    let bearer = config.bearer_token.is_some() || config.bearer_token_file.is_some();
    let password = config.password.is_some() || config.password_file.is_some();
    if config.username.is_some() && bearer {
        lints.push(Lint::error("username", "a request carries either a bearer token or a user"));
    }
    if config.username.is_none() && password {
        lints.push(Lint::error("password", "there is a password and no `username`"));
    }
    if config.username.as_ref().is_some_and(|name| name.contains(':')) {
        lints.push(Lint::error("username", "basic authentication cannot carry a `:` here"));
    }
    let plain = base(config).is_ok_and(|url| {
        let local = url
            .host_str()
            .is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."));
        url.scheme() == "http" && !local
    });
    if plain && (bearer || password) {
        let message = "the credentials are sent without encryption";
        lints.push(Lint::warning("url", message).with_help("use `https://`"));
    }
}

pub(super) fn lint_target(_: &ClientConfig, target: &ClientTarget) -> Vec<Lint> {
    let Some(path) = &target.path else { return Vec::new() };
    let mut lints = Vec::new();
    if let Err(error) = encode_path(path) {
        lints.push(Lint::error("path", error.to_string()));
    }
    if path.contains("://") {
        let message = "this is a URL, and would be sent as a path";
        lints.push(Lint::error("path", message).with_help("make an adapter for each server"));
    }
    if path.contains(['?', '%']) {
        let message = "`?` and `%` are percent-encoded like any other character of a path";
        lints.push(
            Lint::warning("path", message).with_help("a query belongs to the adapter's `url`"),
        );
    }
    lints
}

fn may_be_set(name: &HeaderName) -> bool {
    is_forwardable(name.as_str())
        || [AUTHORIZATION, CONTENT_TYPE, http::header::COOKIE].contains(name)
}

/// The fields of every request. Reads the files of secrets.
pub(super) fn fixed_headers(config: &ClientConfig) -> Result<HeaderMap, ConnectError> {
    let mut fields = HeaderMap::new();
    for (name, value) in &config.headers {
        let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name), HeaderValue::from_str(value.expose()))
        else {
            return Err(unusable(format!("the header field `{name}` cannot be sent")));
        };
        value.set_sensitive(true);
        fields.insert(name, value);
    }
    let token = read_secret(config.bearer_token.as_ref(), config.bearer_token_file.as_ref())?;
    let authorization = match (&config.username, token) {
        (_, Some(token)) => Some(format!("Bearer {}", token.trim())),
        (Some(username), None) => {
            let password = read_secret(config.password.as_ref(), config.password_file.as_ref())?;
            let password = password.unwrap_or_default();
            let password = password.trim_end_matches(['\r', '\n']);
            Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
        }
        (None, None) => None,
    };
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::from_str(&authorization)
            .map_err(|_| unusable("the credentials cannot be sent in a header field"))?;
        value.set_sensitive(true);
        fields.insert(AUTHORIZATION, value);
    }
    Ok(fields)
}

fn read_secret(
    secret: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<String>, ConnectError> {
    match (secret, file) {
        (Some(secret), _) => Ok(Some(secret.expose().to_owned())),
        (None, Some(file)) => match fs::read_to_string(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(unusable(format!("cannot read {}: {error}", file.display()))),
        },
        (None, None) => Ok(None),
    }
}

fn unusable(reason: impl Into<Text>) -> ConnectError {
    ConnectError::Unusable { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ClientConfig {
        toml::from_str(text).unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        lint(&config(text)).into_iter().map(|lint| lint.path).collect()
    }

    #[test]
    fn the_url_is_all_that_is_needed() {
        assert_eq!(faults("url = \"https://example.com/hooks?key=1\""), [""; 0]);
        let config = config("url = \"https://example.com/hooks?key=1\"");
        assert_eq!(describe(&config), "sends to https://example.com/hooks");
    }

    #[test]
    fn faults_are_found() {
        for (text, expected) in [
            ("url = \"example.com\"", &["url"][..]),
            ("url = \"ftp://example.com\"", &["url"]),
            ("url = \"https://a:b@example.com\"", &["url"]),
            ("url = \"https://example.com\"\ntimeout = \"0s\"", &["timeout"]),
            (
                "url = \"https://example.com\"\nbearer_token = \"a\"\nusername = \"b\"\n\
                 bearer_token_file = \"c\"",
                &["bearer_token_file", "username"],
            ),
            ("url = \"https://example.com\"\npassword = \"a\"", &["password"]),
            ("url = \"http://example.com\"\nbearer_token = \"a\"", &["url"]),
            ("url = \"http://127.0.0.1\"\nbearer_token = \"a\"", &[]),
            ("url = \"https://a\"\nsign = { secret = \"whsec_a2V5\" }", &[]),
            ("url = \"https://a\"\nsign = { secret = \"?\" }", &["sign.secret"]),
            ("url = \"https://a\"\nsign = {}", &["sign"]),
            (
                "url = \"https://example.com\"\nheaders = { host = \"a\", \"x y\" = \"b\", ok = \"c\\n\" }",
                &["headers.host", "headers.ok", "headers.x y"],
            ),
        ] {
            assert_eq!(faults(text), expected, "{text}");
        }
    }

    #[test]
    fn targets_name_paths_and_nothing_else() {
        let config = config("url = \"https://example.com\"");
        for (path, findings) in
            [("a/{b}", 0), ("/a", 0), ("../a", 1), ("https://evil/", 1), ("a?b={c}", 1)]
        {
            let target = ClientTarget { path: Some(path.to_owned()), ..ClientTarget::default() };
            assert_eq!(lint_target(&config, &target).len(), findings, "{path}");
        }
        let target: ClientTarget = toml::from_str("method = \"PUT\"\nconcurrency = 4").unwrap();
        assert_eq!((target.method, target.concurrency.0.get()), (Method::Put, 4));
        assert!(toml::from_str::<ClientTarget>("concurrency = 0").is_err());
    }

    #[test]
    fn credentials_become_sensitive_fields() {
        let fields =
            fixed_headers(&config("url = \"https://a\"\nusername = \"u\"\npassword = \"p\""));
        let fields = fields.unwrap();
        assert_eq!(fields[AUTHORIZATION], "Basic dTpw");
        assert!(fields[AUTHORIZATION].is_sensitive());
        let missing = config("url = \"https://a\"\nbearer_token_file = \"/nonexistent/token\"");
        let error = fixed_headers(&missing).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/token"), "{error}");
        let shown = format!("{:?}", config("url = \"https://a\"\nbearer_token = \"hush\""));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
