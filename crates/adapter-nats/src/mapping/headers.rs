//! Properties and headers of a message as NATS headers, and back.
//!
//! | envelope | NATS header |
//! |---|---|
//! | id | `Nats-Msg-Id` |
//! | content type and encoding | `Content-Type`, `Content-Encoding` |
//! | correlation | `Correlation-Id` |
//! | reply to | the reply subject; `Reply-To`, in canonical form, with `JetStream` |
//! | expiry | `Transload-Expires-Ms`; also `Nats-TTL` where the target asks for it |
//! | retain, type, priority | `Transload-Retain`, `Transload-Type`, `Transload-Priority` |
//! | app id, user id, timestamp | `Transload-App-Id`, `Transload-User-Id`, `Transload-Timestamp-Ms` |
//! | hops | `Transload-Hops` |
//! | user headers | themselves, in order |
//!
//! Times are milliseconds since 1970-01-01T00:00:00Z. A property whose text does not fit a header
//! line is carried as `Transload-Property: <name>=<percent-encoded text>`. A user header is carried
//! as `Transload-Header: <name>=<value>`, both percent-encoded, when its name is not printable ASCII
//! without `:`, when its name is one of those above, starts with `Nats-` or is that of an attribute
//! of an event but for its case, or when its value does not fit a line. Attributes of an event (`ce-…`) are percent-encoded as the NATS binding of
//! `CloudEvents` 1.0.2 wants it; the event's source and id are the id of a message that has no other.
//! A value of somebody else's that is not UTF-8 is bytes.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use bytes::Bytes;
use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};
use transload_envelope::{
    Envelope, Header, Headers, MessageId, Properties, Text, Timestamp, Value, cloudevents,
};

use super::{AddressMapping, is_internal, value};
use crate::client::{HeaderBlock, HeaderLines, text_of};

const ID: &str = "Nats-Msg-Id";
const TTL: &str = "Nats-TTL";
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
const CONTENT_TYPE: &str = "Content-Type";
const CONTENT_ENCODING: &str = "Content-Encoding";
const CORRELATION: &str = "Correlation-Id";
const REPLY_TO: &str = "Reply-To";
const EXPIRES: &str = "Transload-Expires-Ms";
const RETAIN: &str = "Transload-Retain";
const TYPE: &str = "Transload-Type";
const PRIORITY: &str = "Transload-Priority";
const APP_ID: &str = "Transload-App-Id";
const USER_ID: &str = "Transload-User-Id";
const TIMESTAMP: &str = "Transload-Timestamp-Ms";
const HOPS: &str = "Transload-Hops";
const PROPERTY: &str = "Transload-Property";
const HEADER: &str = "Transload-Header";

/// What is encoded in an event's attribute, beside all that is not ASCII.
const ATTRIBUTE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Names whose meaning is fixed above.
const RESERVED: [&str; 4] = [CONTENT_TYPE, CONTENT_ENCODING, CORRELATION, REPLY_TO];
/// Prefixes of names whose meaning is fixed by the server or by this mapping.
const RESERVED_PREFIXES: [&str; 3] = ["nats-", "nmqtt-", "transload-"];

/// How a message is published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outbound<'a> {
    /// Whether the reply subject is taken by the stream's acknowledgement.
    pub(crate) jetstream: bool,
    /// Whether the server is to delete the message when it has expired.
    pub(crate) ttl: bool,
    /// The stream that must be the one to store the message.
    pub(crate) stream: Option<&'a str>,
    /// How addresses become subjects.
    pub(crate) mapping: AddressMapping,
}

/// Writes the headers of a message, and returns its reply subject.
pub(crate) fn outgoing(
    envelope: &Envelope,
    how: Outbound<'_>,
    now: Timestamp,
    into: &mut HeaderLines,
) -> Option<String> {
    let mut lines = Lines { into, number: String::new() };
    let properties = envelope.properties();
    lines.property(ID, envelope.id.as_str());
    for (name, text) in [
        (CONTENT_TYPE, &properties.content_type),
        (CONTENT_ENCODING, &properties.content_encoding),
        (TYPE, &properties.kind),
        (APP_ID, &properties.app_id),
        (USER_ID, &properties.user_id),
    ] {
        if let Some(text) = text {
            lines.property(name, text);
        }
    }
    if let Some(correlation) = &properties.correlation {
        lines.property_bytes(CORRELATION, correlation);
    }
    for (name, number) in [
        (EXPIRES, properties.expires_at.map(|time| time.unix_ms)),
        (TIMESTAMP, properties.timestamp.map(|time| time.unix_ms)),
        (PRIORITY, properties.priority.map(i64::from)),
        (HOPS, (envelope.hops > 0).then_some(i64::from(envelope.hops))),
    ] {
        if let Some(number) = number {
            lines.number(name, number);
        }
    }
    if properties.retain {
        lines.property(RETAIN, "true");
    }
    if let Some(stream) = how.stream {
        lines.property(EXPECTED_STREAM, stream);
    }
    if let Some(end) = properties.expires_at.filter(|_| how.ttl) {
        // Whole seconds, rounded up; the server refuses zero.
        let seconds = end.remaining(now).as_millis().div_ceil(1000).max(1);
        lines.number(TTL, seconds);
    }
    let reply = lines.reply_to(properties, how);
    for header in &envelope.headers {
        lines.header(header);
    }
    reply
}

