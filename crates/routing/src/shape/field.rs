//! What of a message a step is about, in the words of the rules file.

use std::fmt;

use transload_envelope::Text;

use super::node::DEPTH_MAX;
use crate::{Property, SyntaxError};

/// A way into the JSON of a payload: names of members, and numbers of elements where there is an
/// array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Text>);

impl Path {
    /// A path of these names.
    pub fn new(names: impl IntoIterator<Item = Text>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The names in order.
    pub fn names(&self) -> &[Text] {
        &self.0
    }

    /// This path and one more name.
    #[must_use]
    pub fn join(&self, name: impl Into<Text>) -> Self {
        let names = self.0.iter().cloned().chain([name.into()]);
        Self(names.collect())
    }

    /// Whether it is longer than paths may be.
    pub fn is_too_deep(&self) -> bool {
        self.0.len() > DEPTH_MAX
    }

    pub(super) fn conflict(&self, depth: usize, what: &str) -> String {
        let way = Self(self.0.iter().take(depth).cloned().collect());
        format!("`{way}` {what}")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payload")?;
        for name in &self.0 {
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            if !name.is_empty() && name.chars().all(plain) {
                write!(f, ".{name}")?;
            } else {
                write!(f, ".{:?}", &**name)?;
            }
        }
        Ok(())
    }
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `payload.…`; with an empty path, the whole payload.
    Payload(Path),
    /// `header.NAME`, in any letter case; with `*` at its end, all whose names begin like this.
    Header(Text),
    /// `property.NAME`
    Property(Property),
    /// `address`
    Address,
}

impl Field {
    /// Reads a field such as `payload.position.lat`, `payload."a.b"`, `header.x-site` or
    /// `property.kind`.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let (root, rest) = match text.split_once('.') {
            Some((root, rest)) => (root, Some(rest)),
            None => (text, None),
        };
        let behind = root.len() + 1;
        match (root, rest) {
            ("payload", None) => Ok(Self::Payload(Path::default())),
            ("payload", Some(rest)) => Ok(Self::Payload(path(rest, behind)?)),
            ("address", None) => Ok(Self::Address),
            ("header", Some(name)) if !name.is_empty() => Ok(Self::Header(name.into())),
            ("property", Some(name)) => property(name).ok_or_else(|| {
                let message = format!("there is no property `{name}`");
                let known: Vec<_> = Property::ALL.iter().map(|(known, _)| *known).collect();
                SyntaxError::new(behind..text.len(), message)
                    .help(format!("the properties are {}", known.join(", ")))
            }),
            ("header" | "property", _) => {
                Err(SyntaxError::new(0..text.len(), format!("`{text}` lacks a name")))
            }
            _ => Err(SyntaxError::new(0..root.len(), format!("`{root}` is no part of a message"))
                .help("the parts are payload, header.NAME, property.NAME and address")),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload(path) => path.fmt(f),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Property(property) => write!(f, "property.{}", name_of(*property)),
            Self::Address => f.write_str("address"),
        }
    }
}

fn name_of(property: Property) -> &'static str {
    Property::ALL.iter().find(|(_, known)| *known == property).map_or("", |(name, _)| name)
}

fn property(name: &str) -> Option<Field> {
    Property::ALL
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, property)| Field::Property(*property))
}

/// Reads names with dots between them, of which some may be in quotes; `start` is their place.
fn path(text: &str, start: usize) -> Result<Path, SyntaxError> {
    let mut names = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let (name, length) = if let Some(quoted) = rest.strip_prefix('"') {
            let Some(end) = quoted.find('"') else {
                let range = start + at..start + text.len();
                return Err(SyntaxError::new(range, "this `\"` is not closed"));
            };
            (quoted.get(..end).unwrap_or_default(), end + 2)
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            if end == 0 {
                let range = start + at..start + at;
                return Err(SyntaxError::new(range, "a name is missing here")
                    .help("write a name of no characters, or one with dots, in quotes"));
            }
            (rest.get(..end).unwrap_or_default(), end)
        };
        names.push(Text::from(name));
        at += length;
        match text.as_bytes().get(at) {
            None => break,
            Some(b'.') => at += 1,
            Some(_) => {
                let range = start + at..start + text.len();
                return Err(SyntaxError::new(range, "expected `.` behind a name in quotes"));
            }
        }
    }
    let path = Path(names);
    if path.is_too_deep() {
        let message = format!("a path has at most {DEPTH_MAX} names");
        return Err(SyntaxError::new(start..start + text.len(), message));
    }
    Ok(path)
}
