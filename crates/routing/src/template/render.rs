use std::borrow::Cow;

use transload_envelope::{Envelope, Text, Value};

use super::{
    Embedded, MessageField, Name, Part, Property, RENDERED_BYTES_MAX, Reference, Template,
};
use crate::{
    EvalError, RenderError,
    expression::Rendered,
    facts::{Fact, Scope},
};

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
        match &*self.0.parts {
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
        for part in &self.0.parts {
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
                Part::Expression(embedded) => push(&embedded.find(scope)?, start, into)?,
            }
        }
        Ok(())
    }

    fn text_of(&self, reference: &Reference) -> Text {
        self.0.source.get(reference.range()).unwrap_or_default().into()
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
        Some(field.text(scope.envelope())).filter(|text| text.len() <= RENDERED_BYTES_MAX)
    }

    fn find<'a>(&self, scope: &Scope<'a>) -> Found<'a> {
        let envelope = scope.envelope();
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
            Name::Property(property) => Found::fact(property.fact(envelope)),
        }
    }
}

impl Embedded {
    fn find<'a>(&'a self, scope: &Scope<'a>) -> Result<Cow<'a, str>, RenderError> {
        let name = || Text::from(self.expression.as_str());
        match (self.expression.text(scope), &self.default) {
            (Ok(Rendered::Text(text)), _) => Ok(text),
            (Ok(Rendered::NotText(what)), _) => Err(RenderError::NotText { name: name(), what }),
            (Err(EvalError::Absent { .. }), Some(default)) => Ok(Cow::Borrowed(default)),
            (Err(error), _) => Err(RenderError::Expression { expression: name(), error }),
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
    /// The value, if the message has this property.
    pub(crate) fn fact(self, envelope: &Envelope) -> Option<Fact<'_>> {
        fn text(text: Option<&Text>) -> Option<Fact<'_>> {
            text.map(|text| Fact::Text(text))
        }
        let properties = envelope.properties();
        match self {
            Self::ContentType => text(properties.content_type.as_ref()),
            Self::ContentEncoding => text(properties.content_encoding.as_ref()),
            Self::ReplyTo => text(properties.reply_to.as_ref()),
            Self::Kind => text(properties.kind.as_ref()),
            Self::AppId => text(properties.app_id.as_ref()),
            Self::UserId => text(properties.user_id.as_ref()),
            Self::Correlation => properties.correlation.as_deref().map(Fact::of_bytes),
            Self::Priority => properties.priority.map(|priority| Fact::Int(priority.into())),
            Self::Durable => properties.durable.map(Fact::Bool),
            Self::Retain => Some(Fact::Bool(properties.retain)),
            Self::ExpiresAt => properties.expires_at.map(|time| Fact::Int(time.unix_ms)),
            Self::Timestamp => properties.timestamp.map(|time| Fact::Int(time.unix_ms)),
        }
    }
}

impl<'a> Found<'a> {
    fn maybe(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, |text| Self::Text(Cow::Borrowed(text)))
    }

    fn value(value: Option<&'a Value>) -> Self {
        Self::fact(value.map(Fact::of_value))
    }

    fn fact(fact: Option<Fact<'a>>) -> Self {
        let shown = |value: &dyn ToString| Self::Text(Cow::Owned(value.to_string()));
        match fact {
            None | Some(Fact::Null) => Self::Absent,
            Some(Fact::Text(text)) => Self::maybe(Some(text)),
            Some(Fact::Bytes(_)) => Self::NotText("bytes that are not UTF-8"),
            Some(Fact::Bool(truth)) => shown(&truth),
            Some(Fact::Int(number)) => shown(&number),
            Some(Fact::UInt(number)) => shown(&number),
            Some(Fact::Float(number)) => shown(&number),
            Some(fact @ (Fact::Json(..) | Fact::Header(_) | Fact::Named(_))) => {
                Self::NotText(fact.name())
            }
        }
    }
}
