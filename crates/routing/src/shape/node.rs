//! JSON that is looked into only where a step goes.
//!
//! What no step touches stays byte for byte as it was written: numbers keep their digits, members
//! their order and their repeats.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserializer,
    de::{self, MapAccess},
};
use serde_json::{Value, value::RawValue};
use transload_envelope::Text;

use super::field::Path;

/// How many levels a path may have that is set.
pub(super) const DEPTH_MAX: usize = 32;

/// A JSON value.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// JSON text that has been checked and not been looked into.
    Raw(Text),
    /// Members in the order of the text.
    Object(Vec<(Text, Node)>),
    /// Elements.
    Array(Vec<Node>),
}

impl Node {
    /// Takes a payload as JSON; the error says why it is none.
    pub(super) fn parse(payload: &Bytes) -> Result<Self, String> {
        let text = Text::try_from(payload.clone()).map_err(|_| "it is not UTF-8".to_owned())?;
        let raw: &RawValue = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(Self::Raw(text.slice_ref(raw.get())))
    }

    /// Makes JSON text of a value.
    pub(super) fn from_value(value: &Value) -> Self {
        Self::Raw(value.to_string().into())
    }

    /// The JSON text; what was not looked into is not copied.
    pub(super) fn to_text(&self) -> Text {
        if let Self::Raw(text) = self {
            return text.clone();
        }
        let mut text = String::new();
        self.write(&mut text);
        text.into()
    }

    fn write(&self, into: &mut String) {
        match self {
            Self::Raw(text) => into.push_str(text),
            Self::Object(members) => {
                into.push('{');
                for (place, (name, node)) in members.iter().enumerate() {
                    into.push_str(if place > 0 { "," } else { "" });
                    into.push_str(&Value::from(&**name).to_string());
                    into.push(':');
                    node.write(into);
                }
                into.push('}');
            }
            Self::Array(elements) => {
                into.push('[');
                for (place, node) in elements.iter().enumerate() {
                    into.push_str(if place > 0 { "," } else { "" });
                    node.write(into);
                }
                into.push(']');
            }
        }
    }

