//! Several replies as one.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value as Json, json};
use transload_envelope::{Envelope, Origin, Value};

use super::failure::STATUS_HEADER;

/// Makes one message of several replies: a JSON array of their payloads in the order in which they
/// came. A payload that is JSON stands there as it is, other text as a string, and bytes that are
/// no text as `{"base64": "…"}`. When fewer came in time than were wanted, the status is 206.
pub(super) fn array(replies: &[Envelope], wanted: usize, request: &Envelope) -> Envelope {
    let payloads: Vec<Json> = replies.iter().map(|reply| payload(&reply.payload)).collect();
    let origin = Origin::new("", "transload", request.address.as_text().clone());
    let mut all = Envelope::new(origin, Json::from(payloads).to_string());
    all.properties_mut().content_type = Some("application/json".into());
    let status = if replies.len() < wanted { 206 } else { 200 };
    all.headers.push(STATUS_HEADER, Value::Int(status));
    all
}

fn payload(bytes: &[u8]) -> Json {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_keep_what_they_are() {
        let reply = |payload: &'static [u8]| Envelope::new(Origin::new("a", "x", "y"), payload);
        let request = reply(b"?");
        let replies = [reply(b"{\"a\":1}"), reply(b"text"), reply(b"\xff"), reply(b"7")];
        let all = array(&replies, 4, &request);
        assert_eq!(all.payload, r#"[{"a":1},"text",{"base64":"/w=="},7]"#);
        assert_eq!(all.headers.get("status"), Some(&Value::Int(200)));
        assert_eq!(array(&replies, 5, &request).headers.get("status"), Some(&Value::Int(206)));
    }
}
