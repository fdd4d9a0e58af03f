//! Questions before a request: of browsers (CORS) and of senders of `CloudEvents`.

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN},
};

use super::{Call, Outcome, STREAM_METHODS, not_allowed};
use crate::listener::answer;

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

impl Call<'_> {
    /// Answers `OPTIONS`. It asks for no credential, since those who ask cannot show one, and tells
    /// nothing that is not in the settings of the path.
    pub(super) fn options(&self) -> Outcome {
        let methods = format!("{STREAM_METHODS}, {}", self.intake_methods());
        if let Some(cors) = &self.server.cors
            && self.fields().contains_key(ORIGIN)
            && self.fields().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            let mut response = answer::empty(StatusCode::NO_CONTENT);
            cors.permit(&methods, &mut response);
            return Ok(response);
        }
        match self.fields().get(REQUEST_ORIGIN) {
            Some(origin) if self.knows(origin) => Ok(self.handshake(origin)),
            Some(_) | None => Err(Box::new(not_allowed(&methods))),
        }
    }

    /// Whether somebody of this origin may send webhooks to this path.
    fn knows(&self, origin: &HeaderValue) -> bool {
        let known = &self.policy.webhook_origins;
        known.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes())
    }

    /// The handshake of `CloudEvents` (HTTP 1.1 Web Hooks for Event Delivery, section 4).
    fn handshake(&self, origin: &HeaderValue) -> Response<answer::Body> {
        let mut response = answer::empty(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(ALLOWED_ORIGIN, origin.clone());
        headers.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
        if let Ok(methods) = HeaderValue::try_from(self.intake_methods()) {
            headers.insert(ALLOW, methods);
        }
        response
    }
}
