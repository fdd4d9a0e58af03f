//! Expressions in the Common Expression Language (CEL) over one message.
//!
//! Invariants:
//! - Compiling finds every fault of syntax, every name and every function that there is not, at
//!   its place in the text.
//! - Evaluating ends, has no side effects, and reads of the message only what the expression
//!   names; the payload is read as JSON once for all expressions that look into it.
//! - No expression and no message makes evaluating panic: what cannot be calculated is an error.
//! - Types of the library are in no public signature.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's trees and values have many shapes, of which a few are known here and \
              all others go one way"
)]

mod error;
mod functions;
mod interpret;
mod native;
mod operand;
pub(crate) mod parse;
mod predicate;
mod resolve;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, sync::Arc};

use serde_json::Value as Json;
use transload_envelope::Text;

use self::native::{Check, Term};
pub(crate) use self::predicate::Doubt;
pub use self::{
    error::{EvalError, Values},
    operand::Root,
    predicate::Predicate,
};
pub(crate) use self::{
    native::Constant,
    operand::{Operand, Segment},
};
use crate::{
    SyntaxError,
    facts::{Fact, Scope},
};

/// How long an expression may be, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4096;
/// How deep an expression may be.
const DEPTH_MAX: u16 = 64;
/// How many macros that walk lists may stand inside each other: each multiplies the work by the
/// length of a list that strangers may have sent.
const COMPREHENSIONS_NESTED_MAX: usize = 2;

/// The library's tree of an expression.
type Tree = cel::common::ast::IdedExpr;

/// An expression over a message, such as `payload.temperature * 1.8 + 32`. Cheap to clone.
///
/// It can read `payload` (as JSON), `headers`, `properties`, `address`, `captures`, `source`,
/// `now` (in milliseconds since 1970) and `id`. A path that leads nowhere is absent, and so is
/// everything in a payload that is no JSON.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

/// An expression, ready to be evaluated.
struct Compiled {
    source: Text,
    /// What it reads of the message.
    operands: Box<[Operand]>,
    body: Body,
}

enum Body {
    /// A value of the message, or a constant.
    Term(Term),
    /// A condition in native form. The tree is there for tests only.
    Check(Check, #[cfg(test)] Tree),
    /// Whatever else.
    Tree(Tree),
}

/// Why there is no value, in a form that costs nothing where nobody wants to know.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    /// The message lacks the operand of this number.
    Absent(usize),
    /// Something lacks a field that was calculated.
    AbsentField(Box<str>),
    /// A null stands where a value is needed.
    Null,
    /// What should be a truth value is this.
    NoTruth(&'static str),
    Failed(Box<str>),
}

impl Fault {
    /// Whether the message lacks something, and nothing else is wrong.
    fn is_absent(&self) -> bool {
        match self {
            Self::Absent(_) | Self::AbsentField(_) | Self::Null | Self::NoTruth("null") => true,
            Self::NoTruth(_) | Self::Failed(_) => false,
        }
    }
}

impl Expression {
    /// Compiles an expression.
    pub fn compile(text: &str) -> Result<Self, SyntaxError> {
        let resolved = resolve::resolve(text, parse::tree(text)?)?;
        let body = match Term::of(&resolved.tree) {
            Some(term) => Body::Term(term),
            None => match Check::of(&resolved.tree, text)? {
                Some(check) => Body::Check(
                    check,
                    #[cfg(test)]
                    resolved.tree,
                ),
                None => Body::Tree(resolved.tree),
            },
        };
        let operands = resolved.operands.into_boxed_slice();
        Ok(Self(Arc::new(Compiled { source: text.into(), operands, body })))
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.0.source
    }

    /// Whether it reads nothing of the message.
    pub fn is_constant(&self) -> bool {
        self.0.operands.is_empty()
    }

    /// Whether it looks into the payload.
    pub fn reads_payload(&self) -> bool {
        self.0.operands.iter().any(|operand| operand.root == Root::Payload)
    }

    /// The names of the captures that it reads, each once, and where they stand in the text.
    pub fn captures(&self) -> impl Iterator<Item = (&str, std::ops::Range<usize>)> {
        let captured = self.0.operands.iter().filter(|operand| operand.root == Root::Captures);
        captured.filter_map(|operand| match operand.segments.first() {
            Some(Segment::Key(name)) => {
                Some((&**name, parse::place_of(&self.0.source, name, false, true)))
            }
            Some(Segment::Element(_)) | None => None,
        })
    }

