//! Trace context (W3C Recommendation «Trace Context», <https://www.w3.org/TR/trace-context/>).
//!
//! Invariants:
//! - A `traceparent` that came in is never forwarded unchanged: what goes out names a span of the
//!   gateway's own, of the same trace.
//! - A malformed one is dropped with its `tracestate`, and a trace is begun anew in its place. A
//!   message without one stays without, unless a trace is begun for the collector.

use std::fmt;

use transload_envelope::{Headers, MessageId, Text, Value};

use crate::telemetry::Telemetry;

const TRACEPARENT: Text = Text::from_static("traceparent");
const TRACESTATE: Text = Text::from_static("tracestate");
/// What must be passed on of a `tracestate` (section 3.3.1.5), in bytes; a longer one is dropped.
const TRACESTATE_BYTES_MAX: usize = 512;
/// How many members a `tracestate` may have (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// The only flag that is defined (section 3.2.2.5).
const SAMPLED: u8 = 1;

/// A span of the gateway's own, and its place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) id: String,
    pub(crate) span_id: String,
    /// The span that it is a part of; absent when the trace was begun anew.
    pub(crate) parent_id: Option<String>,
    pub(crate) sampled: bool,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled) * SAMPLED;
        write!(f, "00-{}-{}-{flags:02x}", self.id, self.span_id)
    }
}

impl Trace {
    /// A trace that begins here, with a decision of our own whether it is sampled.
    pub(crate) fn begin(telemetry: &Telemetry) -> Self {
        let id = random_hex();
        let random = || id.get(16..).and_then(|low| u64::from_str_radix(low, 16).ok());
        let sampled = telemetry.samples(|| random().unwrap_or(u64::MAX));
        Self { id, span_id: span_id(), parent_id: None, sampled }
    }

    /// A part of this span.
    pub(crate) fn child(&self) -> Self {
        let parent_id = Some(self.span_id.clone());
        Self { id: self.id.clone(), span_id: span_id(), parent_id, sampled: self.sampled }
    }

    /// Makes this the span that a message comes from.
    pub(crate) fn write(&self, headers: &mut Headers) {
        headers.set(TRACEPARENT, self.to_string());
    }
}

/// Puts the gateway's own span into the headers, if the message belongs to a trace. A message
/// without one begins a trace only where that is then sampled.
pub(crate) fn step(headers: &mut Headers, telemetry: &Telemetry) -> Option<Trace> {
    let is = |known: &Text, name: &str| name.eq_ignore_ascii_case(known);
    let named = |known: &Text| -> Vec<Value> {
        let headers = headers.iter().filter(|header| is(known, &header.name));
        headers.map(|header| header.value.clone()).collect()
    };
    let (parents, states) = (named(&TRACEPARENT), named(&TRACESTATE));
    if !(parents.is_empty() && states.is_empty()) {
        let names: Vec<_> = headers.iter().map(|header| header.name.clone()).collect();
        for name in names.iter().filter(|name| is(&TRACEPARENT, name) || is(&TRACESTATE, name)) {
            headers.remove(name);
        }
    }
    // A state without a parent says nothing (section 3.3.1).
    let Some(parent) = parents.first() else {
        let begun = telemetry.is_on().then(|| Trace::begin(telemetry));
        let begun = begun.filter(|trace| trace.sampled)?;
        headers.push(TRACEPARENT, begun.to_string());
        return Some(begun);
    };
    let read = if parents.len() == 1 { parent.as_text().and_then(|text| read(text)) } else { None };
    let (trace, state) = match read {
        Some(trace) => (trace, joined(&states)),
        None => (Trace::begin(telemetry), None),
    };
    headers.push(TRACEPARENT, trace.to_string());
    if let Some(state) = state {
        headers.push(TRACESTATE, state);
    }
    Some(trace)
}

/// The same for an answer, which begins no trace of its own.
pub(crate) fn step_on(headers: &mut Headers) -> Option<Trace> {
    step(headers, &Telemetry::default())
}

/// Whether a message that we have stepped through belongs to a trace that is sampled.
pub(crate) fn is_sampled(headers: &Headers) -> bool {
    let text = headers.get(&TRACEPARENT).and_then(Value::as_text);
    text.and_then(|text| parse(text)).is_some_and(|(_, _, sampled)| sampled)
}

/// A further span behind the one that the message names, if its trace is sampled.
pub(crate) fn sampled(headers: &Headers) -> Option<Trace> {
    read(headers.get(&TRACEPARENT)?.as_text()?).filter(|trace| trace.sampled)
}

