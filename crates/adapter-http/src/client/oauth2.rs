//! Tokens of an authorization server: OAuth 2 client credentials (RFC 6749, section 4.4).
//!
//! Invariants:
//! - One request for a token is under way at a time, whatever the number of messages that wait.
//! - An authorization server that is down is a state: messages are held, and it is asked again at
//!   longer and longer intervals, not once for each message.
//! - Neither a token nor the secret is part of a log entry or an error.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::{Client, RequestBuilder, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use tracing::{info, warn};
use transload_adapter::{Lint, Secret, SendError};
use transload_envelope::Text;
use transload_tls::ClientTls;
use url::{Url, form_urlencoded};

use super::{config::server_url, lint::is_plain};
use crate::{error, mapping};

/// How long before its end a token is replaced, at most.
const MARGIN_MAX: Duration = Duration::from_mins(1);
/// The pause after the first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause that is not asked for by the server.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// For how long no other token is asked for after a new one was refused.
const FUTILE: Duration = Duration::from_mins(1);
/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How much of what the server says about an error is told, in characters.
const EXCERPT_MAX: usize = 300;

/// Asks an authorization server for a bearer token, in the gateway's own name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2Settings {
    /// Where tokens are given out.
    pub token_url: String,

    /// Who asks for a token.
    pub client_id: String,

    /// The secret of `client_id`, or `client_secret_file` with the file that it is in.
    pub client_secret: Secret,

    /// What the token is to be good for.
    #[serde(default)]
    pub scopes: Vec<String>,

    /// Further parameters of the request, such as `{ audience = "https://api.example.com" }`.
    #[serde(default)]
    pub parameters: BTreeMap<String, Secret>,

    /// Where `client_id` and its secret are sent: `"header"` (basic authentication) or `"body"`.
    #[serde(default)]
    pub credentials_in: CredentialsIn,

    /// TLS to `token_url`; without it, as for `url`.
    #[serde(default)]
    pub tls: Option<ClientTls>,
}

/// Where the client's own credentials are sent (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialsIn {
    /// As basic authentication.
    #[default]
    Header,
    /// As parameters.
    Body,
}

impl OAuth2Settings {
    /// Where tokens are given out, or what is wrong with that.
    pub(super) fn url(&self) -> Result<Url, &'static str> {
        server_url(&self.token_url)
    }
}

pub(super) fn lint(path: &str, settings: &OAuth2Settings) -> Vec<Lint> {
    let mut lints = Vec::new();
    let at = |key: &str| format!("{path}.{key}");
    match settings.url() {
        Err(message) => {
            let help = "write it as `https://host/path`";
            lints.push(Lint::error(at("token_url"), message).with_help(help));
        }
        Ok(url) if is_plain(&url) => {
            let message = "the secret is sent without encryption";
            lints.push(Lint::warning(at("token_url"), message).with_help("use `https://`"));
        }
        Ok(_) => {}
    }
    let empty = "the authorization server needs it to know who asks";
    for (key, text) in
        [("client_id", &*settings.client_id), ("client_secret", settings.client_secret.expose())]
    {
        if text.is_empty() {
            lints.push(Lint::error(at(key), empty));
        }
    }
    for (number, scope) in settings.scopes.iter().enumerate() {
        if scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "a scope is a word without spaces";
            lints.push(Lint::error(at(&format!("scopes.{number}")), message));
        }
    }
    for name in settings.parameters.keys() {
        if ["grant_type", "client_id", "client_secret", "scope"].contains(&name.as_str()) {
            let message = "this parameter follows from the other keys";
            lints.push(Lint::error(at(&format!("parameters.{name}")), message));
        }
    }
    if let Some(tls) = &settings.tls {
        lints.extend(tls.lint(&at("tls")));
    }
    lints
}

/// A token to send.
#[derive(Clone)]
pub(super) struct Token {
    /// The field `Authorization`.
    pub(super) authorization: HeaderValue,
    number: u64,
    good_until: Option<Instant>,
}

/// Gets tokens, and keeps the one that is good.
pub(super) struct Tokens {
    settings: OAuth2Settings,
    url: Url,
    client: Client,
    /// The adapter's name.
    adapter: Text,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// How many tokens there have been.
    count: u64,
    outage: Option<Outage>,
    /// Until then no other token is asked for because one was refused.
    futile_until: Option<Instant>,
}

struct Outage {
    failures: u32,
    again: Instant,
    reason: Text,
}

