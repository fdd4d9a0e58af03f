//! What a rule makes of a message before it goes to the targets.
//!
//! Invariants:
//! - The original is never changed: steps work on a copy, which shares with the original whatever
//!   no step has touched. A payload that no step looks into is not parsed.
//! - A payload is parsed once for all steps and written once behind the last; what no step touches
//!   in it stays byte for byte as it was.
//! - A shape yields all of its messages or none, with the reason. How many there are, and how far a
//!   payload may inflate, has a bound.

mod codec;
mod computed;
mod draft;
mod event;
mod field;
mod node;
mod schema;
mod split;
mod step;
#[cfg(test)]
mod tests;

use transload_envelope::{Envelope, Text};

use self::draft::Draft;
pub use self::{
    codec::{Codec, INFLATED_BYTES_MAX},
    computed::Computed,
    event::{Form, Unwrap, Wrap},
    field::{Field, Path},
    schema::{Schema, SchemaError},
    split::{MESSAGES_MAX, Split},
    step::{Rename, Step},
};
use crate::Scope;

/// The steps of a rule or of a target, in order. Without any, the message is passed on as it is.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    steps: Vec<Step>,
}

/// Why a message could not be shaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{step}` failed: {reason}")]
pub struct ShapeError {
    /// The step in the words of the file.
    pub step: Text,
    /// Why, in one sentence without a full stop.
    pub reason: Text,
}

impl Shape {
    /// A shape of these steps.
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps }
    }

    /// Whether it leaves every message as it is.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The messages that come of this one, in order. There can be none, where an empty array is
    /// split.
    pub fn apply(&self, scope: &Scope<'_>) -> Result<Vec<Envelope>, ShapeError> {
        let mut drafts = vec![Draft::new(scope.envelope())];
        for step in &self.steps {
            let mut next = Vec::with_capacity(drafts.len());
            for draft in drafts {
                let made = step.apply(scope, draft);
                next.extend(made.map_err(|reason| failure(step, reason))?);
                if next.len() > MESSAGES_MAX {
                    let reason = format!("more than {MESSAGES_MAX} messages would come of one");
                    return Err(failure(step, reason));
                }
            }
            drafts = next;
        }
        Ok(drafts.into_iter().map(Draft::finish).collect())
    }
}

fn failure(step: &Step, reason: String) -> ShapeError {
    ShapeError { step: step.name(), reason: reason.into() }
}
