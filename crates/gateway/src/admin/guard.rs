//! Keeps web pages away: a browser on the operator's machine reaches loopback addresses, and would
//! do there what any page tells it to.
//!
//! - `Host` must be an address or `localhost`, so that no name that somebody else controls can be
//!   made to lead here (DNS rebinding).
//! - A request that says which page it comes from (`Origin`, Fetch section 3.2) must come from here.
//! - What changes something must be `application/json`, which a page of another origin may not send
//!   without asking first, and nobody here answers that question. That is held by the pages.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::answer;

/// Lets a request pass, or refuses it.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => {
            answer(StatusCode::FORBIDDEN, &serde_json::json!({ "error": reason })).into_response()
        }
    }
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
