//! Patterns, the match index, expressions, templates and rules: pure and synchronous.
//!
//! Invariants:
//! - Nothing here does I/O, waits, or knows a protocol; no address and no message makes it panic.
//! - The cost of routing a message grows with the depth of its address and with the number of
//!   rules that match, not with the number of rules: see [`Index`] for the exact bound.
//! - What a pattern, a template or a rendered text may come to has a bound, and exceeding it is an
//!   error that says so.
//! - What a rule file says applies in the order of the file.

mod error;
mod expression;
mod facts;
mod index;
#[cfg(test)]
mod naive;
mod pattern;
mod rule;
mod shape;
mod template;

pub use self::{
    error::{PatternError, RenderError, SyntaxError, TemplateError},
    expression::{EXPRESSION_BYTES_MAX, EvalError, Expression, Predicate, Root, Values},
    facts::{Facts, Scope},
    index::Index,
    pattern::{Affix, CAPTURES_MAX, Captures, LEVELS_MAX, Level, PATTERN_BYTES_MAX, Pattern},
    rule::{
        Considered, FailedTarget, Gate, Open, Plan, PlannedTarget, Rule, RuleSet, TargetRule,
        Verdict, When, WhenMissing,
    },
    shape::{
        Codec, Computed, Field, Form, INFLATED_BYTES_MAX, MESSAGES_MAX, Path, Rename, Schema,
        SchemaError, Shape, ShapeError, Split, Step, Unwrap, Wrap,
    },
    template::{
        Embedded, MessageField, Name, Property, RENDERED_BYTES_MAX, Reference, TEMPLATE_BYTES_MAX,
        Template,
    },
};