/// The text of a header's value in a line of its own.
fn line_text(header: &Header) -> Cow<'_, str> {
    let text = match header.value.as_text() {
        Some(text) => Cow::Borrowed(&**text),
        None => Cow::Owned(value::text(&header.value)),
    };
    if may_be_attribute(&header.name)
        && cloudevents::attribute(&header.name.to_ascii_lowercase()).is_some()
    {
        return Cow::Owned(utf8_percent_encode(&text, ATTRIBUTE).to_string());
    }
    text
}

/// What most names are not, and can be told without a copy.
fn may_be_attribute(name: &str) -> bool {
    starts(name, cloudevents::PREFIX)
}

/// Whether a header has a line of its own that the peer reads back unchanged.
fn has_line(name: &str, text: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
        && !reserved(name)
        && !is_miswritten_attribute(name)
        && fits_line(text)
}

/// Whether the peer would take the header for an attribute of an event, and write its name in lower
/// case.
fn is_miswritten_attribute(name: &str) -> bool {
    if !may_be_attribute(name) {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    lower != name && cloudevents::attribute(&lower).is_some()
}

struct Lines<'a> {
    into: &'a mut HeaderLines,
    /// The text of a number, for which no memory is to be taken each time.
    number: String,
}

impl Lines<'_> {
    fn property(&mut self, name: &'static str, text: &str) {
        if fits_line(text) {
            self.into.push(name, text);
        } else {
            self.encoded(PROPERTY, name, text.as_bytes());
        }
    }

    fn property_bytes(&mut self, name: &'static str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.property(name, text),
            Err(_) => self.encoded(PROPERTY, name, bytes),
        }
    }

    fn number(&mut self, name: &'static str, number: impl std::fmt::Display) {
        self.number.clear();
        // Writing to memory does not fail.
        let _ = write!(self.number, "{number}");
        self.into.push(name, &self.number);
    }

    fn header(&mut self, header: &Header) {
        let text = line_text(header);
        if has_line(&header.name, &text) {
            self.into.push(&header.name, &text);
        } else {
            self.encoded(HEADER, &header.name, value::text(&header.value).as_bytes());
        }
    }

    /// The reply subject, or a header where a reply subject cannot say it.
    fn reply_to(&mut self, properties: &Properties, how: Outbound<'_>) -> Option<String> {
        let address = properties.reply_to.as_ref()?;
        let subject = how.mapping.subject(address).ok().filter(|_| !how.jetstream);
        if subject.is_none() {
            self.property(REPLY_TO, address);
        }
        subject
    }

    fn encoded(&mut self, carrier: &'static str, name: &str, bytes: &[u8]) {
        let name = percent_encode(name.as_bytes(), NON_ALPHANUMERIC);
        let text = format!("{name}={}", percent_encode(bytes, NON_ALPHANUMERIC));
        self.into.push(carrier, &text);
    }
}

/// Whether the text is the value of one line that the peer will read back unchanged.
pub(super) fn fits_line(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !ends.contains(&Some(b' '));
    plain || (text.trim() == text && !text.chars().any(char::is_control))
}

fn reserved(name: &str) -> bool {
    RESERVED.iter().any(|known| name.eq_ignore_ascii_case(known))
        || RESERVED_PREFIXES.iter().any(|prefix| starts(name, prefix))
}

fn starts(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// What the headers of a message that came in say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Incoming {
    /// The id that its maker gave to the message.
    pub(crate) id: Option<MessageId>,
    /// The properties.
    pub(crate) properties: Properties,
    /// The user headers.
    pub(crate) headers: Headers,
    /// How many routes of gateways the message has passed.
    pub(crate) hops: u8,
}

