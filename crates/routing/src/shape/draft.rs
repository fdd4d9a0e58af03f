//! A message in the making.

use bytes::Bytes;
use transload_envelope::{Envelope, Text};

use super::node::Node;

/// A copy of a message that steps work on. Its payload is parsed once, however many steps look into
/// it, and written when a step wants bytes or the shape ends.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The message; its payload is out of date while `stale`.
    envelope: Envelope,
    json: Option<Node>,
    stale: bool,
}

impl Draft {
    pub(super) fn new(envelope: &Envelope) -> Self {
        Self { envelope: envelope.clone(), json: None, stale: false }
    }

    /// The payload as JSON, to be looked at.
    pub(super) fn json(&mut self) -> Result<&mut Node, String> {
        if self.json.is_none() {
            let parsed = Node::parse(&self.envelope.payload);
            self.json = Some(parsed.map_err(|reason| format!("the payload is no JSON: {reason}"))?);
        }
        self.json.as_mut().ok_or_else(|| "the payload is no JSON".to_owned())
    }

    /// The payload as JSON, if a step before has seen it as such.
    pub(super) fn opened_json(&self) -> Option<&Node> {
        self.json.as_ref()
    }

    /// The payload as JSON, to be changed.
    pub(super) fn json_mut(&mut self) -> Result<&mut Node, String> {
        self.json()?;
        self.stale = true;
        self.json()
    }

    /// Replaces the payload by JSON.
    pub(super) fn set_json(&mut self, json: Node, content_type: Text) {
        self.json = Some(json);
        self.stale = true;
        let known = self.envelope.properties().content_type.as_deref();
        if !known.is_some_and(is_json) {
            self.set_content_type(content_type);
        }
    }

    /// Replaces the payload by bytes.
    pub(super) fn set_bytes(&mut self, bytes: Bytes) {
        self.envelope.payload = bytes;
        self.json = None;
        self.stale = false;
    }

    /// The payload as it would be sent.
    pub(super) fn bytes(&mut self) -> Bytes {
        self.envelope().payload.clone()
    }

    /// The message, up to date.
    pub(super) fn envelope(&mut self) -> &Envelope {
        if self.stale {
            if let Some(json) = &self.json {
                self.envelope.payload = json.to_text().into_bytes();
            }
            self.stale = false;
        }
        &self.envelope
    }

    /// What is not the payload, to be changed.
    pub(super) fn head_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// What is not the payload.
    pub(super) fn head(&self) -> &Envelope {
        &self.envelope
    }

    pub(super) fn finish(mut self) -> Envelope {
        self.envelope();
        self.envelope
    }

    pub(super) fn set_content_type(&mut self, content_type: Text) {
        self.envelope.properties_mut().content_type = Some(content_type);
    }

    /// Adds a coding behind those that the payload has (RFC 9110, section 8.4).
    pub(super) fn add_coding(&mut self, coding: &str) {
        let codings = &mut self.envelope.properties_mut().content_encoding;
        *codings = Some(match codings {
            Some(others) if !others.is_empty() => format!("{others}, {coding}").into(),
            _ => coding.into(),
        });
    }

    /// Removes a coding that the payload does not have any more.
    pub(super) fn drop_coding(&mut self, coding: &str) {
        let Some(codings) = self.envelope.properties().content_encoding.clone() else { return };
        let (others, last) = match codings.rsplit_once(',') {
            Some((others, last)) => (Some(Text::from(others.trim_end())), last),
            None => (None, &*codings),
        };
        let last = last.trim();
        let legacy = last.get(..2).filter(|prefix| prefix.eq_ignore_ascii_case("x-"));
        let last = legacy.and_then(|_| last.get(2..)).unwrap_or(last);
        if last.eq_ignore_ascii_case(coding) {
            self.envelope.properties_mut().content_encoding = others;
        }
    }
}

/// Whether a media type says that its content is JSON (RFC 6839, section 3.1).
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let (kind, sub) = essence.split_once('/').unwrap_or((essence, ""));
    let sub = sub.to_ascii_lowercase();
    sub == "json" && (kind.eq_ignore_ascii_case("application") || kind.eq_ignore_ascii_case("text"))
        || sub.ends_with("+json")
}
