//! Keeps web pages away: a browser on the operator's machine reaches loopback addresses, and would
//! do there what any page tells it to.
//!
//! - `Host` must be an address or `localhost`, so that no name that somebody else controls can be
//!   made to lead here (DNS rebinding).
//! - A request that says which page it comes from (`Origin`, Fetch section 3.2) must come from here.
//! - What changes something must be `application/json`, which a page of another origin may not send
//!   without asking first, and nobody here answers that question. That is held by the pages.
//!
//! Where a token is asked for, who shows it is none of these: `Host` and `Origin` do not matter then.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use axum::{
    extract::{Request, State as Extract},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use subtle::ConstantTimeEq as _;
use transload_adapter::Secret;

use super::answer;

/// The token that peers must show, if any. Can be replaced while the gateway runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Token(Arc<ArcSwapOption<Secret>>);

impl Token {
    pub(crate) fn replace(&self, token: Option<Secret>) {
        self.0.store(token.map(Arc::new));
    }

    /// Whether a request may see everything.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &*self.0.load() else { return true };
        let shown = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
        let Some((scheme, shown)) = shown.and_then(|shown| shown.split_at_checked(7)) else {
            return false;
        };
        // In constant time, but for the length.
        scheme.eq_ignore_ascii_case(b"bearer ")
            && bool::from(shown.ct_eq(token.expose().as_bytes()))
    }

    fn is_asked_for(&self) -> bool {
        self.0.load().is_some()
    }
}

/// Lets a request pass, or refuses it.
pub(super) async fn guard(
    Extract(token): Extract<Token>,
    request: Request,
    next: Next,
) -> Response {
    if token.is_asked_for() {
        return if token.admits(request.headers()) { next.run(request).await } else { unknown() };
    }
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => {
            answer(StatusCode::FORBIDDEN, &serde_json::json!({ "error": reason })).into_response()
        }
    }
}

/// The answer to who does not show the token.
fn unknown() -> Response {
    let body = serde_json::json!({ "error": "show the token as `Authorization: Bearer …`" });
    let mut response = answer(StatusCode::UNAUTHORIZED, &body).into_response();
    let scheme = header::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

/// Lets a request pass that needs a token where one is asked for.
pub(super) async fn with_token(
    Extract(token): Extract<Token>,
    request: Request,
    next: Next,
) -> Response {
    if token.admits(request.headers()) { next.run(request).await } else { unknown() }
}

fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let host = text(header::HOST).ok_or("the header Host is missing")?;
    if !is_local_name(host) {
        return Err("the header Host is neither an IP address nor `localhost`");
    }
    if headers.contains_key(header::ORIGIN)
        && text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) != Some(host)
    {
        return Err("the request comes from the page of another origin");
    }
    Ok(())
}

fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_compared_as_a_whole() {
        let token = Token::default();
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            headers
        };
        assert!(token.admits(&HeaderMap::new()), "none is asked for");
        token.replace(Some(Secret::new("0123456789abcdef")));
        for (value, passes) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(token.admits(&of(value)), passes, "{value}");
        }
        assert!(!token.admits(&HeaderMap::new()));
    }

    #[test]
    fn pages_of_others_are_kept_away() {
        for (host, origin, passes) in [
            (Some("127.0.0.1:9640"), None, true),
            (Some("localhost:9640"), None, true),
            (Some("LOCALHOST"), None, true),
            (Some("[::1]:9640"), None, true),
            (Some("127.0.0.1:9640"), Some("http://127.0.0.1:9640"), true),
            (Some("127.0.0.1:9640"), Some("http://127.0.0.1:8080"), false),
            (Some("127.0.0.1:9640"), Some("https://evil.example"), false),
            (Some("127.0.0.1:9640"), Some("null"), false),
            (Some("rebound.example:9640"), None, false),
            (Some("rebound.example:9640"), Some("http://rebound.example:9640"), false),
            (Some("127.0.0.1.evil.example"), None, false),
            (Some(""), None, false),
            (None, None, false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(check(&headers).is_ok(), passes, "{host:?} {origin:?}");
        }
    }
}
