//! The steps of a shape.

use serde_json::Value as Json;
use transload_envelope::{Address, Headers, Text};

use super::{
    codec::{Codec, JSON},
    computed::{self, Computed},
    draft::Draft,
    event::{Unwrap, Wrap},
    field::{Field, Path},
    node::Node,
    schema::Schema,
    split::Split,
};
use crate::{Facts, Scope};

/// One step of a shape.
#[derive(Clone, Debug)]
pub enum Step {
    /// Takes a form off the payload.
    Decode(Codec),
    /// Gives the payload a form.
    Encode(Codec),
    /// Checks the payload.
    Validate(Schema),
    /// Makes a message of each element of an array.
    Split(Split),
    /// Takes the event out of an envelope of another standard.
    Unwrap(Unwrap),
    /// Makes an event of the message.
    Wrap(Wrap),
    /// Puts values into parts of the message. They are computed before any is put, so that each is
    /// of the message as it was before the step.
    Set(Vec<(Field, Computed)>),
    /// Takes parts of the message away; what is not there is no error.
    Remove(Vec<Field>),
    /// Gives members of the payload and headers other names; what is not there is no error.
    Rename(Vec<Rename>),
}

/// One part with another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rename {
    /// A member of the payload.
    Member(Path, Path),
    /// All headers of a name.
    Header(Text, Text),
}

impl Step {
    /// The step in the words of the file.
    pub fn name(&self) -> Text {
        match self {
            Self::Decode(codec) => format!("decode {}", codec.name()).into(),
            Self::Encode(codec) => format!("encode {}", codec.name()).into(),
            Self::Validate(schema) => format!("validate {}", schema.name()).into(),
            Self::Split(split) => format!("split {}", split.at).into(),
            Self::Unwrap(Unwrap) => Text::from_static("unwrap cloudevents"),
            Self::Wrap(wrap) => format!("wrap {}", wrap.form.name()).into(),
            Self::Set(fields) => named("set", fields.iter().map(|(field, _)| field)),
            Self::Remove(fields) => named("remove", fields),
            Self::Rename(_) => Text::from_static("rename"),
        }
    }

    /// Does the step; the error says why it cannot be done.
    ///
    /// `scope` is that of the message as it was before the first step: what it captured, and the
    /// present time.
    pub(super) fn apply(&self, scope: &Scope<'_>, mut draft: Draft) -> Result<Vec<Draft>, String> {
        match self {
            Self::Split(split) => return split.apply(draft),
            Self::Unwrap(Unwrap) => return Unwrap::apply(draft),
            Self::Decode(codec) => codec.decode(&mut draft)?,
            Self::Encode(codec) => codec.encode(&mut draft)?,
            Self::Validate(schema) => schema.validate(&draft.json()?.value()?)?,
            Self::Wrap(wrap) => wrap.apply(scope, &mut draft)?,
            Self::Set(fields) => set(fields, scope, &mut draft)?,
            Self::Remove(fields) => {
                for field in fields {
                    remove(field, &mut draft)?;
                }
            }
            Self::Rename(all) => {
                for one in all {
                    rename(one, &mut draft)?;
                }
            }
        }
        Ok(vec![draft])
    }
}

fn named<'a>(verb: &str, fields: impl IntoIterator<Item = &'a Field>) -> Text {
    let mut fields = fields.into_iter();
    let first = fields.next().map(|field| format!(" {field}")).unwrap_or_default();
    let more = if fields.next().is_some() { ", …" } else { "" };
    format!("{verb}{first}{more}").into()
}

fn set(fields: &[(Field, Computed)], scope: &Scope<'_>, draft: &mut Draft) -> Result<(), String> {
    let facts = Facts::new(draft.envelope()).at(scope.facts.now());
    let scope = Scope::new(scope.captures, &facts);
    let mut values = Vec::with_capacity(fields.len());
    for (field, computed) in fields {
        let value = computed.value(&scope);
        values.push((field, value.map_err(|reason| format!("{field}: {reason}"))?));
    }
    for (field, value) in values {
        put(field, value, draft).map_err(|reason| format!("{field}: {reason}"))?;
    }
    Ok(())
}