/// Reads the headers of a message that was published at `published`.
pub(crate) fn incoming(block: Option<HeaderBlock<'_>>, published: Timestamp) -> Incoming {
    let mut into = Incoming::default();
    for (name, value) in block.into_iter().flat_map(HeaderBlock::lines) {
        let name = text_of(name);
        match std::str::from_utf8(value) {
            Ok(text) => into.line(&name, text, published),
            Err(_) if name.eq_ignore_ascii_case(CORRELATION) => {
                into.property(CORRELATION, value, published);
            }
            Err(_) => into.headers.push(&*name, Value::Bytes(Bytes::copy_from_slice(value))),
        }
    }
    if into.id.is_none() && cloudevents::is_event(&into.headers) {
        into.id = cloudevents::message_id(&into.headers);
    }
    into
}

impl Incoming {
    fn line(&mut self, name: &str, value: &str, published: Timestamp) {
        match name {
            PROPERTY => match decoded(value) {
                Some((name, bytes)) if self.property(&name, &bytes, published) => {}
                _ => self.headers.push(PROPERTY, value),
            },
            HEADER => match decoded(value) {
                Some((name, bytes)) => self.headers.push(name, &*text_of(&bytes)),
                None => self.headers.push(HEADER, value),
            },
            name if starts(name, "nmqtt-") => {}
            name if self.property(name, value.as_bytes(), published) => {}
            name => self.header(name, value),
        }
    }

    /// Takes a header; attributes of an event are decoded, and their names are in lower case.
    fn header(&mut self, name: &str, value: &str) {
        if !may_be_attribute(name) {
            self.headers.push(name, value);
            return;
        }
        let lower = name.to_ascii_lowercase();
        let is_attribute = cloudevents::attribute(&lower).is_some();
        match percent_decode_str(value).decode_utf8() {
            Ok(text) if is_attribute => self.headers.push(lower, &*text),
            _ => self.headers.push(name, value),
        }
    }

    /// Takes a property by the name of its header; `false` when it is none, or not a valid one.
    fn property(&mut self, name: &str, bytes: &[u8], published: Timestamp) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is(CORRELATION) {
            self.properties.correlation = Some(Bytes::copy_from_slice(bytes));
            return true;
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let properties = &mut self.properties;
        let place = match () {
            () if is(CONTENT_TYPE) => &mut properties.content_type,
            () if is(CONTENT_ENCODING) => &mut properties.content_encoding,
            () if is(TYPE) => &mut properties.kind,
            () if is(APP_ID) => &mut properties.app_id,
            () if is(USER_ID) => &mut properties.user_id,
            () if is(REPLY_TO) => &mut properties.reply_to,
            () => return self.other_property(name, text, published),
        };
        *place = Some(Text::from(text));
        true
    }

    fn other_property(&mut self, name: &str, text: &str, published: Timestamp) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let time = || text.parse().ok().map(|unix_ms| Timestamp { unix_ms });
        if is(ID) && !text.is_empty() {
            self.id = Some(MessageId::from_source(text));
        } else if is(RETAIN) && text == "true" {
            self.properties.retain = true;
        } else if is(EXPIRES) {
            self.properties.expires_at = time();
        } else if is(TIMESTAMP) {
            self.properties.timestamp = time();
        } else if let (true, Ok(priority)) = (is(PRIORITY), text.parse()) {
            self.properties.priority = Some(priority);
        } else if let (true, Ok(hops)) = (is(HOPS), text.parse()) {
            self.hops = hops;
        } else if let (true, Some(ttl)) = (is(TTL), go_duration(text)) {
            // Our own header says it to the millisecond.
            self.properties.expires_at.get_or_insert(published.after(ttl));
        } else {
            return false;
        }
        true
    }
}

/// The reply subject of a core message as the canonical address of a reply.
pub(crate) fn reply_address(mapping: AddressMapping, reply: &str) -> Option<Text> {
    // What the server and its streams are to be told is not for anybody else.
    let control = is_internal(reply, None) && !reply.starts_with("_INBOX.");
    (!control).then(|| mapping.address(reply).into())
}

fn decoded(text: &str) -> Option<(Text, Vec<u8>)> {
    let (name, value) = text.split_once('=')?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    Some((Text::from(&*name), percent_decode_str(value).collect()))
}

/// A duration as `Nats-TTL` has it: whole seconds, or Go's form such as `1h30m`, of which hours,
/// minutes, seconds and milliseconds are understood.
fn go_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let factor = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let milliseconds = number.parse::<u64>().ok()?.checked_mul(factor)?;
        total = total.checked_add(Duration::from_millis(milliseconds))?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}
