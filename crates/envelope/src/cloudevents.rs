//! How a message that is a `CloudEvent` (version 1.0) looks in canonical form: the binary mode.
//!
//! Attributes are headers `ce-NAME`, except that `datacontenttype` is the content type; the data is
//! the payload. Each adapter maps its protocol's convention to this and back.

use crate::{Headers, MessageId, Text, Value};

/// What stands before an attribute's name in a header's name.
pub const PREFIX: &str = "ce-";

/// The header that every event has, and by which an event is known.
pub const SPECVERSION: &str = "ce-specversion";

/// Whether this can be the name of an attribute: lower-case letters and digits of ASCII
/// (`CloudEvents` 1.0, section 3.1).
pub fn is_attribute_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(fits)
}

/// The attribute that a header of this name stands for.
pub fn attribute(header: &str) -> Option<&str> {
    let name = header.strip_prefix(PREFIX)?;
    is_attribute_name(name).then_some(name)
}

/// The header that stands for an attribute.
pub fn header(attribute: &str) -> Text {
    format!("{PREFIX}{attribute}").into()
}

/// Whether a message with these headers is an event in binary mode.
pub fn is_event(headers: &Headers) -> bool {
    headers.get(SPECVERSION).is_some()
}

/// The longest id that every protocol can carry (an AMQP short string), in bytes.
const ID_BYTES_MAX: usize = 255;

/// The identity of an event as that of a message: its `source` and its `id`, since an `id` is unique
/// for its `source` only. `None` where these are missing, too long, or no text.
///
/// A `source` is a URI reference and has no space, so that two events never come to the same.
pub fn message_id(headers: &Headers) -> Option<MessageId> {
    let [source, id] = ["ce-source", "ce-id"]
        .map(|name| headers.get(name).and_then(Value::as_text).filter(|text| !text.is_empty()));
    let id = format!("{} {}", source?, id?);
    let usable = id.len() <= ID_BYTES_MAX && !id.contains(char::is_control);
    usable.then(|| MessageId::from_source(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_identified_by_its_source_and_its_id() {
        let mut headers = Headers::default();
        headers.push("ce-id", "A234");
        assert_eq!(message_id(&headers), None);
        headers.push("ce-source", "/mycontext");
        assert_eq!(message_id(&headers).unwrap().as_str(), "/mycontext A234");
        headers.set("ce-id", "x".repeat(250));
        assert_eq!(message_id(&headers), None);
    }

    #[test]
    fn attributes_and_headers_stand_for_each_other() {
        for (name, expected) in [
            ("ce-id", Some("id")),
            ("ce-datacontenttype", Some("datacontenttype")),
            ("ce-", None),
            ("ce-my-extension", None),
            ("ce-Id", None),
            ("id", None),
        ] {
            assert_eq!(attribute(name), expected, "{name}");
        }
        assert_eq!(header("comexampleextension1"), "ce-comexampleextension1");
        let mut headers = Headers::default();
        assert!(!is_event(&headers));
        headers.push(SPECVERSION, "1.0");
        assert!(is_event(&headers));
    }
}
