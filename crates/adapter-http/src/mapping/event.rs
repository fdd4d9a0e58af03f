//! Server-sent events (HTML Living Standard, section 9.2).
//!
//! ```text
//! id: MESSAGE-ID
//! event: ADDRESS
//! data: TEXT, one field for each line
//! (empty line)
//! ```
//! - A payload that is UTF-8 without U+0000 is sent as it is; the standard knows only lines, so CR LF
//!   and CR reach the client as LF.
//! - Any other payload is one data URL (RFC 2397): `data:application/octet-stream;base64,…`, with the
//!   content type of the message if it has one. A text that begins with `data:` is sent in this form
//!   too, so that a client can tell: what begins with `data:` is to be decoded, all else is text.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use transload_envelope::{Envelope, MessageId, Text};

/// The name of the event that tells a client that it missed messages.
const GAP_EVENT: &str = "transload.gap";

/// The text of the `id:` field: the message id, its control characters percent-encoded.
pub(crate) fn event_id(id: &MessageId) -> Text {
    if id.as_str().contains(char::is_control) {
        one_line(id.as_str()).into()
    } else {
        id.as_text().clone()
    }
}

/// The event of a message.
pub(crate) fn render(envelope: &Envelope) -> Bytes {
    let mut event = String::with_capacity(envelope.payload.len() + envelope.address.len() + 96);
    let id = event_id(&envelope.id);
    if !id.is_empty() {
        field(&mut event, "id", &id);
    }
    field(&mut event, "event", &one_line(&envelope.address));
    match std::str::from_utf8(&envelope.payload) {
        Ok(text) if !text.contains('\0') && !text.starts_with("data:") => {
            for line in unix_lines(text).split('\n') {
                field(&mut event, "data", line);
            }
        }
        Ok(_) | Err(_) => field(&mut event, "data", &data_url(envelope)),
    }
    event.push('\n');
    event.into()
}

/// The event that tells of missed messages: how many, or that nobody knows.
pub(crate) fn gap(missed: Option<u64>) -> Bytes {
    let missed = missed.map_or_else(|| "null".to_owned(), |missed| missed.to_string());
    format!("event: {GAP_EVENT}\ndata: {{\"missed\":{missed}}}\n\n").into()
}

fn field(event: &mut String, name: &str, value: &str) {
    event.push_str(name);
    event.push_str(": ");
    event.push_str(value);
    event.push('\n');
}

/// The text with LF as its only line break.
fn unix_lines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n").into()
    } else {
        text.into()
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                line.push_str(percent_encoding::percent_encode_byte(byte));
            }
        } else {
            line.push(c);
        }
    }
    line
}

fn data_url(envelope: &Envelope) -> String {
    let content_type = envelope.properties().content_type.as_deref().filter(|content_type| {
        let plain = |c: char| c.is_ascii_graphic() && c != ',' && c != '"';
        content_type.contains('/') && content_type.chars().all(plain)
    });
    let content_type = content_type.unwrap_or("application/octet-stream");
    format!("data:{content_type};base64,{}", STANDARD.encode(&envelope.payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use transload_envelope::{Origin, Properties};

    use super::*;

    fn envelope(address: &str, payload: &[u8]) -> Envelope {
        Envelope::new(Origin::new("web", "http", address), payload.to_vec())
            .with_id(MessageId::from_source("7"))
    }

    /// What a client makes of one event, after the standard's section 9.2.6.
    fn parse(event: &[u8]) -> (String, String, String) {
        let text = std::str::from_utf8(event).unwrap();
        let body = text.strip_suffix("\n\n").expect("the event ends with an empty line");
        assert!(!body.contains("\n\n") && !body.contains('\r'), "{text:?}");
        let (mut id, mut name, mut data) = (String::new(), String::new(), Vec::new());
        for line in body.split('\n') {
            let (field, value) = line.split_once(':').unwrap();
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = value.to_owned(),
                "event" => name = value.to_owned(),
                "data" => data.push(value),
                other => panic!("unknown field {other:?}"),
            }
        }
        (id, name, data.join("\n"))
    }

    #[test]
    fn text_is_sent_as_it_is_line_by_line() {
        for (payload, expected) in [
            ("{\"t\":21.5}", "data: {\"t\":21.5}\n"),
            ("", "data: \n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n"),
            ("a\n\nb", "data: a\ndata: \ndata: b\n"),
            (" a", "data:  a\n"),
            ("é €", "data: é €\n"),
        ] {
            let event = render(&envelope("a/b", payload.as_bytes()));
            let expected = format!("id: 7\nevent: a/b\n{expected}\n");
            assert_eq!(event, expected.as_bytes(), "{payload:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_a_data_url() {
        for (payload, content_type, expected) in [
            (&b"\xff\x00"[..], None, "data:application/octet-stream;base64,/wA="),
            (b"\xff", Some("image/png"), "data:image/png;base64,/w=="),
            (b"\xff", Some("a/b\r\nid: 9"), "data:application/octet-stream;base64,/w=="),
            (b"a\0b", None, "data:application/octet-stream;base64,YQBi"),
            (b"data:x", Some("text/plain"), "data:text/plain;base64,ZGF0YTp4"),
        ] {
            let envelope = envelope("a", payload).with_properties(Properties {
                content_type: content_type.map(Text::from),
                ..Properties::NONE
            });
            assert_eq!(parse(&render(&envelope)).2, expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_escapes_its_field(
            id in any::<String>(),
            address in any::<String>(),
            payload in prop_oneof![
                any::<Vec<u8>>(),
                any::<String>().prop_map(String::into_bytes),
                "(data:)?[a-z\r\n\0: ]{0,20}".prop_map(String::into_bytes),
            ],
        ) {
            let envelope = envelope(&address, &payload).with_id(MessageId::from_source(id));
            let (id, name, data) = parse(&render(&envelope));
            prop_assert_eq!(id.as_str(), &*event_id(&envelope.id));
            prop_assert_eq!(name, one_line(&address));
            if let Some(encoded) = data.strip_prefix("data:application/octet-stream;base64,") {
                prop_assert_eq!(STANDARD.decode(encoded).unwrap(), payload);
            } else {
                let text = String::from_utf8(payload).unwrap();
                prop_assert_eq!(data, text.replace("\r\n", "\n").replace('\r', "\n"));
            }
        }
    }
}
