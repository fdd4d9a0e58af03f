//! Why a message goes where it goes: which rules were considered, and what each target would get.
//!
//! Invariants:
//! - The rules are asked by the same function that the dispatcher asks them by, so that what is
//!   explained is what happens.
//! - Nothing is sent, stored or counted.

mod changes;
mod directory;
mod outputs;
mod view;

use std::sync::Arc;

use serde_json::{Value as Json, json};
use transload_envelope::Envelope;
use transload_routing::RuleSet;

pub(crate) use self::{
    changes::{laid_out, lines},
    directory::Directory,
    outputs::{Outcome, Output, Sending, outcome},
};
use crate::{config::Configuration, message::Message, routing::rules};

/// Explains messages by the rules of a configuration.
#[derive(Debug)]
pub struct Explainer {
    rules: RuleSet,
    directory: Arc<Directory>,
}

impl Explainer {
    /// Takes over what is to be known of a configuration.
    pub fn new(configuration: &Configuration) -> Self {
        let directory = Arc::new(Directory::new(configuration));
        Self { rules: rules(&configuration.routes), directory }
    }

    /// Explains a message, for each adapter where it may come in if the message does not say.
    /// `all` lists each rule, also those that have nothing to do with the message. The form is
    /// described in `docs/TESTING-RULES.md`.
    pub fn explain(&self, message: &Message, all: bool) -> Result<Json, String> {
        let sources = self.directory.sources(message.from.as_deref())?;
        let explained = sources.into_iter().filter_map(|number| {
            let adapter = self.directory.adapters.get(number)?;
            let envelope = message.envelope(&adapter.name, adapter.kind);
            Some(explain(&self.directory, &self.rules, number, &envelope, all))
        });
        Ok(json!({ "explanations": explained.collect::<Vec<_>>() }))
    }

    pub(crate) fn parts(&self) -> (&Directory, &RuleSet) {
        (&self.directory, &self.rules)
    }
}

/// Explains one message that came in at the adapter of this number.
pub(crate) fn explain(
    directory: &Directory,
    rules: &RuleSet,
    adapter: usize,
    envelope: &Envelope,
    all: bool,
) -> Json {
    view::explanation(directory, rules, adapter, envelope, all)
}
