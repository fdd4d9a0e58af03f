use std::{fmt, ops::Deref};

use crate::Text;

/// A protocol-neutral address: levels separated by `/`, as in an MQTT topic name.
///
/// Each adapter maps its own form to this one and back. An address is concrete: it names one
/// place, so it never holds a wildcard with the meaning of a wildcard.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Text);

impl Address {
    /// Wraps an address that is already in canonical form.
    pub fn new(canonical: impl Into<Text>) -> Self {
        Self(canonical.into())
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address as shared text.
    pub fn as_text(&self) -> &Text {
        &self.0
    }

    /// The levels from left to right; an empty address has one empty level.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl<T: Into<Text>> From<T> for Address {
    fn from(canonical: T) -> Self {
        Self::new(canonical)
    }
}
