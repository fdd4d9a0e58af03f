//! Parts of a message, as `set`, `rename` and `remove` name them.
//!
//! `set.payload.position.lat = 5`, `set.payload = { position = { lat = 5 } }` and
//! `set."payload.position.lat" = 5` are the same.

use serde_json::Value as Json;
use toml::{Spanned, de::DeValue};
use transload_adapter::units::HumanDuration;
use transload_envelope::Text;
use transload_routing::{Computed, Field, Path, Property, Rename, Step};

use super::{Reading, one_or_several};
use crate::config::{check::Check, finding::Finding, source::Place, suggest, tree::Value};

/// The parts of a message.
const ROOTS: [&str; 4] = ["payload", "header", "property", "address"];

/// A property that only `set` knows: how long from now on the message is of use.
const EXPIRES: &str = "expires";

/// A part of the message, and what is said of it.
enum Entry<'a> {
    Field(Field, Value<'a>),
    /// `property.expires`
    Expires(Value<'a>),
}

impl<'a> Check<'a> {
    /// Reads a field such as `payload.items`.
    pub(super) fn field(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Field> {
        let Some(text) = value.get_ref().as_str() else {
            self.unexpected(reading.file, value, "a string such as \"payload.items\"", None);
            return None;
        };
        match Field::parse(text) {
            Ok(field) => Some(field),
            Err(error) => {
                let place = self.inside(reading.file, value.span(), text, error.range.clone());
                self.report(Finding::error(place, error.message).with_help(error.help));
                None
            }
        }
    }

    pub(super) fn remove_step(&mut self, reading: &Reading<'_>, value: Value<'a>) -> Option<Step> {
        let mut fields = Vec::new();
        for value in one_or_several(value) {
            match self.field(reading, &value) {
                Some(Field::Address) => {
                    let place = Place { file: reading.file, span: value.span() };
                    let message = "every message has an address, it cannot be removed";
                    self.report(Finding::error(place, message));
                }
                field => fields.extend(field),
            }
        }
        (!fields.is_empty()).then_some(Step::Remove(fields))
    }

    pub(super) fn set_step(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Step> {
        let mut fields = Vec::new();
        for entry in self.entries(reading, value) {
            match entry {
                Entry::Expires(value) => {
                    let after = self.expires(reading, &value);
                    let field = Field::Property(Property::ExpiresAt);
                    fields.extend(after.map(|after| (field, after)));
                }
                Entry::Field(Field::Payload(path), value) if path.names().is_empty() => {
                    let place = Place { file: reading.file, span: value.span() };
                    let help = "write `payload = …` beside `set` for a whole new payload, and \
                                `set.payload.NAME = …` for a part of it";
                    let message = "`set` puts values into the payload and does not replace it";
                    self.report(Finding::error(place, message).with_help(help.to_owned()));
                }
                Entry::Field(field, value) => {
                    let place = Place { file: reading.file, span: value.span() };
                    let Some(computed) = self.computed(reading, value) else { continue };
                    if let Some(reason) = unfit(&field, &computed) {
                        self.report(Finding::error(place, format!("{field}: {reason}")));
                        continue;
                    }
                    fields.push((field, computed));
                }
            }
        }
        (!fields.is_empty()).then_some(Step::Set(fields))
    }

    fn expires(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Computed> {
        let text = value.get_ref().as_str();
        let Some(duration) = text.and_then(|text| text.parse::<HumanDuration>().ok()) else {
            let expected = "a duration such as \"250ms\", \"5s\", \"2m\", \"1h30m\" or \"1d\"";
            self.unexpected(reading.file, value, expected, None);
            return None;
        };
        Some(Computed::FromNow(duration.into()))
    }

    pub(super) fn rename_step(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Step> {
        let mut renames = Vec::new();
        for entry in self.entries(reading, value) {
            let (from, value) = match entry {
                Entry::Field(field, value) => (field, value),
                Entry::Expires(value) => (Field::Property(Property::ExpiresAt), value),
            };
            let Some(to) = self.field(reading, &value) else { continue };
            match (from, to) {
                (Field::Payload(from), Field::Payload(to))
                    if !from.names().is_empty() && !to.names().is_empty() =>
                {
                    renames.push(Rename::Member(from, to));
                }
                (Field::Header(from), Field::Header(to)) if !from.ends_with('*') => {
                    renames.push(Rename::Header(from, to));
                }
                (from, to) => {
                    let place = Place { file: reading.file, span: value.span() };
                    let help = "a member of the payload can become another member, and a header \
                                another header; for the rest use `set` and `remove`";
                    let message = format!("`{from}` cannot be renamed to `{to}`");
                    self.report(Finding::error(place, message).with_help(help.to_owned()));
                }
            }
        }
        (!renames.is_empty()).then_some(Step::Rename(renames))
    }

    /// The parts that a table names, in the order of the file.
    fn entries(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Vec<Entry<'a>> {
        let file = reading.file;
        let mut entries = Vec::new();
        let DeValue::Table(table) = value.get_ref() else {
            self.unexpected(file, value, "a table", Some("write `set.payload.NAME = …`"));
            return entries;
        };
        for (key, value) in table.clone() {
            let name = Text::from(key.get_ref().as_ref());
            let place = Place { file, span: key.span() };
            match (&*name, value.get_ref()) {
                ("payload", DeValue::Table(_)) => {
                    self.payload_entries(reading, &Path::default(), value, &mut entries);
                }
                ("header", DeValue::Table(table)) => {
                    for (key, value) in table.clone() {
                        let name = Text::from(key.get_ref().as_ref());
                        entries.push(Entry::Field(Field::Header(name), value));
                    }
                }
                ("property", DeValue::Table(table)) => {
                    for (key, value) in table.clone() {
                        entries.extend(self.property_entry(reading, &key, value));
                    }
                }
                ("header" | "property", _) => {
                    let help = format!("write `{name}.NAME = …`");
                    self.unexpected(file, &value, "a table", Some(&help));
                }
                _ => match Field::parse(&name) {
                    Ok(field) => entries.push(Entry::Field(field, value)),
                    Err(error) => {
                        let help = suggest::help(&name, &ROOTS, "the parts of a message are");
                        let finding = Finding::error(place, error.message);
                        self.report(finding.with_help(help.or(error.help)));
                    }
                },
            }
        }
        entries
    }

    /// Goes down to what is no table; an empty table is a value.
    fn payload_entries(
        &mut self,
        reading: &Reading<'_>,
        path: &Path,
        value: Value<'a>,
        into: &mut Vec<Entry<'a>>,
    ) {
        let table = value.get_ref().as_table();
        let Some(table) = table.filter(|table| path.names().is_empty() || !table.is_empty()) else {
            into.push(Entry::Field(Field::Payload(path.clone()), value));
            return;
        };
        for (key, value) in table.clone() {
            let path = path.join(key.get_ref().as_ref());
            if path.is_too_deep() {
                let place = Place { file: reading.file, span: key.span() };
                self.report(Finding::error(place, "this is too deep inside the payload"));
                return;
            }
            self.payload_entries(reading, &path, value, into);
        }
    }

    fn property_entry(
        &mut self,
        reading: &Reading<'_>,
        key: &Spanned<impl AsRef<str>>,
        value: Value<'a>,
    ) -> Option<Entry<'a>> {
        let name = key.get_ref().as_ref();
        if name == EXPIRES {
            return Some(Entry::Expires(value));
        }
        let known = Property::ALL.iter().find(|(known, _)| *known == name);
        if let Some((_, property)) = known {
            return Some(Entry::Field(Field::Property(*property), value));
        }
        let mut names: Vec<_> = Property::ALL.iter().map(|(known, _)| *known).collect();
        names.push(EXPIRES);
        let help = suggest::help(name, &names, "the properties are");
        let place = Place { file: reading.file, span: key.span() };
        let message = format!("there is no property `{name}`");
        self.report(Finding::error(place, message).with_help(help));
        None
    }
}

/// Why a constant cannot be the value of a part of a message.
fn unfit(field: &Field, value: &Computed) -> Option<String> {
    let value: &Json = match value {
        Computed::Constant(value) => value,
        Computed::Template(_) | Computed::List(_) | Computed::Table(_) | Computed::FromNow(_) => {
            return None;
        }
    };
    field.accepts(value).err()
}
