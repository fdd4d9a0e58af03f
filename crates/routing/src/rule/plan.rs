use transload_envelope::{Arguments, Text};

use super::{Candidate, TargetRule, Unrendered};
use crate::{RenderError, Scope};

/// What is to be done with one message. Kept from message to message, it allocates only when a
/// message has more targets than any before it.
#[derive(Debug, Default)]
pub struct Plan {
    pub(super) rules: Vec<usize>,
    targets: Vec<PlannedTarget>,
    failed: Vec<FailedTarget>,
    pub(super) candidates: Vec<Candidate>,
    buffer: String,
}

/// A destination that the message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedTarget {
    /// The number of the rule.
    pub rule: usize,
    /// The number of the destination.
    pub destination: usize,
    /// What the message has filled into the target's templates.
    pub arguments: Arguments,
}

/// A destination that the message should go to and cannot, since a template cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedTarget {
    /// The number of the rule.
    pub rule: usize,
    /// The number of the destination.
    pub destination: usize,
    /// The target's key whose template it is.
    pub key: Text,
    /// Why.
    pub error: RenderError,
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no rule applied at all. A rule without targets, or whose targets all failed, has
    /// applied.
    pub fn is_unrouted(&self) -> bool {
        self.rules.is_empty()
    }

    /// The numbers of the rules that applied, ascending.
    pub fn rules(&self) -> &[usize] {
        &self.rules
    }

    /// Where the message goes, in the order of the file.
    pub fn targets(&self) -> &[PlannedTarget] {
        &self.targets
    }

    /// Takes out where the message goes.
    pub fn drain_targets(&mut self) -> std::vec::Drain<'_, PlannedTarget> {
        self.targets.drain(..)
    }

    /// Where the message should go and cannot, in the order of the file.
    pub fn failed(&self) -> &[FailedTarget] {
        &self.failed
    }

    /// Takes out where the message should go and cannot.
    pub fn drain_failed(&mut self) -> std::vec::Drain<'_, FailedTarget> {
        self.failed.drain(..)
    }

    /// Empties the plan and keeps its memory.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.targets.clear();
        self.failed.clear();
    }

    pub(super) fn add(&mut self, rule: usize, target: &TargetRule, scope: &Scope<'_>) {
        let destination = target.destination;
        match target.arguments(scope, &mut self.buffer) {
            Ok(arguments) => {
                self.targets.push(PlannedTarget { rule, destination, arguments });
            }
            Err(Unrendered { key, error }) => {
                self.failed.push(FailedTarget { rule, destination, key, error });
            }
        }
    }
}