impl Tokens {
    pub(super) fn new(settings: &OAuth2Settings, url: Url, client: Client, adapter: Text) -> Self {
        Self { settings: settings.clone(), url, client, adapter, state: Mutex::default() }
    }

    /// The token that is good now, or a new one.
    ///
    /// Cancel-safe: a wait that is dropped has asked in vain.
    pub(super) async fn get(&self) -> Result<Token, SendError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = &state.token
            && token.good_until.is_none_or(|end| now < end)
        {
            return Ok(token.clone());
        }
        if let Some(outage) = state.outage.as_ref().filter(|outage| now < outage.again) {
            let after = Some(outage.again.duration_since(now));
            return Err(SendError::Busy { after, reason: outage.reason.clone() });
        }
        match self.ask().await {
            Ok(granted) => Ok(self.granted(&mut state, granted)),
            Err(failure) => Err(self.failed(&mut state, &failure)),
        }
    }

    /// A server has refused a token. Whether it is worth asking for another one and trying again.
    pub(super) async fn refused(&self, token: &Token) -> bool {
        let mut state = self.state.lock().await;
        if state.futile_until.is_some_and(|end| Instant::now() < end) {
            return false;
        }
        // Of several messages that were refused with one token, the first asks for another one.
        if state.token.as_ref().is_some_and(|current| current.number == token.number) {
            state.token = None;
        }
        true
    }

    /// A server has refused a token that was made for it: it is not the token's age.
    pub(super) async fn refused_again(&self) {
        let mut state = self.state.lock().await;
        state.futile_until = Some(Instant::now() + FUTILE);
    }

    fn granted(&self, state: &mut State, granted: Granted) -> Token {
        if state.outage.take().is_some() {
            info!(adapter = %self.adapter, "The authorization server gives tokens again.");
        }
        state.count += 1;
        let good_for = granted.expires_in.map(good_for);
        let token = Token {
            authorization: granted.authorization,
            number: state.count,
            good_until: good_for.map(|time| Instant::now() + time),
        };
        state.token = Some(token.clone());
        token
    }

    fn failed(&self, state: &mut State, failure: &Failure) -> SendError {
        let failures = state.outage.as_ref().map_or(0, |outage| outage.failures);
        if failures == 0 {
            let reason = &failure.reason;
            warn!(adapter = %self.adapter, %reason, "There is no token to send messages with; they wait.");
        }
        let after = failure.after.unwrap_or_else(|| pause(failures));
        let reason: Text = format!("there is no token: {}", failure.reason).into();
        let again = Instant::now() + after;
        let outage = Outage { failures: failures.saturating_add(1), again, reason: reason.clone() };
        state.outage = Some(outage);
        SendError::Busy { after: Some(after), reason }
    }

    async fn ask(&self) -> Result<Granted, Failure> {
        let sent = self.request().send().await;
        let mut response = sent.map_err(|error| error::causes(&error.without_url()))?;
        let status = response.status();
        let after = mapping::read_retry_after(response.headers(), SystemTime::now());
        let answer = read(&mut response).await?;
        if status == StatusCode::OK {
            return Ok(granted(&answer)?);
        }
        let said = self.redacted(&refusal(&answer));
        let reason = format!("the authorization server answered {status}{said}").into();
        Err(Failure { after, reason })
    }

    fn request(&self) -> RequestBuilder {
        let settings = &self.settings;
        let secret = settings.client_secret.expose();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !settings.scopes.is_empty() {
            form.append_pair("scope", &settings.scopes.join(" "));
        }
        for (name, value) in &settings.parameters {
            form.append_pair(name, value.expose());
        }
        let request = self.client.post(self.url.clone()).header(ACCEPT, "application/json");
        let request = match settings.credentials_in {
            CredentialsIn::Header => request.header(AUTHORIZATION, self.basic()),
            CredentialsIn::Body => {
                form.append_pair("client_id", &settings.client_id);
                form.append_pair("client_secret", secret);
                request
            }
        };
        let form_type = "application/x-www-form-urlencoded";
        request.header(CONTENT_TYPE, form_type).body(form.finish())
    }

    fn basic(&self) -> HeaderValue {
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let id = encode(&self.settings.client_id);
        let secret = encode(self.settings.client_secret.expose());
        let text = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        // Base64 is always a good value.
        let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Basic"));
        value.set_sensitive(true);
        value
    }

    /// A server may repeat what it was sent.
    fn redacted(&self, said: &str) -> String {
        said.replace(self.settings.client_secret.expose(), "***")
    }
}