    /// The value with every number as it was written; the error names a number that does not fit.
    pub(super) fn exact_value(&self) -> Result<Value, String> {
        let text = self.to_text();
        if let Some(number) = too_large(&text) {
            return Err(format!("the integer {number} does not fit 64 bits"));
        }
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// The value; integers that do not fit 64 bits are rounded.
    pub(super) fn value(&self) -> Result<Value, String> {
        serde_json::from_str(&self.to_text()).map_err(|error| error.to_string())
    }

    /// The text, if it is a string.
    pub(super) fn as_string(&self) -> Option<String> {
        let Self::Raw(text) = self else { return None };
        if text.starts_with('"') { serde_json::from_str(text).ok() } else { None }
    }

    /// Looks into an object or an array: one level.
    pub(super) fn open(&mut self) {
        let Self::Raw(text) = self else { return };
        let opened = match text.as_bytes().first() {
            Some(b'{') => members(text).map(Self::Object),
            Some(b'[') => elements(text).map(Self::Array),
            _ => return,
        };
        if let Some(opened) = opened {
            *self = opened;
        }
    }

    /// What is at the path.
    pub(super) fn get(&mut self, path: &Path) -> Option<&mut Self> {
        let mut node = self;
        for name in path.names() {
            node = node.child(name)?;
        }
        Some(node)
    }

    fn child(&mut self, name: &str) -> Option<&mut Self> {
        self.open();
        match self {
            Self::Raw(_) => None,
            Self::Object(members) => {
                // Of repeats the last one counts, as for most parsers.
                members.iter_mut().rev().find(|(known, _)| **known == *name).map(|(_, node)| node)
            }
            Self::Array(elements) => elements.get_mut(index(name)?),
        }
    }

    /// Puts a value at the path. Objects that are missing on the way are made; what is there and is
    /// no object stays, and is an error.
    pub(super) fn set(&mut self, path: &Path, value: Self) -> Result<(), String> {
        let Some((last, way)) = path.names().split_last() else {
            *self = value;
            return Ok(());
        };
        let mut node = self;
        for (depth, name) in way.iter().enumerate() {
            if node.child(name).is_none() {
                let missing = Self::Object(Vec::new());
                node.put(name, missing).map_err(|what| path.conflict(depth, &what))?;
            }
            match node.child(name) {
                Some(child) => node = child,
                None => return Err(path.conflict(depth, "cannot be looked into")),
            }
        }
        node.put(last, value).map_err(|what| path.conflict(way.len(), &what))
    }

    /// Puts a member into an object, at its old place if there is one, or an element into an array.
    fn put(&mut self, name: &Text, value: Self) -> Result<(), String> {
        self.open();
        match self {
            Self::Object(members) => {
                match members.iter().position(|(known, _)| known == name) {
                    None => members.push((name.clone(), value)),
                    Some(place) => {
                        members.retain(|(known, _)| known != name);
                        members.insert(place, (name.clone(), value));
                    }
                }
                Ok(())
            }
            Self::Array(elements) => {
                let length = elements.len();
                let place = index(name).and_then(|place| elements.get_mut(place));
                *place.ok_or_else(|| format!("is an array of {length}, without `{name}`"))? = value;
                Ok(())
            }
            Self::Raw(text) => Err(format!("is {}, which holds nothing by a name", kind(text))),
        }
    }

    /// Takes out what is at the path, repeats of it included.
    pub(super) fn take(&mut self, path: &Path) -> Option<Self> {
        let (last, way) = path.names().split_last()?;
        let mut node = self;
        for name in way {
            node = node.child(name)?;
        }
        node.open();
        match node {
            Self::Raw(_) => None,
            Self::Object(members) => {
                let mut taken = None;
                while let Some(place) = members.iter().rposition(|(known, _)| known == last) {
                    let (_, node) = members.remove(place);
                    taken.get_or_insert(node);
                }
                taken
            }
            Self::Array(elements) => {
                let place = index(last).filter(|place| *place < elements.len())?;
                Some(elements.remove(place))
            }
        }
    }

    /// Gives a member of an object another name, at its old place.
    pub(super) fn rename_member(&mut self, from: &Text, to: &Text) {
        self.open();
        let Self::Object(members) = self else { return };
        if from == to || !members.iter().any(|(known, _)| known == from) {
            return;
        }
        members.retain(|(known, _)| known != to);
        for (name, _) in members.iter_mut().filter(|(name, _)| name == from) {
            name.clone_from(to);
        }
    }
}

fn index(name: &str) -> Option<usize> {
    name.parse().ok()
}

/// What a JSON text is, for people.
pub(super) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The first integer of a JSON text that is neither an `i64` nor a `u64`.
fn too_large(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = rest.get(at..)?;
        if let Some(string) = rest.strip_prefix('"') {
            rest = string.get(end_of_string(string)..)?;
            continue;
        }
        let number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = rest.find(|c| !number(c)).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let is_integer = !digits.contains(['.', 'e', 'E']);
        if is_integer && digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err() {
            return Some(digits);
        }
        rest = after;
    }
    None
}

/// The length of a JSON string behind its opening quote, the closing one included.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

fn members(text: &Text) -> Option<Vec<(Text, Node)>> {
    struct Members<'a>(&'a Text);

    impl<'de> de::Visitor<'de> for Members<'de> {
        type Value = Vec<(Text, Node)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
                members.push((name.into(), Node::Raw(self.0.slice_ref(raw.get()))));
            }
            Ok(members)
        }
    }

    serde_json::Deserializer::from_str(text).deserialize_map(Members(text)).ok()
}

fn elements(text: &Text) -> Option<Vec<Node>> {
    let raw: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(raw.into_iter().map(|raw| Node::Raw(text.slice_ref(raw.get()))).collect())
}
