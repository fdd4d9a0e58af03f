//! Several messages as one.
//!
//! Invariants:
//! - Payloads are joined byte for byte and in order; what cannot be joined is found before, by
//!   [`fits`], and is never changed to fit.
//! - The id of the whole follows from the ids of its members, so the same members make the same id.
//! - Events in the JSON format become a batch of events (`CloudEvents` 1.0.2, «JSON Batch Format»);
//!   members that are batches already give their events to it one by one.
//! - The whole is never an event in binary mode, since it has not the attributes of one.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::IgnoredAny;
use transload_envelope::{Envelope, MessageId, Outgoing, Properties, Text, cloudevents};

use super::BatchFormat;

const JSON: Text = Text::from_static("application/json");
/// The content type of one event in the JSON format.
const EVENT: &str = "application/cloudevents+json";
/// The content type of several events in the JSON format.
const EVENTS: Text = Text::from_static("application/cloudevents-batch+json");

/// How much of a member's id is in the id of the whole, in bytes.
const ID_BYTES_MAX: usize = 64;

/// Whether a message can be joined with others.
pub(super) fn fits(format: BatchFormat, message: &Envelope) -> Result<(), Text> {
    let payload = &*message.payload;
    let coding = message.properties().content_encoding.as_deref();
    if let Some(coding) = coding.filter(|coding| *coding != "identity") {
        return Err(format!("cannot be joined with others: it is coded as `{coding}`").into());
    }
    match format {
        BatchFormat::Json => {
            let checked = if is_of(message, &EVENTS) {
                serde_json::from_slice::<Vec<IgnoredAny>>(payload).map(|_| ())
            } else {
                serde_json::from_slice::<IgnoredAny>(payload).map(|_| ())
            };
            checked.map_err(|error| format!("cannot be put into a JSON array: {error}").into())
        }
        BatchFormat::Lines if line(payload).iter().any(|byte| matches!(byte, b'\r' | b'\n')) => {
            Err(Text::from_static("cannot be one line among others: it has several"))
        }
        BatchFormat::Lines => Ok(()),
    }
}

/// Joins messages; nothing where there are none.
pub(super) fn combine(format: BatchFormat, members: &[Outgoing]) -> Option<Outgoing> {
    let (first, last) = (members.first()?, members.last()?);
    let envelopes = || members.iter().map(|member| &member.envelope);
    let mut whole = first.envelope.clone().with_id(id(first, last, members.len()));
    let events = envelopes().all(|member| is_of(member, EVENT) || is_of(member, &EVENTS));
    let parts = envelopes().map(|member| match format {
        BatchFormat::Json if events && is_of(member, &EVENTS) => elements(&member.payload),
        BatchFormat::Json => member.payload.trim_ascii(),
        BatchFormat::Lines => line(&member.payload),
    });
    whole.payload = join(format, parts);
    whole.hops = envelopes().map(|envelope| envelope.hops).max().unwrap_or_default();
    let in_binary_mode = envelopes().any(|envelope| cloudevents::is_event(&envelope.headers));
    let common = first.envelope.headers.iter().filter(|header| {
        let of_event = in_binary_mode && cloudevents::attribute(&header.name).is_some();
        let has_it =
            |envelope: &Envelope| envelope.headers.get(&header.name) == Some(&header.value);
        !of_event && envelopes().all(has_it)
    });
    whole.headers = common.cloned().collect();
    let whole = whole.with_properties(properties(format, members, events));
    Some(Outgoing { envelope: whole, arguments: first.arguments.clone() })
}

fn id(first: &Outgoing, last: &Outgoing, count: usize) -> MessageId {
    let short = |member: &Outgoing| {
        let text = member.envelope.id.as_str();
        if text.len() <= ID_BYTES_MAX {
            return text.to_owned();
        }
        let end = text.floor_char_boundary(ID_BYTES_MAX);
        format!("{}~{:08x}", text.get(..end).unwrap_or_default(), crc32fast::hash(text.as_bytes()))
    };
    MessageId::from_source(format!("{}+{}+{count}", short(first), short(last)))
}

