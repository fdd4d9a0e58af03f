use std::ops::Range;

use transload_envelope::Text;

use crate::EvalError;

/// What is wrong with the text of a pattern, a template or an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// The bytes of the text that the message is about; on character boundaries and inside the
    /// text, and possibly empty.
    pub range: Range<usize>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// How to cure it, in one sentence without a full stop.
    pub help: Option<String>,
}

/// What is wrong with the text of a [`Pattern`](crate::Pattern).
pub type PatternError = SyntaxError;

/// What is wrong with the text of a [`Template`](crate::Template).
pub type TemplateError = SyntaxError;

impl SyntaxError {
    pub(crate) fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        Self { range, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Why a template could not be filled in for one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The message lacks what the template asks for, and the template gives no default.
    #[error("the message has no `{name}`, and the template gives no default")]
    Missing {
        /// As written in the template, such as `header.x-tenant`.
        name: Text,
    },
    /// The value has no text form: bytes that are not UTF-8, a list, a map.
    #[error("`{name}` is {what}, which cannot stand in a text")]
    NotText {
        /// As written in the template.
        name: Text,
        /// What it is instead, such as «a list».
        what: &'static str,
    },
    /// An expression in the template has no value for this message.
    #[error("`{expression}` has no value: {error}")]
    Expression {
        /// As written in the template.
        expression: Text,
        /// Why.
        error: EvalError,
    },
    /// It cannot be told whether the condition of the rule holds.
    #[error("`{condition}`: {error}")]
    Condition {
        /// As written in the rule.
        condition: Text,
        /// Why.
        error: EvalError,
    },
    /// The text would become too long.
    #[error("the text would be longer than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
}
