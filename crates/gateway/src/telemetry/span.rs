//! One piece of the gateway's work.

use std::time::SystemTime;

use transload_envelope::{Envelope, Text};

use crate::trace::Trace;

/// The role of a span, by the numbers of OTLP (`opentelemetry/proto/trace/v1/trace.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It stays within the gateway.
    Internal = 1,
    /// It waits for the answer of another.
    Client = 3,
    /// It hands a message to another, which goes on with it later.
    Producer = 4,
    /// It takes a message from another.
    Consumer = 5,
}

/// What is to be known of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Text(Text),
    Int(i64),
    Texts(Vec<Text>),
}

/// One piece of the gateway's work on one message.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: Trace,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) started_at: SystemTime,
    pub(crate) ended_at: SystemTime,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

impl Span {
    pub(crate) fn begin(trace: Trace, kind: Kind, name: String) -> Self {
        let now = SystemTime::now();
        let attributes = Vec::new();
        Self { trace, name, kind, started_at: now, ended_at: now, attributes, error: None }
    }

    /// Begins a part of this one.
    pub(crate) fn part(&self, kind: Kind, name: &str) -> Self {
        Self::begin(self.trace.child(), kind, name.to_owned())
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Attribute>) -> Self {
        self.set(name, value);
        self
    }

    /// Adds an attribute.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Attribute>) {
        self.attributes.push((name, value.into()));
    }

    /// Adds what identifies a message.
    pub(crate) fn of_message(self, envelope: &Envelope) -> Self {
        let size = i64::try_from(envelope.payload.len()).unwrap_or(i64::MAX);
        self.with("messaging.message.id", envelope.id.as_text().clone())
            .with("messaging.message.body.size", Attribute::Int(size))
    }

    /// Ends it now, with what came of it.
    pub(crate) fn end(mut self, outcome: &'static str, error: Option<String>) -> Self {
        // A clock that is set back must not make a span end before it begins.
        self.ended_at = SystemTime::now().max(self.started_at);
        self.set("transload.outcome", Text::from_static(outcome));
        self.error = error;
        self
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Text> for Attribute {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<Text>> for Attribute {
    fn from(texts: Vec<Text>) -> Self {
        Self::Texts(texts)
    }
}
