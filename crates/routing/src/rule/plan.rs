use std::{fmt, sync::Arc};

use transload_envelope::{Arguments, Envelope, Text};

use super::{Candidate, Rule, TargetRule};
use crate::{EvalError, Facts, RenderError, Scope, Shape, facts::Tape};

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

/// A destination that a message goes to. A shape that splits a message makes several of these for
/// one destination.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlannedTarget {
    /// The number of the rule.
    pub rule: usize,
    /// The number of the destination.
    pub destination: usize,
    /// What the rule has made of the message; `None` for the message as it came in. Targets that
    /// get the same message share it, and stand one behind the other.
    pub envelope: Option<Arc<Envelope>>,
    /// What the message has filled into the target's templates.
    pub arguments: Arguments,
}

/// A destination that the message should go to and cannot, since it cannot be shaped, a template
/// cannot be filled in, or it cannot be told whether the condition of the rule holds. Nothing of the
/// message goes to this destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedTarget {
    /// The number of the rule.
    pub rule: usize,
    /// The number of the destination.
    pub destination: usize,
    /// Why, in one sentence without a full stop.
    pub reason: Text,
    condition: bool,
}

impl FailedTarget {
    /// Whether it is for the condition of the rule.
    pub fn is_condition(&self) -> bool {
        self.condition
    }

    fn is(&self, rule: usize, target: &TargetRule) -> bool {
        (self.rule, self.destination) == (rule, target.destination)
    }
}

impl fmt::Display for FailedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl PlannedTarget {
    fn is(&self, rule: usize, target: &TargetRule) -> bool {
        (self.rule, self.destination) == (rule, target.destination)
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
        let condition = when.predicate.as_str().into();
        let error = RenderError::Condition { condition, error: error.clone() };
        let reason = Text::from(format!("`when` cannot be told: {error}"));
        self.fail_all(number, rule, &reason, true);
    }

    fn fail_all(&mut self, number: usize, rule: &Rule, reason: &Text, condition: bool) {
        self.failed.extend(rule.targets.iter().map(|target| FailedTarget {
            rule: number,
            destination: target.destination,
            reason: reason.clone(),
            condition,
        }));
    }

    /// Plans the targets of a rule that applies.
    pub(super) fn add(&mut self, number: usize, rule: &Rule, scope: &Scope<'_>) {
        match shaped(&rule.shape, scope) {
            Err(reason) => self.fail_all(number, rule, &reason, false),
            Ok(None) => {
                for target in &rule.targets {
                    self.add_target(number, target, None, scope);
                }
            }
            Ok(Some(messages)) => {
                for message in &messages {
                    let facts = Facts::new(message).at(scope.facts.now());
                    let scope = Scope::new(scope.captures, &facts);
                    for target in &rule.targets {
                        self.add_target(number, target, Some(message), &scope);
                    }
                }
            }
        }
    }

    /// Plans one target for one message of those that the rule has made. Where one message cannot
    /// be made ready, the target gets none of them.
    fn add_target(
        &mut self,
        rule: usize,
        target: &TargetRule,
        message: Option<&Arc<Envelope>>,
        scope: &Scope<'_>,
    ) {
        if message.is_some() && self.failed.iter().any(|failed| failed.is(rule, target)) {
            return;
        }
        if let Err(reason) = self.try_target(rule, target, message, scope) {
            self.targets.retain(|planned| !planned.is(rule, target));
            let destination = target.destination;
            self.failed.push(FailedTarget { rule, destination, reason, condition: false });
        }
    }

    fn try_target(
        &mut self,
        rule: usize,
        target: &TargetRule,
        message: Option<&Arc<Envelope>>,
        scope: &Scope<'_>,
    ) -> Result<(), Text> {
        let destination = target.destination;
        let Some(own) = shaped(&target.shape, scope)? else {
            let arguments = target.arguments(scope, &mut self.buffer)?;
            let envelope = message.cloned();
            self.targets.push(PlannedTarget { rule, destination, envelope, arguments });
            return Ok(());
        };
        for message in own {
            let facts = Facts::new(&message).at(scope.facts.now());
            let scope = Scope::new(scope.captures, &facts);
            let arguments = target.arguments(&scope, &mut self.buffer)?;
            let envelope = Some(Arc::clone(&message));
            self.targets.push(PlannedTarget { rule, destination, envelope, arguments });
        }
        Ok(())
    }
}

/// What a shape makes of a message; `None` where there is nothing to do.
fn shaped(shape: &Shape, scope: &Scope<'_>) -> Result<Option<Vec<Arc<Envelope>>>, Text> {
    if shape.is_empty() {
        return Ok(None);
    }
    let messages = shape.apply(scope).map_err(|error| error.to_string())?;
    Ok(Some(messages.into_iter().map(Arc::new).collect()))
}
