//! The frequent shapes of conditions, without the library: paths and constants with comparisons,
//! `in`, `has`, the text functions, and `&&`, `||`, `!` of these.
//!
//! Invariants:
//! - A check says what the library says for the same tree and message; a test with random trees
//!   and payloads holds that. So `&&` and `||` forgive an error on one side when the other side
//!   decides, and numbers compare whatever their types are.
//! - Where neither side can be told, what is absent stands for false, as it does for a whole
//!   condition: absent `&&` failed is absent, absent `||` failed has failed. The language leaves
//!   that open. So a condition whose key is absent is never a failure, whatever its other side
//!   says, and the index need not ask it.
//! - Nothing is allocated, but for the text of a failure.

use std::cmp::Ordering;

use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use transload_envelope::Text;

use super::{Compiled, Fault, Tree, interpret, resolve::Variable};
use crate::{
    SyntaxError,
    expression::parse::place_of,
    facts::{Fact, Scope},
};

/// How large the compiled form of a regular expression may become, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A condition in native form.
#[derive(Debug)]
pub(super) enum Check {
    Truth(Term),
    Has(usize),
    Not(Box<Check>),
    And(Box<(Check, Check)>),
    Or(Box<(Check, Check)>),
    /// Equal, or not equal.
    Equals(bool, Term, Term),
    Compares(Comparison, Term, Term),
    In(Term, Box<[Constant]>),
    Matches(Term, Box<regex::Regex>),
    /// A function of two texts: the one it is called on, and its argument.
    Texts(TextFunction, Term, Term),
    /// A part of a condition that has no native form.
    Other(Box<Tree>),
}

/// A value in a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    Operand(usize),
    Constant(Constant),
}

/// A value that stands in the expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(Text),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFunction {
    StartsWith,
    EndsWith,
    Contains,
}

impl Constant {
    pub(crate) fn fact(&self) -> Fact<'_> {
        match self {
            Self::Null => Fact::Null,
            Self::Bool(truth) => Fact::Bool(*truth),
            Self::Int(number) => Fact::Int(*number),
            Self::UInt(number) => Fact::UInt(*number),
            Self::Float(number) => Fact::Float(*number),
            Self::Text(text) => Fact::Text(text),
        }
    }

    fn of(literal: &LiteralValue) -> Option<Self> {
        Some(match literal {
            LiteralValue::Boolean(truth) => Self::Bool(*truth.inner()),
            LiteralValue::Bytes(_) => return None,
            LiteralValue::Double(number) => Self::Float(*number.inner()),
            LiteralValue::Int(number) => Self::Int(*number.inner()),
            LiteralValue::Null => Self::Null,
            LiteralValue::String(text) => Self::Text(text.inner().into()),
            LiteralValue::UInt(number) => Self::UInt(*number.inner()),
        })
    }
}

impl Term {
    pub(super) fn of(tree: &Tree) -> Option<Self> {
        match &tree.expr {
            Expr::Literal(literal) => Constant::of(literal).map(Self::Constant),
            Expr::Ident(name) => match Variable::named(name)? {
                Variable::Value(number) => Some(Self::Operand(number)),
                Variable::Presence(_) => None,
            },
            _ => None,
        }
    }

    pub(super) fn find<'a>(
        &'a self,
        compiled: &Compiled,
        scope: &Scope<'a>,
    ) -> Result<Fact<'a>, Fault> {
        match self {
            Self::Constant(constant) => Ok(constant.fact()),
            Self::Operand(number) => {
                let operand = compiled.operands.get(*number);
                operand.and_then(|operand| operand.find(scope)).ok_or(Fault::Absent(*number))
            }
        }
    }
}

