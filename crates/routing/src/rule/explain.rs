use transload_envelope::Envelope;

use super::{Asked, RuleSet};
use crate::{EvalError, Facts, Scope, Values};

/// What became of one rule for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The number of the rule.
    pub rule: usize,
    /// Whether it applies, or why not.
    pub verdict: Verdict,
}

/// Whether a rule applies to a message, or the first reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It applies.
    Applies {
        /// The number of the first pattern that matches.
        pattern: usize,
    },
    /// The message came in at an adapter that the rule does not name.
    OtherSource,
    /// None of its patterns matches the address.
    NoPatternMatches,
    /// Its condition does not hold.
    NotTrue {
        /// What the condition read.
        values: Values,
    },
    /// Its condition does not hold, since the message lacks what it reads.
    Absent {
        /// What the condition read.
        values: Values,
    },
    /// It cannot be told whether its condition holds: the message goes to the dead letters.
    Failed {
        /// Why.
        error: EvalError,
    },
    /// It is a fallback, and another rule applies.
    NotNeeded {
        /// The number of the first rule that applies.
        because_of: usize,
    },
    /// An earlier rule applies and says `stop`.
    Stopped {
        /// The number of that rule.
        by: usize,
    },
}

impl RuleSet {
    /// Says of every rule, in the order of the file, whether it applies to the message, or why
    /// not. For people: looks at every rule, unlike [`RuleSet::route`].
    pub fn explain(&self, adapter: usize, envelope: &Envelope) -> Vec<Considered> {
        let facts = Facts::new(envelope);
        let mut considered: Vec<_> = (0..self.rules.len())
            .map(|rule| Considered { rule, verdict: self.on_its_own(rule, adapter, &facts) })
            .collect();
        self.stop_later(&mut considered, false);
        let first = considered
            .iter()
            .find(|entry| (entry.applies() || self.fails(entry)) && !self.is_fallback(entry.rule))
            .map(|entry| entry.rule);
        match first {
            None => self.stop_later(&mut considered, true),
            Some(because_of) => {
                for entry in &mut considered {
                    if self.is_fallback(entry.rule) && (entry.applies() || self.fails(entry)) {
                        entry.verdict = Verdict::NotNeeded { because_of };
                    }
                }
            }
        }
        considered
    }

    /// The verdict on a rule as if it were the only one.
    fn on_its_own(&self, number: usize, adapter: usize, facts: &Facts<'_>) -> Verdict {
        let Some(rule) = self.rules.get(number) else { return Verdict::NoPatternMatches };
        if !rule.from.is_empty() && !rule.from.contains(&adapter) {
            return Verdict::OtherSource;
        }
        let address = &facts.envelope().address;
        let matching = rule.patterns.iter().position(|pattern| pattern.matches(address).is_some());
        let Some(pattern) = matching else { return Verdict::NoPatternMatches };
        let captures = rule.captures(pattern, address);
        let scope = Scope::new(&captures, facts);
        let values = || {
            let when = rule.when.as_ref();
            when.map(|when| when.predicate.expression().values(&scope)).unwrap_or_default()
        };
        match rule.asked(&scope) {
            Asked::True => Verdict::Applies { pattern },
            Asked::False => Verdict::NotTrue { values: values() },
            Asked::Absent => Verdict::Absent { values: values() },
            Asked::Failed(error) => Verdict::Failed { error },
        }
    }

    /// Whether the message goes to the dead letters for this rule's condition.
    fn fails(&self, entry: &Considered) -> bool {
        let targets = self.rules.get(entry.rule).is_some_and(|rule| !rule.targets.is_empty());
        targets && matches!(entry.verdict, Verdict::Failed { .. })
    }

    /// Lets the first rule that applies and says `stop` stop the later ones, either among the
    /// fallbacks or among the others.
    fn stop_later(&self, considered: &mut [Considered], fallback: bool) {
        let mut stopped_by = None;
        for entry in considered {
            let Some(rule) = self.rules.get(entry.rule) else { continue };
            let failed = matches!(entry.verdict, Verdict::Failed { .. });
            if !(entry.applies() || failed) || rule.fallback != fallback {
                continue;
            }
            if let Some(by) = stopped_by {
                entry.verdict = Verdict::Stopped { by };
            } else if rule.stop && !failed {
                stopped_by = Some(entry.rule);
            }
        }
    }

    fn is_fallback(&self, number: usize) -> bool {
        self.rules.get(number).is_some_and(|rule| rule.fallback)
    }
}

impl Considered {
    /// Whether the rule applies.
    pub fn applies(&self) -> bool {
        matches!(self.verdict, Verdict::Applies { .. })
    }
}
