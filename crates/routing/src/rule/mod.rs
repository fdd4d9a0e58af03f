//! Rules, and what they make of one message.

mod explain;
mod gate;
mod groups;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use transload_envelope::{Arguments, Envelope, Text};

use self::groups::{Entry, Group};
pub use self::{
    explain::{Considered, Verdict},
    gate::{Gate, Open},
    plan::{FailedTarget, Plan, PlannedTarget},
};
use crate::{
    Captures, EvalError, Facts, Index, Pattern, Predicate, Scope, Shape, Template,
    expression::Doubt,
};

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
    /// What must be true besides, if anything.
    pub when: Option<When>,
    /// The rule applies only if no rule applies that is not a fallback.
    pub fallback: bool,
    /// When the rule applies, no later rule does.
    pub stop: bool,
    /// What is made of the message before it goes to any target.
    pub shape: Shape,
    /// Where the message goes; without any, the message is dropped on purpose.
    pub targets: Vec<TargetRule>,
}

/// The condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// What must be true.
    pub predicate: Predicate,
    /// What happens to a message that lacks what the condition reads.
    pub missing: WhenMissing,
}

/// What happens to a message that lacks what the condition of a rule reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenMissing {
    /// The rule does not apply; that is counted.
    #[default]
    Skip,
    /// The targets cannot have it: see [`Plan::failed`].
    Fail,
}

/// One target of a rule.
#[derive(Clone, Debug)]
pub struct TargetRule {
    /// The number of the destination.
    pub destination: usize,
    /// What is made of the message for this target only, behind the shape of the rule.
    pub shape: Shape,
    /// Keys of the target whose text the message fills in.
    pub templates: Vec<(Text, Template)>,
}

/// The rules of a gateway, indexed.
///
/// All rules that match apply, in the order of the file, except that
/// - a rule with `stop` keeps later rules from applying;
/// - fallback rules apply only if no other rule did, and then by the same two sentences.
///
/// A rule applies also when the message cannot be shaped or its targets cannot be rendered: that failure is in the [`Plan`]. A rule
/// whose condition cannot be calculated has not applied and stops nothing, and yet the message is
/// no longer one that nobody wants: all targets of the rule have failed.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Entries of the rules that apply to all adapters.
    any: Index<Entry>,
    /// Entries of the other rules, by adapter number, which ascends.
    by_adapter: Vec<(usize, Index<Entry>)>,
    groups: Vec<Group>,
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
        let mut groups = Vec::new();
        let numbered = || rules.iter().enumerate();
        let mut index =
            |own: &mut dyn Iterator<Item = (usize, &Rule)>| fill(&rules, own, &mut groups);
        let any = index(&mut numbered().filter(|(_, rule)| rule.from.is_empty()));
        let mut by_source: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, rule) in numbered() {
            for adapter in &rule.from {
                let own = by_source.entry(*adapter).or_default();
                // An adapter may be named twice.
                if own.last() != Some(&number) {
                    own.push(number);
                }
            }
        }
        let by_adapter = by_source.into_iter().map(|(adapter, own)| {
            let own = own.iter().filter_map(|number| Some((*number, rules.get(*number)?)));
            (adapter, index(&mut own.into_iter()))
        });
        let by_adapter = by_adapter.collect();
        Self { rules, any, by_adapter, groups }
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
        self.route_through(adapter, envelope, plan, &mut Open);
    }

    /// The same where a gate may keep the message from the targets of a rule. A rule whose gate is
    /// shut has applied all the same.
    pub fn route_through(
        &self,
        adapter: usize,
        envelope: &Envelope,
        plan: &mut Plan,
        gate: &mut dyn Gate,
    ) {
        plan.clear();
        let mut candidates = std::mem::take(&mut plan.candidates);
        let facts = Facts::reusing(envelope, std::mem::take(&mut plan.tape));
        self.collect(adapter, &facts, &mut candidates);
        for fallback in [false, true] {
            if plan.is_unrouted() {
                self.apply(fallback, &candidates, &facts, plan, gate);
            }
        }
        plan.tape = facts.into_tape();
        plan.candidates = candidates;
    }

    /// Plans what one rule makes of a message that it took before, whatever other rules say and
    /// without asking again whether it wants it. False when none of its patterns matches any more.
    pub fn plan_one(&self, number: usize, envelope: &Envelope, plan: &mut Plan) -> bool {
        plan.clear();
        let Some(rule) = self.rules.get(number) else { return false };
        let address = &envelope.address;
        let Some(pattern) = rule.patterns.iter().position(|one| one.matches(address).is_some())
        else {
            return false;
        };
        let captures = rule.captures(pattern, address);
        let facts = Facts::new(envelope);
        let scope = Scope::new(&captures, &facts);
        plan.rules.push(number);
        plan.add(number, rule, &scope);
        true
    }

    /// The candidates for an address: each rule once, with its first pattern, in order.
    fn collect(&self, adapter: usize, facts: &Facts<'_>, into: &mut Vec<Candidate>) {
        into.clear();
        let address = &facts.envelope().address;
        let own = self.by_adapter.binary_search_by_key(&adapter, |entry| entry.0).ok();
        let own = own.and_then(|at| self.by_adapter.get(at)).map(|(_, index)| index);
        for index in own.into_iter().chain([&self.any]) {
            index.matches(address, |entry, ()| match entry {
                Entry::One(candidate) => into.push(*candidate),
                Entry::Group(number) => {
                    if let Some(group) = self.groups.get(*number) {
                        group.find(facts, into);
                    }
                }
            });
        }
        into.sort_unstable();
        into.dedup_by_key(|candidate| candidate.rule);
    }

    /// Applies the candidates that are, or are not, fallbacks.
    fn apply(
        &self,
        fallback: bool,
        candidates: &[Candidate],
        facts: &Facts<'_>,
        plan: &mut Plan,
        gate: &mut dyn Gate,
    ) {
        for candidate in candidates {
            let Some(rule) = self.rules.get(candidate.rule) else { continue };
            if rule.fallback != fallback {
                continue;
            }
            let asked = rule.asks_for_captures() || gate.asks_for_captures(candidate.rule);
            let captures = if asked {
                rule.captures(candidate.pattern, &facts.envelope().address)
            } else {
                Captures::default()
            };
            let scope = Scope::new(&captures, facts);
            match rule.asked(&scope) {
                Asked::True => {}
                Asked::False => continue,
                Asked::Absent => {
                    plan.absent.push(candidate.rule);
                    continue;
                }
                Asked::Failed(error) => {
                    plan.fail(candidate.rule, rule, &error);
                    continue;
                }
            }
            plan.rules.push(candidate.rule);
            if gate.admits(candidate.rule, &scope) {
                plan.add(candidate.rule, rule, &scope);
            }
            if rule.stop {
                return;
            }
        }
    }
}

