//! Events in binary mode (`CloudEvents` 1.0.2, «MQTT Protocol Binding», section 3.1): attributes are user
//! properties with their bare names, so these can be names that mean something else too.
//!
//! | user property of an event | envelope |
//! |---|---|
//! | `specversion`, and all others that can be attributes | header `ce-NAME` |
//! | `priority` | an attribute like others; the priority of the message is `transload-priority` here |
//! | `traceparent`, `tracestate` | the trace of the message, and the attribute of the same name; what is written is the former, where a message has both |
//!
//! The source and the id of the event are the id of a message that has no other.

use transload_envelope::{Envelope, Header, Headers, Text, cloudevents};

/// What a message of any kind and the extension «Distributed Tracing» have in common.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Whether a message with these user properties is an event.
pub(super) fn is_event(user: &[(Text, Text)]) -> bool {
    user.iter().any(|(name, _)| &**name == "specversion")
}

/// The user property for the priority of a message.
pub(super) fn priority(is_event: bool) -> &'static str {
    if is_event { "transload-priority" } else { "priority" }
}

/// Gives the attributes of an event their canonical names.
pub(super) fn take(envelope: &mut Envelope, has_id: bool) {
    let mut headers = Headers::default();
    for Header { name, value } in &envelope.headers {
        let is_attribute = cloudevents::is_attribute_name(name);
        if !is_attribute || TRACE.contains(&&**name) {
            headers.push(name.clone(), value.clone());
        }
        if is_attribute {
            headers.push(cloudevents::header(name), value.clone());
        }
    }
    envelope.headers = headers;
    if let Some(id) = cloudevents::message_id(&envelope.headers).filter(|_| !has_id) {
        envelope.id = id;
    }
}

/// Under which name a header of an event is written; `None` for an attribute that gives way to the
/// trace of the message.
pub(super) fn written(header: &Header, all: &Headers) -> Option<Text> {
    let Some(attribute) = cloudevents::attribute(&header.name) else {
        return Some(header.name.clone());
    };
    let gives_way = TRACE.contains(&attribute) && all.get_ignoring_case(attribute).is_some();
    (!gives_way).then(|| attribute.into())
}
