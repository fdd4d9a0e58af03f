//! Rules of one pattern whose conditions ask one value for equality with different constants, as
//! in `payload.type == "x"`: one lookup finds those that can hold, however many there are.
//!
//! Invariants:
//! - A rule that is left out has a condition that does not hold. A rule that is found may still
//!   have one: its condition is asked as always.
//! - Where the message lacks the value, the first rule of the group is found, so that this is
//!   counted, once.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::{Candidate, Rule, WhenMissing};
use crate::{
    Captures, Facts, Level, Root, Scope,
    expression::{Constant, Operand},
    facts::Fact,
};

/// Rules with one pattern that ask one value for equality.
#[derive(Debug)]
pub(super) struct Group {
    operand: Operand,
    first: Candidate,
    texts: HashMap<Box<str>, Found, RandomState>,
    others: HashMap<Scalar, Found, RandomState>,
}

type Found = SmallVec<[Candidate; 2]>;

/// A value that is no text; numbers that are equal are one value, whatever their types are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scalar {
    Bool(bool),
    Number(u64),
}

/// What is entered in an index: a rule, or a group by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Entry {
    One(Candidate),
    Group(usize),
}

/// The rules that ask one value, by the pattern and the value.
type Askers<'a> =
    HashMap<(&'a [Level], &'a Operand), Vec<(Candidate, &'a [Constant])>, RandomState>;

/// Sorts the rules that one index is for into groups, and those that stay by themselves. Each
/// entry comes with a rule and a pattern under which it belongs.
pub(super) fn sort<'a>(
    rules: impl Iterator<Item = (usize, &'a Rule)>,
    groups: &mut Vec<Group>,
) -> Vec<(Candidate, Entry)> {
    let mut entries = Vec::new();
    let mut askers = Askers::default();
    for (number, rule) in rules {
        let asked = asked(rule);
        for (place, pattern) in rule.patterns.iter().enumerate() {
            let candidate = Candidate { rule: number, pattern: place };
            match asked {
                Some((operand, constants)) => askers
                    .entry((pattern.levels(), operand))
                    .or_default()
                    .push((candidate, constants)),
                None => entries.push((candidate, Entry::One(candidate))),
            }
        }
    }
    for ((_, operand), rules) in askers {
        match rules.as_slice() {
            [(one, _)] => entries.push((*one, Entry::One(*one))),
            [(first, _), ..] => {
                entries.push((*first, Entry::Group(groups.len())));
                groups.push(Group::new(operand, *first, &rules));
            }
            [] => {}
        }
    }
    entries
}

/// The value that decides over a rule, and the constants of which it must equal one.
fn asked(rule: &Rule) -> Option<(&Operand, &[Constant])> {
    let when = rule.when.as_ref().filter(|when| when.missing == WhenMissing::Skip)?;
    let (operand, constants) = when.predicate.key()?;
    // What is captured is known only with the pattern of each rule.
    let same = operand.root != Root::Captures;
    let known = constants.iter().all(|constant| {
        matches!(constant, Constant::Text(_)) || Scalar::of(constant.fact()).is_some()
    });
    (same && known).then_some((operand, constants))
}

impl Group {
    fn new(operand: &Operand, first: Candidate, rules: &[(Candidate, &[Constant])]) -> Self {
        let mut group = Self {
            operand: operand.clone(),
            first,
            texts: HashMap::default(),
            others: HashMap::default(),
        };
        for (candidate, constants) in rules {
            for constant in *constants {
                let found = match (constant, Scalar::of(constant.fact())) {
                    (Constant::Text(text), _) => group.texts.entry((**text).into()).or_default(),
                    (_, Some(scalar)) => group.others.entry(scalar).or_default(),
                    (_, None) => continue,
                };
                if found.last() != Some(candidate) {
                    found.push(*candidate);
                }
            }
        }
        group
    }

    /// Adds the rules whose condition can hold.
    pub(super) fn find(&self, facts: &Facts<'_>, into: &mut Vec<Candidate>) {
        let captures = Captures::default();
        let found = match self.operand.find(&Scope::new(&captures, facts)) {
            None => {
                into.push(self.first);
                return;
            }
            Some(Fact::Text(text)) => self.texts.get(text),
            Some(other) => Scalar::of(other).and_then(|scalar| self.others.get(&scalar)),
        };
        into.extend(found.into_iter().flatten());
    }
}

impl Scalar {
    /// `None` for what is no truth value and no number, and for numbers so large that not all
    /// integers can be told apart as decimals: there equality is no matter of one lookup.
    fn of(fact: Fact<'_>) -> Option<Self> {
        const EXACT_MAX: i64 = 1 << 53;
        #[expect(clippy::cast_precision_loss, reason = "the bound is exact")]
        let number = match fact {
            Fact::Bool(truth) => return Some(Self::Bool(truth)),
            Fact::Int(number) if number.unsigned_abs() < EXACT_MAX.unsigned_abs() => number as f64,
            Fact::Float(number) if number.abs() < EXACT_MAX as f64 => number,
            Fact::Null
            | Fact::Int(_)
            | Fact::UInt(_)
            | Fact::Float(_)
            | Fact::Text(_)
            | Fact::Bytes(_)
            | Fact::Json(..)
            | Fact::Header(_)
            | Fact::Named(_) => return None,
        };
        // Zero has two forms that are equal.
        Some(Self::Number(if number == 0.0 { 0 } else { number.to_bits() }))
    }
}
