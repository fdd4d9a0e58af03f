//! What a header field cannot hold as it is: `Transload-Header: NAME=VALUE` for a header, and
//! `Transload-Property: NAME=VALUE` for a property that is text, both parts percent-encoded. The
//! NATS adapter does the same.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use transload_envelope::{Text, Value};

pub(super) const HEADER: HeaderName = HeaderName::from_static("transload-header");
pub(super) const PROPERTY: HeaderName = HeaderName::from_static("transload-property");

/// The field value that is these bytes and is read as these bytes: control characters are
/// forbidden in HTTP, and spaces at either end are stripped.
pub(super) fn intact(bytes: &[u8]) -> Option<HeaderValue> {
    let is_trimmed = bytes.trim_ascii().len() == bytes.len();
    let is_clean = is_trimmed && !bytes.iter().any(u8::is_ascii_control);
    is_clean.then(|| HeaderValue::from_bytes(bytes).ok()).flatten()
}

/// Adds what has no field of its own.
pub(super) fn write(into: &mut HeaderMap, carrier: HeaderName, name: &str, value: &[u8]) {
    let name = percent_encode(name.as_bytes(), NON_ALPHANUMERIC);
    let text = format!("{name}={}", percent_encode(value, NON_ALPHANUMERIC));
    // Percent-encoded text is always a valid value.
    if let Ok(value) = HeaderValue::from_str(&text) {
        into.append(carrier, value);
    }
}

/// The name and the value that such a field carries.
pub(super) fn read(value: &HeaderValue) -> Option<(Text, Value)> {
    let (name, value) = value.to_str().ok()?.split_once('=')?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    let value = Bytes::from(percent_decode_str(value).collect::<Vec<_>>());
    let value = match Text::try_from(value.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(value),
    };
    Some((Text::from(&*name), value))
}