/// Enters rules in an index of their own.
fn fill<'a>(
    all: &[Rule],
    own: impl Iterator<Item = (usize, &'a Rule)>,
    groups: &mut Vec<Group>,
) -> Index<Entry> {
    let mut index = Index::new();
    for (candidate, entry) in groups::sort(own, groups) {
        let pattern = all.get(candidate.rule).and_then(|rule| rule.patterns.get(candidate.pattern));
        if let Some(pattern) = pattern {
            index.insert(pattern, entry, ());
        }
    }
    index
}

/// What the condition of a rule comes to.
enum Asked {
    True,
    False,
    /// The message lacks what the condition reads, so it does not hold.
    Absent,
    Failed(EvalError),
}

impl Rule {
    /// Asks the condition of the rule.
    fn asked(&self, scope: &Scope<'_>) -> Asked {
        let Some(when) = &self.when else { return Asked::True };
        match (when.predicate.holds(scope), when.missing) {
            (Ok(true), _) => Asked::True,
            (Ok(false), _) => Asked::False,
            (Err(Doubt::Absent), WhenMissing::Skip) => Asked::Absent,
            (Err(Doubt::Absent), WhenMissing::Fail) => match when.predicate.test(scope) {
                Err(error) => Asked::Failed(error),
                Ok(_) => Asked::False,
            },
            (Err(Doubt::Failed(error)), _) => Asked::Failed(error),
        }
    }

    /// What of the condition the message lacks, in words; empty when that is nothing.
    pub fn what_is_absent(&self, envelope: &Envelope) -> String {
        let address = &envelope.address;
        let matching = self.patterns.iter().position(|pattern| pattern.matches(address).is_some());
        let captures = matching.map(|pattern| self.captures(pattern, address)).unwrap_or_default();
        let facts = Facts::new(envelope);
        let result =
            self.when.as_ref().map(|when| when.predicate.test(&Scope::new(&captures, &facts)));
        match result {
            Some(Err(EvalError::Absent { what })) => what.to_string(),
            Some(Ok(_) | Err(EvalError::Failed { .. })) | None => String::new(),
        }
    }

    /// Whether anything of the rule may read what its patterns capture.
    fn asks_for_captures(&self) -> bool {
        let asks = |target: &TargetRule| !target.templates.is_empty() || !target.shape.is_empty();
        self.when.is_some() || !self.shape.is_empty() || self.targets.iter().any(asks)
    }

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
    fn arguments(&self, scope: &Scope<'_>, buffer: &mut String) -> Result<Arguments, Text> {
        let mut arguments = Arguments::default();
        for (key, template) in &self.templates {
            let text = template.render_text(scope, buffer);
            let text = text.map_err(|error| format!("`{key}` cannot be filled in: {error}"))?;
            arguments.push(key.clone(), text);
        }
        Ok(arguments)
    }
}
