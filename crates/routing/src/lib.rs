//! Patterns, the match index, templates and rules: pure and synchronous.

/// See the helper's work.
#[derive(Clone, Debug)]
pub struct Pattern;
/// See the helper's work.
#[derive(Clone, Debug)]
pub struct Template;
