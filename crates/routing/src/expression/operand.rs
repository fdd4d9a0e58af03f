//! What an expression reads of a message.

use transload_envelope::Text;

use crate::facts::{Fact, Named, Scope};

/// Where a path of an expression starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// The payload as JSON; what is no JSON is absent.
    Payload,
    /// The headers by their names.
    Headers,
    /// The properties by their names.
    Properties,
    /// The present address.
    Address,
    /// What the pattern that matched has captured.
    Captures,
    /// Where the message came in: `name`, `kind`, `address`, and what its protocol knows.
    Source,
    /// The present time in milliseconds since 1970.
    Now,
    /// The id of the message.
    Id,
}

impl Root {
    /// All of them with their names.
    pub const ALL: &[(&str, Self)] = &[
        ("payload", Self::Payload),
        ("headers", Self::Headers),
        ("properties", Self::Properties),
        ("address", Self::Address),
        ("captures", Self::Captures),
        ("source", Self::Source),
        ("now", Self::Now),
        ("id", Self::Id),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, root)| *root)
    }

    /// Whether it has fields.
    pub(super) fn has_fields(self) -> bool {
        !matches!(self, Self::Address | Self::Now | Self::Id)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Key(Text),
    Element(usize),
}

/// A path that is known when the expression is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operand {
    pub(crate) root: Root,
    pub(crate) segments: Box<[Segment]>,
}

impl Operand {
    /// The value, if the message has it.
    pub(crate) fn find<'a>(&self, scope: &Scope<'a>) -> Option<Fact<'a>> {
        let envelope = scope.facts.envelope();
        let root = match self.root {
            Root::Payload => scope.facts.json()?,
            Root::Headers => Fact::Named(Named::Headers(envelope)),
            Root::Properties => Fact::Named(Named::Properties(envelope)),
            Root::Address => Fact::Text(&envelope.address),
            Root::Captures => Fact::Named(Named::Captures(scope.captures)),
            Root::Source => Fact::Named(Named::Source(&envelope.origin)),
            Root::Now => Fact::Int(scope.facts.now().unix_ms),
            Root::Id => Fact::Text(envelope.id.as_str()),
        };
        self.segments.iter().try_fold(root, |fact, segment| match segment {
            Segment::Key(key) => fact.member(key),
            Segment::Element(number) => fact.element(*number),
        })
    }

    /// As an expression writes it.
    pub(crate) fn text(&self) -> Text {
        let root = Root::ALL.iter().find(|(_, root)| *root == self.root);
        let mut text = root.map_or("", |(name, _)| name).to_owned();
        for segment in &self.segments {
            match segment {
                Segment::Key(key) if is_identifier(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Segment::Key(key) => {
                    text.push('[');
                    text.push_str(&serde_json::Value::from(&**key).to_string());
                    text.push(']');
                }
                Segment::Element(number) => {
                    text.push_str(&["[", &number.to_string(), "]"].concat());
                }
            }
        }
        text.into()
    }
}

fn is_identifier(text: &str) -> bool {
    text.chars().enumerate().all(|(number, char)| {
        char == '_' || char.is_ascii_alphabetic() || number > 0 && char.is_ascii_digit()
    })
}