fn read(text: &str) -> Option<Trace> {
    let (id, parent_id, sampled) = parse(text)?;
    let parent_id = Some(parent_id.to_owned());
    Some(Trace { id: id.to_owned(), span_id: span_id(), parent_id, sampled })
}

/// Reads a `traceparent` (section 3.2.2): the trace, the span, and whether it is sampled; of a
/// later version as much as is known (section 3.2.4).
fn parse(text: &str) -> Option<(&str, &str, bool)> {
    let mut parts = text.trim().splitn(5, '-');
    let version = parts.next().filter(|version| is_hex(version, 2) && *version != "ff")?;
    let id = parts.next().filter(|id| is_hex(id, 32) && !is_zero(id))?;
    let parent_id = parts.next().filter(|id| is_hex(id, 16) && !is_zero(id))?;
    let flags = parts.next().filter(|flags| is_hex(flags, 2))?;
    if version == "00" && parts.next().is_some() {
        return None;
    }
    Some((id, parent_id, u8::from_str_radix(flags, 16).ok()? & SAMPLED == SAMPLED))
}

/// The last eight of sixteen bytes: random, and never all zero.
fn span_id() -> String {
    random_hex().split_off(16)
}

/// 32 hexadecimal digits of a new unique id.
fn random_hex() -> String {
    MessageId::generate().as_str().chars().filter(char::is_ascii_hexdigit).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(digit)
}

fn is_zero(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// Several headers are one list (section 3.3.1); `None` when they cannot be passed on.
fn joined(states: &[Value]) -> Option<String> {
    let texts: Option<Vec<&str>> =
        states.iter().map(|state| state.as_text().map(|text| text.trim())).collect();
    let state = texts?.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(",");
    let members = state.split(',').map(str::trim).filter(|member| !member.is_empty());
    let sound = |member: &str| {
        member.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty())
            && member.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    };
    let fits = state.len() <= TRACESTATE_BYTES_MAX && members.clone().count() <= MEMBERS_MAX;
    (!state.is_empty() && fits && members.clone().all(sound)).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn stepped(pairs: &[(&'static str, &str)]) -> (Option<Trace>, Headers) {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            headers.push(*name, *value);
        }
        let trace = step(&mut headers, &Telemetry::default());
        (trace, headers)
    }

    #[test]
    fn a_message_goes_on_with_a_span_of_our_own() {
        let state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
        let given = [("a", "1"), ("Traceparent", PARENT), ("tracestate", state)];
        let (trace, headers) = stepped(&given);
        let trace = trace.unwrap();
        assert_eq!((&*trace.id, trace.sampled), (TRACE_ID, true));
        assert_eq!(trace.parent_id.as_deref(), Some("00f067aa0ba902b7"));
        let sent = headers.get("traceparent").unwrap().as_text().unwrap();
        assert_eq!(**sent, *trace.to_string());
        assert!(sent.starts_with(&format!("00-{TRACE_ID}-")) && sent.ends_with("-01"));
        assert_ne!(**sent, *PARENT);
        assert_eq!(read(sent).unwrap().id, TRACE_ID, "what goes out is well formed");
        assert_eq!(headers.get("tracestate"), Some(&state.into()));
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn malformed_parents_begin_anew() {
        for parent in [
            "",
            "x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
        ] {
            let (trace, headers) = stepped(&[("traceparent", parent), ("tracestate", "a=1")]);
            let trace = trace.unwrap();
            assert_eq!(trace.parent_id, None, "{parent}");
            assert!(is_hex(&trace.id, 32) && is_hex(&trace.span_id, 16), "{trace}");
            assert_eq!(headers.get("tracestate"), None);
            assert_ne!(headers.get("traceparent"), Some(&parent.into()));
        }
        let twice = stepped(&[("traceparent", PARENT), ("traceparent", PARENT)]);
        assert_eq!(twice.0.unwrap().parent_id, None);
    }

    #[test]
    fn later_versions_and_states_are_read_as_far_as_they_are_known() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        let (trace, headers) =
            stepped(&[("traceparent", later), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert!(trace.unwrap().to_string().starts_with("00-"));
        assert_eq!(headers.get("tracestate"), Some(&"a=1,b=2".into()));
        for state in ["", "novalue", "a=", &"x=1,".repeat(40), &format!("a={}", "1".repeat(600))] {
            let (_, headers) = stepped(&[("traceparent", PARENT), ("tracestate", state)]);
            assert_eq!(headers.get("tracestate"), None, "{state}");
        }
        assert_eq!(stepped(&[("b", "1")]).0, None);
        let (trace, headers) = stepped(&[("tracestate", "a=1")]);
        assert!(trace.is_none() && headers.is_empty());
    }
}
