//! What the types of the settings cannot say.

use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use transload_adapter::Lint;
use transload_tls::ClientTls;
use url::{Host, Url};

use super::{
    config::{ClientConfig, ClientTarget, base},
    oauth2, resolve,
    sign::Signer,
};
use crate::mapping::{encode_path, is_forwardable};

/// The most requests that may be under way at once.
const IN_FLIGHT_MAX: u32 = 10_000;

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
    lint_connection(config, &mut lints);
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
    if let Some(settings) = &config.oauth2 {
        let own = |name: &String| name.eq_ignore_ascii_case("authorization");
        if bearer || config.username.is_some() || config.headers.keys().any(own) {
            let message = "a request carries this token or other credentials, not both";
            lints.push(Lint::error("oauth2", message));
        }
        lints.extend(oauth2::lint("oauth2", settings));
    }
    if config.username.is_none() && password {
        lints.push(Lint::error("password", "there is a password and no `username`"));
    }
    if config.username.as_ref().is_some_and(|name| name.contains(':')) {
        lints.push(Lint::error("username", "basic authentication cannot carry a `:` here"));
    }
    let plain = base(config).is_ok_and(|url| is_plain(&url));
    let bearer = bearer || config.oauth2.is_some();
    if plain && (bearer || password) {
        let message = "the credentials are sent without encryption";
        lints.push(Lint::warning("url", message).with_help("use `https://`"));
    }
}

fn lint_connection(config: &ClientConfig, lints: &mut Vec<Lint>) {
    lints.extend(config.tls.lint("tls"));
    let Ok(url) = base(config) else { return };
    let own = config.tls != ClientTls::default() || config.server_name.is_some();
    if own && url.scheme() == "http" {
        let message = "`tls` and `server_name` are of no use without TLS";
        lints.push(Lint::error("url", message).with_help("write it as https://"));
    }
    if let Some(name) = &config.server_name
        && !matches!(Host::parse(name), Ok(Host::Domain(_)))
    {
        let help = "write it like `api.example.com`";
        lints.push(Lint::error("server_name", "this is not the name of a host").with_help(help));
    }
    let token_url = config.oauth2.as_ref().and_then(|settings| settings.url().ok());
    for (path, url) in [("url", Some(url)), ("oauth2.token_url", token_url)] {
        let blocked = url.as_ref().and_then(resolve::literal).filter(|ip| resolve::is_private(*ip));
        if let Some(address) = blocked.filter(|_| config.block_private_addresses) {
            let message = format!("{address} is private, and `block_private_addresses` is set");
            lints.push(Lint::error(path, message));
        }
    }
}

/// Whether what is sent there can be read on the way.
pub(super) fn is_plain(url: &Url) -> bool {
    let local = url
        .host_str()
        .is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."));
    url.scheme() == "http" && !local
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::config::{Method, describe};

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
            ("url = \"https://a\"\ntls = { ca_file = \"/nowhere\" }", &["tls.ca_file"]),
            ("url = \"http://a\"\nserver_name = \"b\"", &["url"]),
            ("url = \"https://a\"\nserver_name = \"b c\"", &["server_name"]),
            ("url = \"https://a\"\nserver_name = \"10.0.0.1\"", &["server_name"]),
            ("url = \"https://10.0.0.1\"", &[]),
            ("url = \"https://10.0.0.1\"\nblock_private_addresses = true", &["url"]),
            ("url = \"https://[::ffff:7f00:1]\"\nblock_private_addresses = true", &["url"]),
            ("url = \"https://8.8.8.8\"\nblock_private_addresses = true", &[]),
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
}
