//! What expressions and templates can find out about one message.

mod fact;
mod tape;
#[cfg(test)]
mod tests;

use std::cell::{OnceCell, RefCell};

use transload_envelope::{Envelope, Timestamp};

pub(crate) use self::{
    fact::{Fact, Named, bytes_to_json},
    tape::{Node, Tape},
};
use crate::Captures;

/// One message, as all rules look at it together: its payload is read as JSON when the first of
/// them looks into it, once, and not at all when none does.
///
/// A message that has been changed needs facts of its own.
#[derive(Debug)]
pub struct Facts<'a> {
    envelope: &'a Envelope,
    /// Absent when the payload is no JSON.
    tape: OnceCell<Option<Tape>>,
    spare: RefCell<Tape>,
    now: OnceCell<Timestamp>,
}

impl<'a> Facts<'a> {
    /// The facts of a message.
    pub fn new(envelope: &'a Envelope) -> Self {
        Self::reusing(envelope, Tape::default())
    }

    /// The facts of a message in the memory of an earlier one.
    pub(crate) fn reusing(envelope: &'a Envelope, tape: Tape) -> Self {
        Self { envelope, tape: OnceCell::new(), spare: RefCell::new(tape), now: OnceCell::new() }
    }

    /// Sets the present time, for a test or an explanation; else it is the system's clock when it
    /// is asked for first.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        Self { now: OnceCell::from(now), ..self }
    }

    /// The memory, for the next message.
    pub(crate) fn into_tape(self) -> Tape {
        self.tape.into_inner().flatten().unwrap_or_else(|| self.spare.into_inner())
    }

    /// The message.
    pub fn envelope(&self) -> &'a Envelope {
        self.envelope
    }

    /// The present time, the same for everything that looks at this message.
    pub fn now(&self) -> Timestamp {
        *self.now.get_or_init(Timestamp::now)
    }

    /// The payload as JSON, if it is that. Makes a copy.
    pub fn payload(&self) -> Option<serde_json::Value> {
        self.json().map(Fact::to_json)
    }

    /// The payload as JSON, if it is that.
    pub(crate) fn json(&self) -> Option<Fact<'_>> {
        let tape = self.tape()?;
        Some(Fact::of_node(tape, &self.envelope.payload, 0))
    }

    /// Whether the payload has been looked into.
    #[cfg(test)]
    pub(crate) fn is_read(&self) -> bool {
        self.tape.get().is_some()
    }

    fn tape(&self) -> Option<&Tape> {
        let read = || {
            let mut tape = self.spare.take();
            if tape.read(&self.envelope.payload) {
                return Some(tape);
            }
            self.spare.replace(tape);
            None
        };
        self.tape.get_or_init(read).as_ref()
    }
}

/// Where expressions and templates find their values: a message, and what the pattern of a rule
/// captured from its address.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What the pattern captured that matched.
    pub captures: &'a Captures<'a, 'a>,
    /// The message.
    pub facts: &'a Facts<'a>,
}

impl<'a> Scope<'a> {
    /// The scope of a rule.
    pub fn new(captures: &'a Captures<'a, 'a>, facts: &'a Facts<'a>) -> Self {
        Self { captures, facts }
    }

    /// The message.
    pub fn envelope(&self) -> &'a Envelope {
        self.facts.envelope()
    }
}
