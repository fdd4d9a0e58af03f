//! `CloudEvents` 1.0: `wrap` and `unwrap`.
//!
//! The canonical form of an event is its binary mode (see [`transload_envelope::cloudevents`]).
//! Here it is brought into the JSON format (`CloudEvents` 1.0.2, «JSON Event Format»), one event or
//! a batch, and back.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value as Json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use transload_envelope::{Envelope, Text, Timestamp, Value, cloudevents};

use super::{
    codec::{JSON, from_base64},
    computed::{self, Computed},
    draft::{Draft, is_json},
    node::{Node, kind},
    split::part_id,
};
use crate::{Facts, Scope};

/// The content type of one event in the JSON format.
const EVENT: Text = Text::from_static("application/cloudevents+json");
/// The content type of several events in the JSON format.
const BATCH: Text = Text::from_static("application/cloudevents-batch+json");
/// The type of an event of a message that has none.
const DEFAULT_TYPE: Text = Text::from_static("transload.message");

/// What an event looks like when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Attributes and data together, in the JSON format.
    Structured,
    /// Attributes in headers, data as the payload.
    Binary,
    /// A batch of one event, in the JSON format.
    Batch,
}

impl Form {
    /// All of them with their names.
    pub const ALL: &[(&str, Self)] = &[
        ("cloudevents", Self::Structured),
        ("cloudevents-binary", Self::Binary),
        ("cloudevents-batch", Self::Batch),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, form)| *form == self).map_or("", |(name, _)| name)
    }
}

/// Makes an event of a message, or gives an event another form.
#[derive(Clone, Debug)]
pub struct Wrap {
    /// The form.
    pub form: Form,
    /// Attributes, which go before those that the message has. What neither has, and an event must
    /// have, is made of the message.
    pub attributes: Vec<(Text, Computed)>,
}

/// Takes an event, or a batch of events, out of the JSON format. A message that is an event in
/// binary mode already stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Unwrap;

/// Attributes in the order of the event.
type Attributes = Vec<(Text, Value)>;