/// Why there is no token.
struct Failure {
    /// As asked for by the server.
    after: Option<Duration>,
    reason: Text,
}

impl From<Text> for Failure {
    fn from(reason: Text) -> Self {
        Self { after: None, reason }
    }
}

struct Granted {
    authorization: HeaderValue,
    expires_in: Option<Duration>,
}

/// An answer to a request for a token (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    /// Seconds; some servers write them as a text.
    expires_in: Option<serde_json::Value>,
}

fn granted(answer: &[u8]) -> Result<Granted, Text> {
    // The parser's error would repeat a part of the answer.
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_| "the authorization server's answer holds no `access_token`")?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the authorization server gives tokens of another type than bearer".into());
    }
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", answer.access_token))
        .map_err(|_| "the token cannot be sent in a header field")?;
    authorization.set_sensitive(true);
    let seconds = answer.expires_in.as_ref().and_then(|value| match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_u64(),
    });
    Ok(Granted { authorization, expires_in: seconds.map(Duration::from_secs) })
}

/// What the server says about an error (RFC 6749, section 5.2).
fn refusal(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal>(answer) else { return String::new() };
    let text = format!(": {} {}", refusal.error, refusal.error_description);
    text.trim_end().chars().filter(|c| !c.is_control()).take(EXCERPT_MAX).collect()
}

async fn read(response: &mut Response) -> Result<Vec<u8>, Text> {
    let mut answer = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| error::causes(&error.without_url()))?
    {
        if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the authorization server's answer is too large".into());
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// How long a token is used that is good for so long.
fn good_for(expires_in: Duration) -> Duration {
    expires_in.saturating_sub(MARGIN_MAX.min(expires_in / 10))
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.min(6)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_shortly_before_its_end() {
        let good = |seconds| good_for(Duration::from_secs(seconds)).as_secs();
        assert_eq!([good(3600), good(600), good(100), good(0)], [3540, 540, 90, 0]);
        let pauses = [0, 1, 2, 5, 6, u32::MAX].map(|failures| pause(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60]);
    }

    #[test]
    fn answers_are_read() {
        let good = |text: &str| granted(text.as_bytes()).map(|granted| granted.expires_in);
        let hour = Some(Duration::from_hours(1));
        assert_eq!(
            good(r#"{"access_token":"a","token_type":"bearer","expires_in":3600}"#),
            Ok(hour)
        );
        assert_eq!(good(r#"{"access_token":"a","expires_in":"3600","scope":"x"}"#), Ok(hour));
        assert_eq!(good(r#"{"access_token":"a"}"#), Ok(None));
        for bad in [
            "",
            "{}",
            "hush",
            r#"{"access_token":5}"#,
            r#"{"access_token":"hush\n"}"#,
            r#"{"access_token":"hush","token_type":"mac"}"#,
        ] {
            let reason = good(bad).unwrap_err();
            assert!(!reason.contains("hush"), "{reason}");
        }
        let said = r#"{"error":"invalid_client","error_description":"unknown\n client"}"#;
        assert_eq!(refusal(said.as_bytes()), ": invalid_client unknown client");
        assert_eq!(refusal(b"<html>"), "");
    }

    #[test]
    fn settings_are_checked() {
        let faults = |text: &str| {
            let settings = toml::from_str(text).unwrap();
            lint("o", &settings).into_iter().map(|lint| lint.path).collect::<Vec<_>>()
        };
        let good = "token_url = 'https://a/token'\nclient_id = 'c'\nclient_secret = 's'\n";
        assert_eq!(faults(good), [""; 0]);
        for (more, expected) in [
            ("scopes = ['a b']", "o.scopes.0"),
            ("parameters = { scope = 'a' }", "o.parameters.scope"),
            ("tls = { ca_file = '/nowhere' }", "o.tls.ca_file"),
        ] {
            assert_eq!(faults(&format!("{good}{more}")), [expected]);
        }
        for (from, to, expected) in [
            ("https://a/token", "http://a/token", "o.token_url"),
            ("https://a/token", "https://u:p@a/token", "o.token_url"),
            ("'c'", "''", "o.client_id"),
            ("'s'", "''", "o.client_secret"),
        ] {
            assert_eq!(faults(&good.replace(from, to)), [expected]);
        }
    }
}
