use std::borrow::Cow;

use transload_envelope::{Envelope, Text, Timestamp, Value};

use super::{MessageField, Name, Part, Property, RENDERED_BYTES_MAX, Reference, Template};
use crate::{Captures, RenderError};

/// Where a template finds its values.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What the pattern captured that matched.
    pub captures: &'a Captures<'a, 'a>,
    /// The message.
    pub envelope: &'a Envelope,
}

/// One value, as it goes into the text.
enum Found<'a> {
    Text(Cow<'a, str>),
    Absent,
    NotText(&'static str),
}

impl Template {
    /// Appends the text to `into`; on an error, `into` is as it was.
    pub fn render(&self, scope: &Scope<'_>, into: &mut String) -> Result<(), RenderError> {
        let start = into.len();
        let result = self.append(scope, start, into);
        if result.is_err() {
            into.truncate(start);
        }
        result
    }

    /// The text as shared text: without a copy where the template is constant or the message has
    /// the text already. `buffer` is used where it is not, and its content is lost.
    pub fn render_text(&self, scope: &Scope<'_>, buffer: &mut String) -> Result<Text, RenderError> {
        match &*self.parts {
            [] => return Ok(Text::new()),
            [Part::Literal(text)] => return Ok(text.clone()),
            [Part::Reference(reference)] => {
                if let Some(text) = reference.shared(scope) {
                    return Ok(text.clone());
                }
            }
            _ => {}
        }
        buffer.clear();
        self.append(scope, 0, buffer)?;
        Ok(Text::from(&**buffer))
    }

    fn append(
        &self,
        scope: &Scope<'_>,
        start: usize,
        into: &mut String,
    ) -> Result<(), RenderError> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => push(text, start, into)?,
                Part::Reference(reference) => match reference.find(scope) {
                    Found::Text(text) => push(&text, start, into)?,
                    Found::Absent => {
                        let default = reference.default.as_deref();
                        let missing = || RenderError::Missing { name: self.text_of(reference) };
                        push(default.ok_or_else(missing)?, start, into)?;
                    }
                    Found::NotText(what) => {
                        return Err(RenderError::NotText { name: self.text_of(reference), what });
                    }
                },
            }
        }
        Ok(())
    }

    fn text_of(&self, reference: &Reference) -> Text {
        self.source.get(reference.range()).unwrap_or_default().into()
    }
}

fn push(text: &str, start: usize, into: &mut String) -> Result<(), RenderError> {
    if into.len() - start + text.len() > RENDERED_BYTES_MAX {
        return Err(RenderError::TooLong { bytes_max: RENDERED_BYTES_MAX });
    }
    into.push_str(text);
    Ok(())
}

impl Reference {
    /// The value where the message holds it as shared text of a bounded length.
    fn shared<'a>(&self, scope: &Scope<'a>) -> Option<&'a Text> {
        let field = match &self.name {
            Name::Message(field) => *field,
            Name::Capture(name) if scope.captures.get(name).is_none() => MessageField::named(name)?,
            Name::Capture(_) | Name::Header(_) | Name::Property(_) | Name::Attribute(_) => {
                return None;
            }
        };
        Some(field.text(scope.envelope)).filter(|text| text.len() <= RENDERED_BYTES_MAX)
    }

    fn find<'a>(&self, scope: &Scope<'a>) -> Found<'a> {
        let envelope = scope.envelope;
        match &self.name {
            Name::Capture(name) => {
                let field = || MessageField::named(name).map(|field| &**field.text(envelope));
                Found::maybe(scope.captures.get(name).or_else(field))
            }
            Name::Message(field) => Found::Text(Cow::Borrowed(field.text(envelope))),
            Name::Header(name) => {
                let headers = &envelope.headers;
                Found::value(headers.get(name).or_else(|| headers.get_ignoring_case(name)))
            }
            Name::Attribute(name) => Found::value(envelope.origin.attribute(name)),
            Name::Property(property) => property.find(envelope),
        }
    }
}

impl MessageField {
    fn text(self, envelope: &Envelope) -> &Text {
        match self {
            Self::Address => envelope.address.as_text(),
            Self::Id => envelope.id.as_text(),
            Self::Source => &envelope.origin.adapter,
        }
    }
}

impl Property {
    fn find(self, envelope: &Envelope) -> Found<'_> {
        let properties = envelope.properties();
        match self {
            Self::ContentType => Found::maybe(properties.content_type.as_deref()),
            Self::ContentEncoding => Found::maybe(properties.content_encoding.as_deref()),
            Self::ReplyTo => Found::maybe(properties.reply_to.as_deref()),
            Self::Kind => Found::maybe(properties.kind.as_deref()),
            Self::AppId => Found::maybe(properties.app_id.as_deref()),
            Self::UserId => Found::maybe(properties.user_id.as_deref()),
            Self::Correlation => properties.correlation.as_deref().map_or(Found::Absent, bytes),
            Self::Priority => Found::shown(properties.priority),
            Self::Durable => Found::shown(properties.durable),
            Self::Retain => Found::shown(Some(properties.retain)),
            Self::ExpiresAt => Found::shown(properties.expires_at.map(|time| time.unix_ms)),
            Self::Timestamp => Found::shown(properties.timestamp.map(|time| time.unix_ms)),
        }
    }
}

impl<'a> Found<'a> {
    fn maybe(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, |text| Self::Text(Cow::Borrowed(text)))
    }

    fn shown(value: Option<impl ToString>) -> Self {
        value.map_or(Self::Absent, |value| Self::Text(Cow::Owned(value.to_string())))
    }

    fn value(value: Option<&'a Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Absent,
            Some(Value::Text(text)) => Self::maybe(Some(text)),
            Some(Value::Bytes(found)) => bytes(found),
            Some(Value::Bool(truth)) => Self::shown(Some(truth)),
            Some(Value::Int(number)) => Self::shown(Some(number)),
            Some(Value::UInt(number)) => Self::shown(Some(number)),
            Some(Value::Float(number)) => Self::shown(Some(number)),
            Some(Value::Timestamp(Timestamp { unix_ms })) => Self::shown(Some(unix_ms)),
            Some(Value::List(_)) => Self::NotText("a list"),
            Some(Value::Map(_)) => Self::NotText("a map"),
        }
    }
}

fn bytes(found: &[u8]) -> Found<'_> {
    match str::from_utf8(found) {
        Ok(text) => Found::Text(Cow::Borrowed(text)),
        Err(_) => Found::NotText("bytes that are not UTF-8"),
    }
}
