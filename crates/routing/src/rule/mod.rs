//! Rules, and what they make of one message.

mod explain;
mod plan;
#[cfg(test)]
mod tests;

use transload_envelope::{Arguments, Envelope, Text};

pub use self::{
    explain::{Considered, Verdict},
    plan::{FailedTarget, Plan, PlannedTarget},
};
use crate::{Captures, Index, Pattern, RenderError, Scope, Template};

/// One route of the rules file.
#[derive(Clone, Debug)]
pub struct Rule {
    /// For people.
    pub name: Text,
    /// The numbers of the adapters whose messages the rule applies to; empty for all.
    pub from: Vec<usize>,
    /// The addresses that the rule applies to. Where several patterns match, the first of them
    /// gives the captures, and the rule still applies once.
    pub patterns: Vec<Pattern>,
    /// The rule applies only if no rule applies that is not a fallback.
    pub fallback: bool,
    /// When the rule applies, no later rule does.
    pub stop: bool,
    /// Where the message goes; without any, the message is dropped on purpose.
    pub targets: Vec<TargetRule>,
}

/// One target of a rule.
#[derive(Clone, Debug)]
pub struct TargetRule {
    /// The number of the destination.
    pub destination: usize,
    /// Keys of the target whose text the message fills in.
    pub templates: Vec<(Text, Template)>,
}

/// The rules of a gateway, indexed.
///
/// All rules that match apply, in the order of the file, except that
/// - a rule with `stop` keeps later rules from applying;
/// - fallback rules apply only if no other rule did, and then by the same two sentences.
///
/// A rule applies also when its targets cannot be rendered: that failure is in the [`Plan`].
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Entries of the rules that apply to all adapters.
    any: Index<Candidate>,
    /// Entries of the other rules, by adapter number, which ascends.
    by_adapter: Vec<(usize, Index<Candidate>)>,
}

/// A rule's number and the number of its pattern that matched. The order is that of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Candidate {
    rule: usize,
    pattern: usize,
}

impl RuleSet {
    /// Indexes rules. A rule's number is its place in the list.
    ///
    /// Templates that come to exactly what is written, whatever the message, are left out of the
    /// arguments: the target's settings have their text.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        for target in rules.iter_mut().flat_map(|rule| &mut rule.targets) {
            target.templates.retain(|(_, template)| !template.is_verbatim());
        }
        let mut adapters: Vec<usize> = rules.iter().flat_map(|rule| &rule.from).copied().collect();
        adapters.sort_unstable();
        adapters.dedup();
        let mut set = Self {
            any: Index::new(),
            by_adapter: adapters.into_iter().map(|adapter| (adapter, Index::new())).collect(),
            rules,
        };
        set.fill();
        set
    }

    /// The rules by their numbers.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Finds what is to be done with a message that came in at this adapter, and writes it into
    /// the plan, whose old content is lost.
    ///
    /// Takes time in the depth of the address and in what matches; see [`Index`].
    pub fn route(&self, adapter: usize, envelope: &Envelope, plan: &mut Plan) {
        plan.clear();
        let mut candidates = std::mem::take(&mut plan.candidates);
        self.collect(adapter, &envelope.address, &mut candidates);
        for fallback in [false, true] {
            if plan.is_unrouted() {
                self.apply(fallback, &candidates, envelope, plan);
            }
        }
        plan.candidates = candidates;
    }

    fn fill(&mut self) {
        for (number, rule) in self.rules.iter().enumerate() {
            for (place, pattern) in rule.patterns.iter().enumerate() {
                let candidate = Candidate { rule: number, pattern: place };
                if rule.from.is_empty() {
                    self.any.insert(pattern, candidate, ());
                }
                for adapter in &rule.from {
                    if let Ok(at) = self.by_adapter.binary_search_by_key(adapter, |entry| entry.0)
                        && let Some((_, index)) = self.by_adapter.get_mut(at)
                    {
                        index.insert(pattern, candidate, ());
                    }
                }
            }
        }
    }

    /// The candidates for an address: each rule once, with its first pattern, in order.
    fn collect(&self, adapter: usize, address: &str, into: &mut Vec<Candidate>) {
        into.clear();
        let own = self.by_adapter.binary_search_by_key(&adapter, |entry| entry.0).ok();
        let own = own.and_then(|at| self.by_adapter.get(at)).map(|(_, index)| index);
        for index in own.into_iter().chain([&self.any]) {
            index.matches(address, |candidate, ()| into.push(*candidate));
        }
        into.sort_unstable();
        into.dedup_by_key(|candidate| candidate.rule);
    }

    /// Applies the candidates that are, or are not, fallbacks.
    fn apply(
        &self,
        fallback: bool,
        candidates: &[Candidate],
        envelope: &Envelope,
        plan: &mut Plan,
    ) {
        for candidate in candidates {
            let Some(rule) = self.rules.get(candidate.rule) else { continue };
            if rule.fallback != fallback {
                continue;
            }
            let captures = rule.captures(candidate.pattern, &envelope.address);
            let scope = Scope { captures: &captures, envelope };
            // The predicate of the rule (`when`) is asked here: a rule whose predicate says no
            // has not applied. Its transforms come next, on a copy of the message that the scope
            // and the planned targets then have in place of the original.
            plan.rules.push(candidate.rule);
            for target in &rule.targets {
                plan.add(candidate.rule, target, &scope);
            }
            if rule.stop {
                return;
            }
        }
    }
}

impl Rule {
    /// What a pattern of the rule captures from an address that it matches.
    fn captures<'a>(&'a self, pattern: usize, address: &'a str) -> Captures<'a, 'a> {
        self.patterns
            .get(pattern)
            .filter(|pattern| !pattern.captures().is_empty())
            .and_then(|pattern| pattern.matches(address))
            .unwrap_or_default()
    }
}

impl TargetRule {
    fn arguments(&self, scope: &Scope<'_>, buffer: &mut String) -> Result<Arguments, Unrendered> {
        let mut arguments = Arguments::default();
        for (key, template) in &self.templates {
            match template.render_text(scope, buffer) {
                Ok(text) => arguments.push(key.clone(), text),
                Err(error) => return Err(Unrendered { key: key.clone(), error }),
            }
        }
        Ok(arguments)
    }
}

/// The key of a target whose template could not be filled in.
struct Unrendered {
    key: Text,
    error: RenderError,
}