    /// The value for one message, as JSON. Bytes that are no text become base64.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Json, EvalError> {
        let value = match &self.0.body {
            Body::Term(term) => term.find(&self.0, scope).map(Fact::to_json),
            Body::Check(check, ..) => check.test(&self.0, scope).map(Json::Bool),
            Body::Tree(tree) => interpret::evaluate(&self.0, tree, scope).and_then(|value| {
                interpret::to_json(&value)
                    .ok_or_else(|| Fault::Failed("the result has no form in JSON".into()))
            }),
        };
        value.map_err(|fault| self.error(fault, scope))
    }

    /// What the expression reads of a message, and what it finds there.
    pub fn values(&self, scope: &Scope<'_>) -> Values {
        let operands = self.0.operands.iter();
        let values =
            operands.map(|operand| (operand.text(), operand.find(scope).map(Fact::to_json)));
        Values(values.collect())
    }

    /// The value as it stands in a text; a null is absent there.
    pub(crate) fn text<'a>(&'a self, scope: &Scope<'a>) -> Result<Rendered<'a>, EvalError> {
        let json = match &self.0.body {
            Body::Term(term) => match term.find(&self.0, scope) {
                Ok(Fact::Text(text)) => return Ok(Rendered::Text(Cow::Borrowed(text))),
                Ok(fact @ (Fact::Json(..) | Fact::Header(_) | Fact::Named(_) | Fact::Bytes(_))) => {
                    return Ok(Rendered::NotText(fact.name()));
                }
                Ok(fact) => fact.to_json(),
                Err(fault) => return Err(self.error(fault, scope)),
            },
            Body::Check(..) | Body::Tree(_) => self.evaluate(scope)?,
        };
        Ok(match json {
            Json::Null => return Err(self.error(Fault::Null, scope)),
            Json::String(text) => Rendered::Text(Cow::Owned(text)),
            Json::Bool(truth) => Rendered::Text(Cow::Owned(truth.to_string())),
            // As headers are written: 30 and not 30.0.
            Json::Number(number) => Rendered::Text(Cow::Owned(match number.as_f64() {
                Some(decimal) if number.is_f64() => decimal.to_string(),
                _ => number.to_string(),
            })),
            Json::Array(_) => Rendered::NotText("a list"),
            Json::Object(_) => Rendered::NotText("a map"),
        })
    }

    /// Whether it is true; what is no truth value is an error.
    fn test(&self, scope: &Scope<'_>) -> Result<bool, Fault> {
        match &self.0.body {
            Body::Check(check, ..) => check.test(&self.0, scope),
            Body::Term(term) => match term.find(&self.0, scope)? {
                Fact::Bool(truth) => Ok(truth),
                other => Err(Fault::NoTruth(other.name())),
            },
            Body::Tree(tree) => interpret::test(&self.0, tree, scope),
        }
    }

    /// What a fault means for this message.
    fn error(&self, fault: Fault, scope: &Scope<'_>) -> EvalError {
        let failed = |message: &str| EvalError::Failed {
            message: message.to_owned(),
            values: self.values(scope),
        };
        match fault {
            Fault::Absent(number) => {
                let operand = self.0.operands.get(number);
                EvalError::Absent { what: operand.map(Operand::text).unwrap_or_default() }
            }
            Fault::AbsentField(field) => EvalError::Absent { what: field.into_string().into() },
            Fault::Null | Fault::NoTruth("null") => {
                let null = self
                    .0
                    .operands
                    .iter()
                    .find(|operand| matches!(operand.find(scope), Some(Fact::Null)));
                let what = null.map_or_else(|| "a value".into(), Operand::text);
                EvalError::Absent { what }
            }
            Fault::NoTruth(what) => failed(&format!("{what} stands where a truth value is needed")),
            Fault::Failed(message) => failed(&message),
        }
    }
}

/// A value in a text.
pub(crate) enum Rendered<'a> {
    Text(Cow<'a, str>),
    NotText(&'static str),
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Expression {}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0.source)
    }
}