fn put(field: &Field, value: Json, draft: &mut Draft) -> Result<(), String> {
    match field {
        Field::Payload(path) if path.names().is_empty() => set_payload(value, draft),
        Field::Payload(path) => draft.json_mut()?.set(path, Node::from_value(&value))?,
        Field::Header(name) => set_header(&mut draft.head_mut().headers, name, value),
        Field::Property(property) => {
            computed::set_property(draft.head_mut().properties_mut(), *property, value)?;
        }
        Field::Address => {
            let address = computed::text(value)?;
            if address.is_empty() {
                return Err("an address cannot be empty".to_owned());
            }
            draft.head_mut().address = Address::new(address);
        }
    }
    Ok(())
}

/// A text is the payload as it is; everything else is JSON.
fn set_payload(value: Json, draft: &mut Draft) {
    match value {
        Json::String(text) => draft.set_bytes(text.into()),
        value @ (Json::Null
        | Json::Bool(_)
        | Json::Number(_)
        | Json::Array(_)
        | Json::Object(_)) => draft.set_json(Node::from_value(&value), JSON),
    }
}

/// Replaces all headers of the name, in any letter case, by one at the place of the first.
fn set_header(headers: &mut Headers, name: &Text, value: Json) {
    let place = headers.iter().position(|header| header.name.eq_ignore_ascii_case(name));
    let header =
        transload_envelope::Header { name: name.clone(), value: computed::header_value(value) };
    let others = headers.iter().filter(|header| !header.name.eq_ignore_ascii_case(name)).cloned();
    let mut list: Vec<_> = others.collect();
    list.insert(place.unwrap_or(list.len()).min(list.len()), header);
    *headers = list.into_iter().collect();
}

fn remove(field: &Field, draft: &mut Draft) -> Result<(), String> {
    match field {
        Field::Payload(path) if path.names().is_empty() => draft.set_bytes(bytes::Bytes::new()),
        Field::Payload(path) => {
            // A payload without it is not written anew.
            if draft.json()?.get(path).is_some() {
                draft.json_mut()?.take(path);
            }
        }
        Field::Header(name) => {
            let gone = |known: &str| match name.strip_suffix('*') {
                Some(start) => {
                    known.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
                }
                None => known.eq_ignore_ascii_case(name),
            };
            let headers = &mut draft.head_mut().headers;
            if headers.iter().any(|header| gone(&header.name)) {
                *headers = headers.iter().filter(|header| !gone(&header.name)).cloned().collect();
            }
        }
        Field::Property(property) => {
            computed::remove_property(draft.head_mut().properties_mut(), *property);
        }
        Field::Address => {}
    }
    Ok(())
}

fn rename(rename: &Rename, draft: &mut Draft) -> Result<(), String> {
    match rename {
        Rename::Member(from, to) => {
            if from == to || draft.json()?.get(from).is_none() {
                return Ok(());
            }
            let json = draft.json_mut()?;
            match (from.names().split_last(), to.names().split_last()) {
                (Some((old, way)), Some((new, same))) if way == same => {
                    let parent = Path::new(way.iter().cloned());
                    if let Some(object) = json.get(&parent) {
                        object.rename_member(old, new);
                    }
                    Ok(())
                }
                _ => match json.take(from) {
                    Some(node) => json.set(to, node),
                    None => Ok(()),
                },
            }
        }
        Rename::Header(from, to) => {
            let headers = &mut draft.head_mut().headers;
            let is = |name: &Text, known: &str| known.eq_ignore_ascii_case(name);
            if !headers.iter().any(|header| is(from, &header.name)) {
                return Ok(());
            }
            let kept = headers.iter().filter(|header| !is(to, &header.name) || is(from, to));
            let renamed = kept.cloned().map(|mut header| {
                if is(from, &header.name) {
                    header.name = to.clone();
                }
                header
            });
            *headers = renamed.collect();
            Ok(())
        }
    }
}
