use std::fmt;

use super::{Body, Constant, EvalError, Expression, Operand};
use crate::{SyntaxError, facts::Scope};

/// A condition over a message, such as `payload.temperature > 30`. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Predicate(Expression);

impl Predicate {
    /// Compiles a condition.
    pub fn compile(text: &str) -> Result<Self, SyntaxError> {
        let expression = Expression::compile(text)?;
        let whole = 0..text.len();
        match expression.0.body {
            Body::Term(super::Term::Constant(ref constant))
                if !matches!(constant, Constant::Bool(_)) =>
            {
                Err(SyntaxError::new(whole, "this is no condition: it is never true")
                    .help("write what must be true, such as `payload.temperature > 30`"))
            }
            Body::Term(_) | Body::Check(..) | Body::Tree(_) => Ok(Self(expression)),
        }
    }

    /// The condition as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The condition as an expression.
    pub fn expression(&self) -> &Expression {
        &self.0
    }

    /// Whether it holds for a message, or why that cannot be told.
    pub fn test(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        self.0.test(scope).map_err(|fault| self.0.error(fault, scope))
    }

    /// As [`Self::test`], where only failures are wanted in words.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> Result<bool, Doubt> {
        self.0.test(scope).map_err(|fault| {
            if fault.is_absent() {
                Doubt::Absent
            } else {
                Doubt::Failed(self.0.error(fault, scope))
            }
        })
    }

    /// What must be equal to one of some constants for the condition to hold.
    pub(crate) fn key(&self) -> Option<(&Operand, &[Constant])> {
        let Body::Check(check, ..) = &self.0.0.body else { return None };
        let (number, constants) = check.key()?;
        self.0.0.operands.get(number).map(|operand| (operand, constants))
    }
}

/// Why it cannot be told whether a condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The message lacks what it asks for.
    Absent,
    Failed(EvalError),
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
