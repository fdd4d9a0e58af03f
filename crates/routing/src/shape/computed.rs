//! Values that a step puts into a message.

use std::time::Duration;

use serde_json::{Map, Value as Json};
use transload_envelope::{Properties, Text, Timestamp, Value};

use super::field::Field;
use crate::{Embedded, EvalError, Property, Scope, Template};

/// A value that is written in the rules file: constants, templates, and lists and tables of these.
#[derive(Clone, Debug)]
pub enum Computed {
    /// The same for every message.
    Constant(Json),
    /// A text that the message fills in; what is one expression alone keeps its type.
    Template(Template),
    /// A list.
    List(Vec<Computed>),
    /// A table, in the order of the file.
    Table(Vec<(Text, Computed)>),
    /// A time, so long from now on, in milliseconds since 1970.
    FromNow(Duration),
}

impl Computed {
    /// The value for a message.
    pub(super) fn value(&self, scope: &Scope<'_>) -> Result<Json, String> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::FromNow(duration) => Ok(Json::from(scope.facts.now().after(*duration).unix_ms)),
            Self::Template(template) => {
                if let Some(embedded) = template.as_expression() {
                    return calculated(embedded, scope);
                }
                let text = template.render_text(scope, &mut String::new());
                let text = text.map_err(|error| format!("`{template}`: {error}"))?;
                Ok(Json::from(&*text))
            }
            Self::List(list) => list.iter().map(|value| value.value(scope)).collect(),
            Self::Table(table) => {
                let members = table.iter();
                let members =
                    members.map(|(name, value)| Ok((name.to_string(), value.value(scope)?)));
                members.collect::<Result<Map<_, _>, String>>().map(Json::Object)
            }
        }
    }
}

/// The value of a template that is one expression: a number stays a number.
fn calculated(embedded: &Embedded, scope: &Scope<'_>) -> Result<Json, String> {
    match (embedded.expression().evaluate(scope), embedded.default()) {
        (Ok(value), _) => Ok(value),
        (Err(EvalError::Absent { .. }), Some(default)) => Ok(Json::from(default)),
        (Err(error), _) => Err(format!("`{}` has no value: {error}", embedded.expression())),
    }
}

impl Field {
    /// Whether this can be the part's value; the error says why not.
    pub fn accepts(&self, value: &Json) -> Result<(), String> {
        match self {
            Self::Payload(_) | Self::Header(_) => Ok(()),
            Self::Property(property) => {
                set_property(&mut Properties::NONE.clone(), *property, value.clone())
            }
            Self::Address => match text(value.clone())? {
                empty if empty.is_empty() => Err("an address cannot be empty".to_owned()),
                _ => Ok(()),
            },
        }
    }
}

/// A header's value.
pub(super) fn header_value(value: Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.into()),
        Json::Array(list) => Value::List(list.into_iter().map(header_value).collect()),
        Json::Object(table) => {
            let members = table.into_iter().map(|(name, value)| (name.into(), header_value(value)));
            Value::Map(members.collect())
        }
    }
}

/// A value where a text is wanted.
pub(super) fn text(value: Json) -> Result<Text, String> {
    match value {
        Json::String(text) => Ok(text.into()),
        Json::Bool(_) | Json::Number(_) => Ok(value.to_string().into()),
        Json::Null => Err("expected a text, found null".to_owned()),
        Json::Array(_) => Err("expected a text, found a list".to_owned()),
        Json::Object(_) => Err("expected a text, found a map".to_owned()),
    }
}

/// Gives the message a property of this value.
pub(super) fn set_property(
    properties: &mut Properties,
    property: Property,
    value: Json,
) -> Result<(), String> {
    match property {
        Property::ContentType => properties.content_type = Some(text(value)?),
        Property::ContentEncoding => properties.content_encoding = Some(text(value)?),
        Property::ReplyTo => properties.reply_to = Some(text(value)?),
        Property::Kind => properties.kind = Some(text(value)?),
        Property::AppId => properties.app_id = Some(text(value)?),
        Property::UserId => properties.user_id = Some(text(value)?),
        Property::Correlation => properties.correlation = Some(text(value)?.into_bytes()),
        Property::Durable => properties.durable = Some(truth(&value)?),
        Property::Retain => properties.retain = truth(&value)?,
        Property::Priority => {
            let number = number(&value)?;
            let fitting = u8::try_from(number);
            properties.priority =
                Some(fitting.map_err(|_| format!("expected 0 to 255, found {number}"))?);
        }
        Property::ExpiresAt => {
            properties.expires_at = Some(Timestamp { unix_ms: number(&value)? });
        }
        Property::Timestamp => properties.timestamp = Some(Timestamp { unix_ms: number(&value)? }),
    }
    Ok(())
}

/// Takes a property away.
pub(super) fn remove_property(properties: &mut Properties, property: Property) {
    match property {
        Property::ContentType => properties.content_type = None,
        Property::ContentEncoding => properties.content_encoding = None,
        Property::ReplyTo => properties.reply_to = None,
        Property::Kind => properties.kind = None,
        Property::AppId => properties.app_id = None,
        Property::UserId => properties.user_id = None,
        Property::Correlation => properties.correlation = None,
        Property::Durable => properties.durable = None,
        Property::Retain => properties.retain = false,
        Property::Priority => properties.priority = None,
        Property::ExpiresAt => properties.expires_at = None,
        Property::Timestamp => properties.timestamp = None,
    }
}

fn truth(value: &Json) -> Result<bool, String> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_bool().or(text).ok_or_else(|| format!("expected true or false, found {value}"))
}

fn number(value: &Json) -> Result<i64, String> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_i64().or(text).ok_or_else(|| format!("expected an integer, found {value}"))
}