impl Check {
    /// The native form of a tree, if it has one. `text` is the expression, for places.
    pub(super) fn of(tree: &Tree, text: &str) -> Result<Option<Self>, SyntaxError> {
        let call = match &tree.expr {
            Expr::Call(call) => call,
            Expr::Ident(name) => {
                return Ok(Variable::named(name).map(|variable| match variable {
                    Variable::Value(number) => Self::Truth(Term::Operand(number)),
                    Variable::Presence(number) => Self::Has(number),
                }));
            }
            Expr::Literal(literal) => {
                return Ok(
                    Constant::of(literal).map(|constant| Self::Truth(Term::Constant(constant)))
                );
            }
            _ => return Ok(None),
        };
        if let Some(target) = &call.target {
            return Self::method(call, target, text);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [inner]) => {
                Ok(Some(Self::Not(Box::new(Self::part(inner, text)?))))
            }
            (operators::LOGICAL_AND, [left, right]) => {
                let pair = (Self::part(left, text)?, Self::part(right, text)?);
                Ok(Some(Self::And(Box::new(pair))))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                let pair = (Self::part(left, text)?, Self::part(right, text)?);
                Ok(Some(Self::Or(Box::new(pair))))
            }
            (operators::IN, [item, list]) => Ok(Self::membership(item, list)),
            (sign, [left, right]) => Ok(Self::comparison(sign, left, right)),
            _ => Ok(None),
        }
    }

    /// A side of `&&`, `||` or `!`.
    fn part(tree: &Tree, text: &str) -> Result<Self, SyntaxError> {
        Ok(Self::of(tree, text)?.unwrap_or_else(|| Self::Other(Box::new(tree.clone()))))
    }

    fn comparison(sign: &str, left: &Tree, right: &Tree) -> Option<Self> {
        let (left, right) = (Term::of(left)?, Term::of(right)?);
        // Two lists or two maps are compared by the library.
        let equality = matches!(sign, operators::EQUALS | operators::NOT_EQUALS);
        if equality && matches!((&left, &right), (Term::Operand(_), Term::Operand(_))) {
            return None;
        }
        let compares = |comparison, left, right| Some(Self::Compares(comparison, left, right));
        match sign {
            operators::EQUALS => Some(Self::Equals(true, left, right)),
            operators::NOT_EQUALS => Some(Self::Equals(false, left, right)),
            operators::LESS => compares(Comparison::Less, left, right),
            operators::LESS_EQUALS => compares(Comparison::LessOrEqual, left, right),
            operators::GREATER => compares(Comparison::Greater, left, right),
            operators::GREATER_EQUALS => compares(Comparison::GreaterOrEqual, left, right),
            _ => None,
        }
    }

    fn membership(item: &Tree, list: &Tree) -> Option<Self> {
        let Expr::List(list) = &list.expr else { return None };
        if !list.optional_indices.is_empty() {
            return None;
        }
        let constants = list.elements.iter().map(|element| match Term::of(element) {
            Some(Term::Constant(constant)) => Some(constant),
            Some(Term::Operand(_)) | None => None,
        });
        Some(Self::In(Term::of(item)?, constants.collect::<Option<_>>()?))
    }

    fn method(call: &CallExpr, target: &Tree, text: &str) -> Result<Option<Self>, SyntaxError> {
        let [argument] = call.args.as_slice() else { return Ok(None) };
        let function = match call.func_name.as_str() {
            "startsWith" => TextFunction::StartsWith,
            "endsWith" => TextFunction::EndsWith,
            "contains" => TextFunction::Contains,
            "matches" => return Self::regex(target, argument, text),
            _ => return Ok(None),
        };
        let terms = Term::of(target).zip(Term::of(argument));
        Ok(terms.map(|(target, argument)| Self::Texts(function, target, argument)))
    }

    fn regex(target: &Tree, argument: &Tree, text: &str) -> Result<Option<Self>, SyntaxError> {
        let Some(Term::Constant(Constant::Text(pattern))) = Term::of(argument) else {
            return Ok(None);
        };
        let built = regex::RegexBuilder::new(&pattern).size_limit(REGEX_BYTES_MAX).build();
        let regex = built.map_err(|error| {
            let first = error.to_string();
            let first = first.lines().last().unwrap_or("").trim_start_matches("error: ");
            let place = place_of(text, "matches", true, true);
            SyntaxError::new(place, format!("this is no regular expression: {first}"))
        })?;
        Ok(Term::of(target).map(|target| Self::Matches(target, Box::new(regex))))
    }

    /// Whether the condition holds.
    pub(super) fn test(&self, compiled: &Compiled, scope: &Scope<'_>) -> Result<bool, Fault> {
        let find = |term| Term::find(term, compiled, scope);
        match self {
            Self::Truth(term) => truth(find(term)?),
            Self::Has(number) => {
                let operand = compiled.operands.get(*number);
                Ok(operand.is_some_and(|operand| operand.find(scope).is_some()))
            }
            Self::Not(inner) => match inner.test(compiled, scope) {
                Err(Fault::NoTruth(name)) => Err(unfit("!", &[name])),
                result => result.map(|truth| !truth),
            },
            Self::And(pair) => decided(false, pair, compiled, scope),
            Self::Or(pair) => decided(true, pair, compiled, scope),
            Self::Equals(wanted, left, right) => Ok(equal(find(left)?, find(right)?) == *wanted),
            Self::Compares(comparison, left, right) => {
                let (left, right) = (find(left)?, find(right)?);
                let order = compare(left, right);
                let order =
                    order.ok_or_else(|| unfit(comparison.sign(), &[left.name(), right.name()]))?;
                Ok(comparison.holds(order))
            }
            Self::In(item, list) => {
                let item = find(item)?;
                Ok(list.iter().any(|constant| equal(item, constant.fact())))
            }
            Self::Matches(target, regex) => match find(target)? {
                Fact::Text(text) => Ok(regex.is_match(text)),
                other => Err(unfit("matches", &[other.name(), "a text"])),
            },
            Self::Texts(function, target, argument) => {
                let argument = find(argument)?;
                match (find(target)?, argument) {
                    (Fact::Text(text), Fact::Text(part)) => Ok(function.holds(text, part)),
                    (other, argument) => {
                        Err(unfit(function.name(), &[other.name(), argument.name()]))
                    }
                }
            }
            Self::Other(tree) => interpret::test(compiled, tree, scope),
        }
    }

    /// What must be equal to one of some constants for this to hold, if there is such a thing:
    /// then everything else is told from the value alone.
    pub(super) fn key(&self) -> Option<(usize, &[Constant])> {
        match self {
            Self::Equals(true, Term::Operand(number), Term::Constant(constant))
            | Self::Equals(true, Term::Constant(constant), Term::Operand(number)) => {
                Some((*number, std::slice::from_ref(constant)))
            }
            Self::In(Term::Operand(number), constants) => Some((*number, constants)),
            Self::And(pair) => pair.0.key().or_else(|| pair.1.key()),
            Self::Truth(_)
            | Self::Has(_)
            | Self::Not(_)
            | Self::Or(_)
            | Self::Equals(..)
            | Self::Compares(..)
            | Self::In(..)
            | Self::Matches(..)
            | Self::Texts(..)
            | Self::Other(_) => None,
        }
    }
}

