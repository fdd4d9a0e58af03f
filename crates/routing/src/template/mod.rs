//! Texts with places that a message fills in.

mod parse;
mod render;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use transload_envelope::Text;

use crate::{Expression, Pattern, TemplateError};

/// How long a template may be, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// How long the text may be that a template comes to, in bytes.
pub const RENDERED_BYTES_MAX: usize = 64 * 1024;

/// A text with references in braces, such as `devices.{device}.telemetry`.
///
/// | written | comes to |
/// |---|---|
/// | `{name}` | the capture of this name in the pattern that matched; else one of the next three |
/// | `{address}`, `{message.address}` | the address of the message |
/// | `{id}`, `{message.id}` | the id of the message |
/// | `{source}`, `{message.source}` | the name of the adapter where the message came in |
/// | `{header.NAME}` | the first header of this name; exactly, or else in any letter case |
/// | `{property.NAME}` | a property, such as `content_type`, `kind` or `priority`: see [`Property`] |
/// | `{attribute.NAME}` | what the source's protocol knows beside the address, such as `method` |
/// | `{payload.a.b}`, `{payload.celsius * 1.8 + 32}` | any other [`Expression`] |
/// | `{…\|default}` | the default where the message has no such value; may be empty |
/// | `{{`, `}}` | a brace |
///
/// A value is put in as it is. An empty capture is a value, so no default stands in for it. Times
/// are milliseconds since 1970. What has no text form (bytes that are not UTF-8, lists, maps) is
/// an error also where there is a default.
///
/// What is in braces is a reference when it is a name alone, or starts with `header.`, `property.`,
/// `attribute.` or `message.`; everything else is an expression.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(Arc<Parsed>);

#[derive(PartialEq, Eq)]
struct Parsed {
    source: Box<str>,
    parts: Box<[Part]>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Text),
    Reference(Reference),
    Expression(Box<Embedded>),
}

/// One expression in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    expression: Expression,
    default: Option<Text>,
    range: Range<usize>,
}

/// One reference in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    name: Name,
    default: Option<Text>,
    range: Range<usize>,
}

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A capture, or else a field of the message if it is the name of one.
    Capture(Text),
    /// `message.…`
    Message(MessageField),
    /// `header.…`
    Header(Text),
    /// `property.…`
    Property(Property),
    /// `attribute.…`
    Attribute(Text),
}

/// A field that every message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageField {
    /// The present address.
    Address,
    /// The id.
    Id,
    /// The name of the adapter where it came in.
    Source,
}

impl MessageField {
    /// The field of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "address" => Some(Self::Address),
            "id" => Some(Self::Id),
            "source" => Some(Self::Source),
            _ => None,
        }
    }
}

/// A field of [`Properties`](transload_envelope::Properties), under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "described where the properties are")]
pub enum Property {
    ContentType,
    ContentEncoding,
    Correlation,
    ReplyTo,
    ExpiresAt,
    Priority,
    Durable,
    Retain,
    Kind,
    AppId,
    UserId,
    Timestamp,
}

impl Property {
    /// All of them with their names.
    pub const ALL: &[(&str, Self)] = &[
        ("content_type", Self::ContentType),
        ("content_encoding", Self::ContentEncoding),
        ("correlation", Self::Correlation),
        ("reply_to", Self::ReplyTo),
        ("expires_at", Self::ExpiresAt),
        ("priority", Self::Priority),
        ("durable", Self::Durable),
        ("retain", Self::Retain),
        ("kind", Self::Kind),
        ("app_id", Self::AppId),
        ("user_id", Self::UserId),
        ("timestamp", Self::Timestamp),
    ];
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::template(text)
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.0.source
    }

    /// Whether it comes to the same text for every message.
    pub fn is_constant(&self) -> bool {
        self.0.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// The references in the order of the text.
    pub fn names(&self) -> impl Iterator<Item = &Reference> {
        self.0.parts.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Literal(_) | Part::Expression(_) => None,
        })
    }

    /// The expressions in the order of the text.
    pub fn expressions(&self) -> impl Iterator<Item = &Embedded> {
        self.0.parts.iter().filter_map(|part| match part {
            Part::Expression(embedded) => Some(&**embedded),
            Part::Literal(_) | Part::Reference(_) => None,
        })
    }

    /// The references that nothing can fill in when this pattern has matched: names that are
    /// neither its captures nor fields of the message. With a default they are no fault as long as
    /// another pattern of the same rule captures them.
    pub fn unknown<'a>(&'a self, pattern: &'a Pattern) -> impl Iterator<Item = &'a Reference> {
        self.names().filter(|reference| match reference.name() {
            Name::Capture(name) => {
                MessageField::named(name).is_none() && !pattern.captures().contains(name)
            }
            Name::Message(_) | Name::Header(_) | Name::Property(_) | Name::Attribute(_) => false,
        })
    }

    /// The expression that it consists of, if there is nothing else in it.
    pub(crate) fn as_expression(&self) -> Option<&Embedded> {
        match &*self.0.parts {
            [Part::Expression(embedded)] => Some(embedded),
            _ => None,
        }
    }

    /// Whether it is constant and comes to exactly what is written.
    pub(crate) fn is_verbatim(&self) -> bool {
        match &*self.0.parts {
            [] => true,
            [Part::Literal(text)] => **text == *self.0.source,
            _ => false,
        }
    }
}

impl Reference {
    /// What it names.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What stands in where the message has no such value.
    pub fn default(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Where the name stands in the template, in bytes, without braces and default.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl Embedded {
    /// The expression.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// What stands in where the message lacks what the expression reads.
    pub fn default(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Where the expression stands in the template, in bytes, without braces and default.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Self::parse(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0.source)
    }
}
