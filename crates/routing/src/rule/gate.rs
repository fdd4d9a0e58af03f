use crate::Scope;

/// Is asked about each rule that applies to a message, before anything is made of the message.
pub trait Gate {
    /// Whether the message goes to the targets of the rule of this number.
    fn admits(&mut self, rule: usize, scope: &Scope<'_>) -> bool;

    /// Whether it may read what the patterns of the rule captured.
    fn asks_for_captures(&self, rule: usize) -> bool;
}

/// A gate that is always open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Gate for Open {
    fn admits(&mut self, _: usize, _: &Scope<'_>) -> bool {
        true
    }

    fn asks_for_captures(&self, _: usize) -> bool {
        false
    }
}