fn join<'a>(format: BatchFormat, parts: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let length: usize = parts.clone().map(|part| part.len() + 1).sum();
    let mut joined = BytesMut::with_capacity(length + 2);
    match format {
        BatchFormat::Json => {
            joined.put_u8(b'[');
            // A batch may have no event.
            for (place, part) in parts.filter(|part| !part.is_empty()).enumerate() {
                if place > 0 {
                    joined.put_u8(b',');
                }
                joined.put_slice(part);
            }
            joined.put_u8(b']');
        }
        BatchFormat::Lines => {
            for part in parts {
                joined.put_slice(part);
                joined.put_u8(b'\n');
            }
        }
    }
    joined.freeze()
}

/// Whether a message is of this content type, whatever its parameters.
fn is_of(message: &Envelope, content_type: &str) -> bool {
    let given = message.properties().content_type.as_deref().unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    given.eq_ignore_ascii_case(content_type)
}

/// What stands between the brackets of a JSON array.
fn elements(array: &[u8]) -> &[u8] {
    let array = array.trim_ascii();
    let inner = array.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    inner.unwrap_or(array).trim_ascii()
}

/// A payload without the end of its line.
fn line(payload: &[u8]) -> &[u8] {
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What is true of all members is true of the whole.
fn properties(format: BatchFormat, members: &[Outgoing], events: bool) -> Properties {
    let all = || members.iter().map(|member| member.envelope.properties());
    let Some(first) = all().next() else { return Properties::NONE };
    macro_rules! common {
        ($field:ident) => {
            first.$field.clone().filter(|value| all().all(|one| one.$field.as_ref() == Some(value)))
        };
    }
    let content_type = common!(content_type);
    let json = content_type.as_deref().is_none_or(|kind| kind.contains("json"));
    Properties {
        content_type: match format {
            BatchFormat::Json => Some(if events { EVENTS } else { JSON }),
            BatchFormat::Lines if json && content_type.is_some() => {
                Some(Text::from_static("application/x-ndjson"))
            }
            BatchFormat::Lines => content_type,
        },
        // What is coded was not let in.
        content_encoding: None,
        // Nobody can answer to one of many.
        correlation: None,
        reply_to: None,
        // As long as somebody wants one of them, the whole is wanted.
        expires_at: all()
            .map(|one| one.expires_at)
            .reduce(|one, other| Some(one?.max(other?)))
            .flatten(),
        priority: common!(priority),
        durable: all().any(|one| one.durable == Some(true)).then_some(true).or(first.durable),
        retain: false,
        kind: common!(kind),
        app_id: common!(app_id),
        user_id: common!(user_id),
        timestamp: common!(timestamp),
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{Arguments, Headers, Origin, Timestamp, Value};

    use super::*;

    fn message(id: &str, payload: &str) -> Outgoing {
        let envelope = Envelope::new(Origin::new("a", "fake", "x"), payload.to_owned());
        let envelope = envelope.with_id(MessageId::from_source(id.to_owned()));
        Outgoing { envelope, arguments: Arguments::default() }
    }

    fn joined(format: BatchFormat, payloads: &[&str]) -> String {
        let members: Vec<_> = payloads.iter().map(|payload| message("m", payload)).collect();
        let whole = combine(format, &members).unwrap();
        String::from_utf8(whole.envelope.payload.to_vec()).unwrap()
    }

    #[test]
    fn payloads_are_joined_as_they_are() {
        for (format, payloads, expected) in [
            (BatchFormat::Json, &["1", " {\"a\": 2.0}\n", "null"][..], "[1,{\"a\": 2.0},null]"),
            (BatchFormat::Json, &["\"x\""], "[\"x\"]"),
            (BatchFormat::Lines, &["a", "b\n", "c\r\n", ""], "a\nb\nc\n\n"),
        ] {
            assert_eq!(joined(format, payloads), expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_found() {
        for (format, payload, fitting) in [
            (BatchFormat::Json, "{\"a\": [1]}", true),
            (BatchFormat::Json, "", false),
            (BatchFormat::Json, "{\"a\": ", false),
            (BatchFormat::Json, "1, 2", false),
            (BatchFormat::Json, "\u{feff}1", false),
            (BatchFormat::Lines, "a b\n", true),
            (BatchFormat::Lines, "a\nb", false),
            (BatchFormat::Lines, "a\rb", false),
        ] {
            let message = message("m", payload).envelope;
            assert_eq!(fits(format, &message).is_ok(), fitting, "{payload:?}");
        }
        let mut coded = message("m", "1").envelope;
        coded.properties_mut().content_encoding = Some("gzip".into());
        assert!(fits(BatchFormat::Lines, &coded).is_err());
    }

    #[test]
    fn the_same_members_have_the_same_id_and_others_another() {
        let id = |ids: &[&str]| {
            let members: Vec<_> = ids.iter().map(|id| message(id, "1")).collect();
            combine(BatchFormat::Json, &members).unwrap().envelope.id
        };
        assert_eq!(id(&["a", "b", "c"]).as_str(), "a+c+3");
        assert_ne!(id(&["a", "c"]), id(&["a", "b", "c"]));
        let long = "é".repeat(100);
        let whole = id(&[&long, &long]);
        assert!(whole.as_str().len() < 200, "it fits the id of every protocol");
        assert_ne!(whole, id(&[&long, &"é".repeat(101)]));
    }

    fn of(content_type: &str, payload: &str) -> Outgoing {
        let mut message = message("m", payload);
        message.envelope.properties_mut().content_type = Some(content_type.into());
        message
    }

    #[test]
    fn events_become_a_batch_of_events() {
        let batch = "application/cloudevents-batch+json";
        for (members, payload, content_type) in [
            (
                vec![of(EVENT, "{\"id\":1}"), of(EVENT, " {\"id\":2}\n")],
                "[{\"id\":1},{\"id\":2}]",
                batch,
            ),
            (vec![of(EVENT, "{}")], "[{}]", batch),
            (
                vec![
                    of(batch, "[ {\"id\":1}, {\"id\":2} ]"),
                    of(batch, " [ ] "),
                    of("Application/CloudEvents+JSON; charset=utf-8", "{\"id\":3}"),
                ],
                "[{\"id\":1}, {\"id\":2},{\"id\":3}]",
                batch,
            ),
            (vec![of(batch, "[]")], "[]", batch),
            // What is no event stands beside events as it is.
            (vec![of(batch, "[1]"), of("application/json", "2")], "[[1],2]", "application/json"),
        ] {
            assert!(members.iter().all(|one| fits(BatchFormat::Json, &one.envelope).is_ok()));
            let whole = combine(BatchFormat::Json, &members).unwrap().envelope;
            assert_eq!(whole.payload, payload);
            assert_eq!(whole.properties().content_type.as_deref(), Some(content_type));
        }
        let unfit = of(batch, "{\"id\":1}").envelope;
        assert!(fits(BatchFormat::Json, &unfit).is_err(), "a batch is a list");
    }

    #[test]
    fn what_was_put_together_is_no_event_in_binary_mode() {
        let mut members = vec![message("a", "1"), message("b", "2")];
        for member in &mut members {
            member.envelope.headers.push("ce-specversion", "1.0");
            member.envelope.headers.push("ce-type", "reading");
            member.envelope.headers.push("site", "north");
        }
        let whole = combine(BatchFormat::Json, &members).unwrap().envelope;
        let names: Vec<_> = whole.headers.iter().map(|header| &*header.name).collect();
        assert_eq!(names, ["site"]);
    }

    #[test]
    fn only_what_all_have_is_kept() {
        let mut members = vec![message("a", "1"), message("b", "2")];
        for (number, member) in (0_i64..).zip(&mut members) {
            let envelope = &mut member.envelope;
            envelope.headers = Headers::default();
            envelope.headers.push("site", "north");
            envelope.headers.push("number", number);
            let properties = envelope.properties_mut();
            properties.kind = Some("reading".into());
            properties.app_id = Some(number.to_string().into());
            properties.expires_at = Some(Timestamp { unix_ms: 1000 + number });
        }
        let whole = combine(BatchFormat::Json, &members).unwrap().envelope;
        assert_eq!(whole.headers.get("site"), Some(&Value::from("north")));
        assert_eq!(whole.headers.get("number"), None);
        let properties = whole.properties();
        assert_eq!(properties.kind.as_deref(), Some("reading"));
        assert_eq!(properties.app_id, None);
        assert_eq!(properties.expires_at, Some(Timestamp { unix_ms: 1001 }));
    }
}
