//! Pages of other origins (the fetch standard, «CORS protocol»).

use http::{
    HeaderMap, HeaderValue, Response,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN, VARY,
    },
};

use crate::listener::config::CorsSettings;

/// What scripts may see of an answer beside its body.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");

/// What pages of other origins may do.
#[derive(Debug)]
pub(in crate::listener) struct Cors {
    origins: Vec<String>,
    allowed_headers: HeaderValue,
    max_age_s: HeaderValue,
}

impl Cors {
    /// A list that cannot be written into a field was found when the settings were checked.
    pub(in crate::listener) fn new(settings: &CorsSettings) -> Self {
        let headers = settings.headers.join(", ");
        Self {
            origins: settings.origins.clone(),
            allowed_headers: HeaderValue::try_from(headers)
                .unwrap_or(HeaderValue::from_static("content-type")),
            max_age_s: settings.max_age.get().as_secs().into(),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes())
    }

    /// Adds to a response what lets a page of an allowed origin read it.
    pub(in crate::listener) fn open<B>(&self, fields: &HeaderMap, response: &mut Response<B>) {
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = fields.get(ORIGIN).filter(|origin| self.allows(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// Adds to the answer to a browser's question what it may send.
    pub(in crate::listener) fn permit<B>(&self, methods: &str, response: &mut Response<B>) {
        let headers = response.headers_mut();
        if let Ok(methods) = HeaderValue::try_from(methods) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.allowed_headers.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age_s.clone());
    }
}

/// Whether a browser sends this for a page of another origin that is not allowed. Where nobody has
/// to show a credential, this is all that keeps any page on the Web from using a listener that only
/// the browser's machine can reach. `authority` is what HTTP/2 has in the place of `Host`.
pub(in crate::listener) fn is_foreign(
    cors: Option<&Cors>,
    fields: &HeaderMap,
    authority: Option<&str>,
) -> bool {
    let Some(origin) = fields.get(ORIGIN) else { return false };
    if cors.is_some_and(|cors| cors.allows(origin)) {
        return false;
    }
    let host = fields.get(HOST).and_then(|host| host.to_str().ok()).or(authority);
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    !matches!((own, host), (Some((_, own)), Some(host)) if own.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_are_told_apart() {
        let cors = Cors::new(&toml::from_str("origins = ['https://app.example']").unwrap());
        for (origin, host, foreign) in [
            (None, "127.0.0.1:8080", false),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", false),
            (Some("https://app.example"), "127.0.0.1:8080", false),
            (Some("https://evil.example"), "127.0.0.1:8080", true),
            (Some("https://app.example.evil"), "127.0.0.1:8080", true),
            (Some("null"), "127.0.0.1:8080", true),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(HOST, HeaderValue::from_str(host).unwrap());
            if let Some(origin) = origin {
                fields.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            assert_eq!(is_foreign(Some(&cors), &fields, None), foreign, "{origin:?}");
            fields.remove(HOST);
            assert_eq!(is_foreign(Some(&cors), &fields, Some(host)), foreign, "{origin:?}");
        }
    }
}
