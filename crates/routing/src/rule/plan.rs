use std::fmt;

use transload_envelope::{Arguments, Text};

use super::{Candidate, Rule, TargetRule, Unrendered};
use crate::{EvalError, RenderError, Scope, facts::Tape};

/// What is to be done with one message. Kept from message to message, it allocates only when a
/// message has more targets than any before it.
#[derive(Debug, Default)]
pub struct Plan {
    pub(super) rules: Vec<usize>,
    targets: Vec<PlannedTarget>,
    failed: Vec<FailedTarget>,
    pub(super) absent: Vec<usize>,
    pub(super) candidates: Vec<Candidate>,
    /// Memory for payloads that are looked into.
    pub(super) tape: Tape,
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

/// A destination that the message should go to and cannot, since a template cannot be filled in,
/// or since it cannot be told whether the condition of the rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedTarget {
    /// The number of the rule.
    pub rule: usize,
    /// The number of the destination.
    pub destination: usize,
    /// The target's key whose template it is; `when` for the condition of the rule.
    pub key: Text,
    /// Why.
    pub error: RenderError,
}

impl fmt::Display for FailedTarget {
    /// The reason, in one sentence without a full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            RenderError::Condition { .. } => {
                write!(f, "`{}` cannot be told: {}", self.key, self.error)
            }
            RenderError::Missing { .. }
            | RenderError::NotText { .. }
            | RenderError::Expression { .. }
            | RenderError::TooLong { .. } => {
                write!(f, "`{}` cannot be filled in: {}", self.key, self.error)
            }
        }
    }
}

impl FailedTarget {
    /// Whether it is for the condition of the rule.
    pub fn is_condition(&self) -> bool {
        matches!(self.error, RenderError::Condition { .. })
    }
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no rule applied at all, and no target failed. A rule without targets, or whose
    /// targets all failed, has applied.
    pub fn is_unrouted(&self) -> bool {
        self.rules.is_empty() && self.failed.is_empty()
    }

    /// The numbers of the rules that did not apply since the message lacks what their condition
    /// reads. Rules whose conditions ask one field for different values count as the first of them.
    pub fn absent(&self) -> &[usize] {
        &self.absent
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
        self.absent.clear();
    }

    /// All targets of a rule fail, since its condition cannot be told.
    pub(super) fn fail(&mut self, number: usize, rule: &Rule, error: &EvalError) {
        let Some(when) = &rule.when else { return };
        self.failed.extend(rule.targets.iter().map(|target| FailedTarget {
            rule: number,
            destination: target.destination,
            key: Text::from_static("when"),
            error: RenderError::Condition {
                condition: when.predicate.as_str().into(),
                error: error.clone(),
            },
        }));
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