/// `&&` and `||`: whichever side says `decides` decides, also when the other side cannot be told.
fn decided(
    decides: bool,
    pair: &(Check, Check),
    compiled: &Compiled,
    scope: &Scope<'_>,
) -> Result<bool, Fault> {
    let left = match pair.0.test(compiled, scope) {
        Ok(truth) if truth == decides => return Ok(decides),
        left => left,
    };
    let sign = if decides { "||" } else { "&&" };
    match (left, pair.1.test(compiled, scope)) {
        (_, Ok(right)) if right == decides => Ok(decides),
        (Err(Fault::NoTruth(left)), Err(Fault::NoTruth(right))) => Err(unfit(sign, &[left, right])),
        (Err(Fault::NoTruth(left)), Ok(_)) => Err(unfit(sign, &[left, "a truth value"])),
        (Ok(_), Err(Fault::NoTruth(right))) => Err(unfit(sign, &["a truth value", right])),
        (Err(left), Ok(_)) => Err(left),
        (Ok(_), Err(right)) => Err(right),
        (Err(left), Err(right)) => Err(if left.is_absent() == decides { right } else { left }),
        (Ok(_), Ok(right)) => Ok(right),
    }
}

fn truth(fact: Fact<'_>) -> Result<bool, Fault> {
    match fact {
        Fact::Bool(truth) => Ok(truth),
        other => Err(Fault::NoTruth(other.name())),
    }
}

/// Whether two values are equal, one of which is no list and no map.
pub(super) fn equal(left: Fact<'_>, right: Fact<'_>) -> bool {
    match (left, right) {
        (Fact::Null, Fact::Null) => true,
        (left, right) => compare(left, right) == Some(Ordering::Equal),
    }
}

/// The order of two values, where they have one.
fn compare(left: Fact<'_>, right: Fact<'_>) -> Option<Ordering> {
    Some(match (left, right) {
        (Fact::Bool(left), Fact::Bool(right)) => left.cmp(&right),
        (Fact::Text(left), Fact::Text(right)) => left.cmp(right),
        (Fact::Bytes(left), Fact::Bytes(right)) => left.cmp(right),
        (Fact::Int(left), Fact::Int(right)) => left.cmp(&right),
        (Fact::UInt(left), Fact::UInt(right)) => left.cmp(&right),
        (Fact::Int(left), Fact::UInt(right)) => i128::from(left).cmp(&i128::from(right)),
        (Fact::UInt(left), Fact::Int(right)) => i128::from(left).cmp(&i128::from(right)),
        (left, right) => return decimal(left)?.partial_cmp(&decimal(right)?),
    })
}

#[expect(clippy::cast_precision_loss, reason = "as the language compares with a decimal number")]
fn decimal(fact: Fact<'_>) -> Option<f64> {
    match fact {
        Fact::Int(number) => Some(number as f64),
        Fact::UInt(number) => Some(number as f64),
        Fact::Float(number) => Some(number),
        Fact::Null
        | Fact::Bool(_)
        | Fact::Text(_)
        | Fact::Bytes(_)
        | Fact::Json(..)
        | Fact::Header(_)
        | Fact::Named(_) => None,
    }
}

/// Why an operator cannot be used with values of these types.
fn unfit(sign: &'static str, names: &[&'static str]) -> Fault {
    if names.contains(&"null") {
        return Fault::Null;
    }
    Fault::Failed(match names {
        [left, right] if !sign.starts_with(char::is_alphabetic) => {
            format!("`{sign}` cannot be used between {left} and {right}").into()
        }
        _ => format!("`{sign}` cannot be used with {}", names.join(" and ")).into(),
    })
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl TextFunction {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Self::StartsWith => text.starts_with(part),
            Self::EndsWith => text.ends_with(part),
            Self::Contains => text.contains(part),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Contains => "contains",
        }
    }
}