impl Wrap {
    pub(super) fn apply(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<(), String> {
        let attributes = self.attributes(scope, draft)?;
        drop_attributes(draft);
        if self.form == Form::Binary {
            for (name, value) in attributes {
                draft.head_mut().headers.push(cloudevents::header(&name), value);
            }
            return Ok(());
        }
        let mut json = event_json(&attributes, draft)?;
        if self.form == Form::Batch {
            json = format!("[{json}]");
        }
        draft.set_bytes(json.into());
        draft.set_content_type(if self.form == Form::Batch { BATCH } else { EVENT });
        Ok(())
    }

    fn attributes(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Attributes, String> {
        let mut attributes: Attributes = Vec::new();
        for header in &draft.head().headers {
            if let Some(name) = cloudevents::attribute(&header.name) {
                attributes.push((name.into(), header.value.clone()));
            }
        }
        let was_event = attributes.iter().any(|(name, _)| &**name == "specversion");
        let now = scope.facts.now();
        let facts = Facts::new(draft.envelope()).at(now);
        let scope = Scope::new(scope.captures, &facts);
        for (name, computed) in &self.attributes {
            let value = computed.value(&scope);
            let value = value.map_err(|reason| format!("attribute {name}: {reason}"))?;
            attributes.retain(|(known, _)| known != name);
            attributes.push((name.clone(), computed::header_value(value)));
        }
        let defaults = defaults(draft.head(), was_event, now);
        for (name, value) in defaults {
            if !attributes.iter().any(|(known, _)| **known == *name) {
                attributes.push((name.into(), value.into()));
            }
        }
        let order = ["specversion", "id", "source", "type", "subject", "time"];
        let place = |name: &str| order.iter().position(|known| *known == name);
        attributes.sort_by_key(|(name, _)| place(name).unwrap_or(order.len()));
        Ok(attributes)
    }
}

/// Attributes that are made of the message where it lacks them; the optional ones not for what is
/// an event already.
fn defaults(envelope: &Envelope, was_event: bool, now: Timestamp) -> Vec<(&'static str, Text)> {
    let properties = envelope.properties();
    let mut defaults = vec![
        ("specversion", Text::from_static("1.0")),
        ("id", envelope.id.as_text().clone()),
        ("source", format!("/{}", envelope.origin.adapter).into()),
        ("type", properties.kind.clone().unwrap_or(DEFAULT_TYPE)),
    ];
    if !was_event {
        defaults.push(("subject", envelope.address.as_text().clone()));
        let time = properties.timestamp.unwrap_or(now);
        defaults.extend(rfc3339(time).map(|time| ("time", time)));
    }
    // An attribute cannot be empty.
    defaults.retain(|(_, text)| !text.is_empty());
    defaults
}

fn rfc3339(time: Timestamp) -> Option<Text> {
    let nanoseconds = i128::from(time.unix_ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    time.format(&Rfc3339).ok().map(Text::from)
}

fn drop_attributes(draft: &mut Draft) {
    let headers = &mut draft.head_mut().headers;
    let is_attribute = |name: &str| cloudevents::attribute(name).is_some();
    if headers.iter().any(|header| is_attribute(&header.name)) {
        *headers = headers.iter().filter(|header| !is_attribute(&header.name)).cloned().collect();
    }
}

/// An event in the JSON format. Data that is JSON is put in as it was written.
fn event_json(attributes: &Attributes, draft: &mut Draft) -> Result<String, String> {
    let mut json = String::from("{");
    let mut member = |name: &str, value: &str| {
        let separator = if json.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(json, "{separator}{}:{value}", Json::from(name));
    };
    for (name, value) in attributes {
        if let Some(value) = attribute_json(name, value)? {
            member(name, &value);
        }
    }
    let properties = draft.head().properties();
    if properties.content_encoding.as_deref().is_some_and(|coding| coding != "identity") {
        return Err("an event has no content encoding; decode the payload before".to_owned());
    }
    let content_type = properties.content_type.clone();
    let payload = draft.bytes();
    let (name, data, implied) = data(content_type.as_deref(), &payload, draft)?;
    let declared = content_type.or(implied);
    if let Some(declared) = declared {
        member("datacontenttype", &Json::from(&*declared).to_string());
    }
    if let Some(data) = data {
        member(name, &data);
    }
    json.push('}');
    Ok(json)
}

/// The member for the data and its JSON text, and the content type where the message has none and
/// the data is no JSON.
type Data = (&'static str, Option<String>, Option<Text>);

fn data(content_type: Option<&str>, payload: &[u8], draft: &mut Draft) -> Result<Data, String> {
    if payload.is_empty() {
        return Ok(("data", None, None));
    }
    let json = content_type.is_none_or(is_json).then(|| draft.json().map(|node| node.to_text()));
    match json {
        Some(Ok(text)) => return Ok(("data", Some(text.to_string()), None)),
        Some(Err(reason)) if content_type.is_some() => {
            return Err(format!("{reason}, though its content type says so"));
        }
        Some(Err(_)) | None => {}
    }
    let text = content_type.is_none_or(is_text).then(|| std::str::from_utf8(payload).ok());
    Ok(if let Some(text) = text.flatten() {
        ("data", Some(Json::from(text).to_string()), Some(Text::from_static("text/plain")))
    } else {
        let base64 = Json::from(STANDARD.encode(payload)).to_string();
        ("data_base64", Some(base64), Some(Text::from_static("application/octet-stream")))
    })
}

fn is_text(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/") || essence == "application/xml" || essence.ends_with("+xml")
}

/// An attribute's value as JSON text; `None` where it has none.
fn attribute_json(name: &str, value: &Value) -> Result<Option<String>, String> {
    let json = match value {
        Value::Null => return Ok(None),
        Value::Bool(truth) => Json::from(*truth),
        Value::Int(number) => Json::from(*number),
        Value::UInt(number) => Json::from(*number),
        Value::Float(number) => Json::from(number.to_string()),
        Value::Text(text) => Json::from(&**text),
        Value::Timestamp(time) => Json::from(
            rfc3339(*time).unwrap_or_else(|| time.unix_ms.to_string().into()).to_string(),
        ),
        Value::Bytes(bytes) => Json::from(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => STANDARD.encode(bytes),
        }),
        Value::List(_) | Value::Map(_) => {
            return Err(format!("attribute {name} is a list or a map, which no event can have"));
        }
    };
    Ok(Some(json.to_string()))
}

/// What a message holds, by its content type.
enum Held {
    Event,
    Batch,
    Binary,
}

impl Unwrap {
    pub(super) fn apply(mut draft: Draft) -> Result<Vec<Draft>, String> {
        match held(&mut draft)? {
            Held::Binary => Ok(vec![draft]),
            Held::Event => {
                let node = draft.json()?.clone();
                take_event(&mut draft, node)?;
                Ok(vec![draft])
            }
            Held::Batch => {
                let node = draft.json()?;
                node.open();
                let Node::Array(events) = node else { return Err("a batch is a list".to_owned()) };
                let events = std::mem::take(events);
                draft.set_bytes(Bytes::new());
                let one = |(place, node)| {
                    let mut one = draft.clone();
                    one.head_mut().id = part_id(&draft.head().id, place + 1);
                    let taken = take_event(&mut one, node);
                    taken.map_err(|reason| format!("event {}: {reason}", place + 1))?;
                    Ok(one)
                };
                events.into_iter().enumerate().map(one).collect()
            }
        }
    }
}

fn held(draft: &mut Draft) -> Result<Held, String> {
    let content_type = draft.head().properties().content_type.clone();
    let essence = content_type.as_deref().map(|text| text.split(';').next().unwrap_or("").trim());
    let essence = essence.map(str::to_ascii_lowercase);
    match essence.as_deref() {
        Some(essence) if *essence == *EVENT || essence == "application/cloudevents" => {
            Ok(Held::Event)
        }
        Some(essence) if *essence == *BATCH => Ok(Held::Batch),
        Some(other) if other.starts_with("application/cloudevents") => {
            Err(format!("events of the form `{other}` cannot be read, only JSON"))
        }
        _ if cloudevents::is_event(&draft.head().headers) => Ok(Held::Binary),
        // A protocol without content types carries events in the JSON format only.
        None => Ok(Held::Event),
        Some(other) => Err(format!("it is no event: its content type is `{other}`")),
    }
}

/// Turns an event in the JSON format into the canonical form.
fn take_event(draft: &mut Draft, mut event: Node) -> Result<(), String> {
    event.open();
    let members = match event {
        Node::Object(members) => members,
        Node::Array(_) => return Err("an event is an object, this is an array".to_owned()),
        Node::Raw(text) => return Err(format!("an event is an object, this is {}", kind(&text))),
    };
    drop_attributes(draft);
    let (mut content_type, mut data, mut binary) = (None, None, None);
    for (name, node) in members {
        match &*name {
            "data" => data = Some(node).filter(|node| *node.to_text() != *"null"),
            "data_base64" => binary = node.as_string(),
            "datacontenttype" => content_type = node.as_string(),
            _ => take_attribute(draft, &name, &node)?,
        }
    }
    let version = draft.head().headers.get(cloudevents::SPECVERSION);
    match version.and_then(Value::as_text) {
        Some(version) if version.starts_with("1.") => {}
        Some(version) => return Err(format!("version {version} of the standard is not known")),
        None => return Err("it is no event: it has no `specversion`".to_owned()),
    }
    for required in ["id", "source", "type"] {
        let name = cloudevents::header(required);
        if draft.head().headers.get(&name).is_none() {
            return Err(format!("the event has no `{required}`"));
        }
    }
    if let Some(id) = cloudevents::message_id(&draft.head().headers) {
        draft.head_mut().id = id;
    }
    take_data(draft, content_type, data, binary)
}

fn take_data(
    draft: &mut Draft,
    content_type: Option<String>,
    data: Option<Node>,
    binary: Option<String>,
) -> Result<(), String> {
    let json = content_type.as_deref().is_none_or(is_json);
    let implied = (json && data.is_some() && binary.is_none()).then_some(JSON);
    draft.head_mut().properties_mut().content_type = content_type.map(Text::from).or(implied);
    match (binary, data) {
        (Some(_), Some(_)) => return Err("the event has both `data` and `data_base64`".to_owned()),
        (Some(text), None) => {
            let bytes = from_base64(text.as_bytes());
            draft.set_bytes(bytes.map_err(|reason| format!("data_base64: {reason}"))?.into());
        }
        (None, None) => draft.set_bytes(Bytes::new()),
        (None, Some(node)) => match node.as_string().filter(|_| !json) {
            Some(text) => draft.set_bytes(text.into()),
            None => draft.set_bytes(node.to_text().into_bytes()),
        },
    }
    Ok(())
}

fn take_attribute(draft: &mut Draft, name: &Text, node: &Node) -> Result<(), String> {
    if !cloudevents::is_attribute_name(name) {
        return Err(format!("`{name}` cannot be the name of an attribute"));
    }
    let value = match node.value()? {
        Json::Null => return Ok(()),
        // What is no integer keeps its digits.
        Json::Number(number) if number.is_f64() => Value::Text(node.to_text()),
        value @ (Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
            computed::header_value(value)
        }
        Json::Array(_) | Json::Object(_) => {
            return Err(format!("attribute {name} is a list or a map, which no event can have"));
        }
    };
    draft.head_mut().headers.set(cloudevents::header(name), value);
    Ok(())
}
