use crate::{Envelope, Text};

/// What the rule that routed a message has filled into the templates of its target: the name of
/// the target's key and the finished text.
///
/// Only keys whose value depends on the message are here; the constant ones stay in the target's
/// settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(Vec<(Text, Text)>);

impl Arguments {
    /// The text for this key, if the rule made one.
    pub fn get(&self, key: &str) -> Option<&Text> {
        self.0.iter().find(|(known, _)| **known == *key).map(|(_, text)| text)
    }

    /// Adds the text for a key.
    pub fn push(&mut self, key: impl Into<Text>, text: impl Into<Text>) {
        self.0.push((key.into(), text.into()));
    }

    /// Keys and texts in the order in which the rule made them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Text)> {
        self.0.iter().map(|(key, text)| (key, text))
    }

    /// A measure of the memory and disk that the arguments take, in bytes.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(key, text)| key.len() + text.len() + 8).sum()
    }
}

impl FromIterator<(Text, Text)> for Arguments {
    fn from_iter<I: IntoIterator<Item = (Text, Text)>>(arguments: I) -> Self {
        Self(arguments.into_iter().collect())
    }
}

/// A message on its way to one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The message.
    pub envelope: Envelope,
    /// What the rule filled into the target's templates.
    pub arguments: Arguments,
}
