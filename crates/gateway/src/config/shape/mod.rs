//! The `shape` of a route or of one of its targets: a table of steps, or an array of these.
//!
//! The steps of one table are done in the order of [`VERBS`], whatever the order of its keys, since
//! a table in TOML has none; an array says the order itself.

mod editor;
mod fields;
mod values;

use std::path::Path as FilePath;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};
use transload_envelope::{Text, cloudevents};
use transload_routing::{
    Codec, Field, Form, MESSAGES_MAX, Path, Pattern, Schema, Shape, Split, Step, Unwrap, Wrap,
};

pub(super) use self::editor::shape_schema;
use super::{
    check::Check,
    files,
    finding::Finding,
    source::{FileId, Place},
    suggest,
    tree::{self, Value},
};

/// The keys of a step's table, in the order in which they are done.
const VERBS: [&str; 10] = [
    "decode", "unwrap", "validate", "split", "payload", "rename", "remove", "set", "wrap", "encode",
];

impl<'a> Check<'a> {
    /// Reads a shape. What has faults is reported and left out.
    pub(super) fn shape(
        &mut self,
        file: FileId,
        value: Option<Value<'a>>,
        patterns: &[Pattern],
    ) -> Shape {
        let Some(value) = value else { return Shape::default() };
        let mut steps = Vec::new();
        for value in one_or_several(value) {
            match tree::into_table(value) {
                Ok(table) => {
                    let reading = Reading { file, patterns };
                    self.steps(&reading, table.into_inner(), &mut steps);
                }
                Err(value) => {
                    let help = "write `shape = { set.payload.site = \"north\" }`, or an array of \
                                such tables";
                    self.unexpected(file, &value, "a table of steps", Some(help));
                }
            }
        }
        Shape::new(steps)
    }

    /// Reads the steps of one table.
    fn steps(&mut self, reading: &Reading<'_>, mut table: DeTable<'a>, into: &mut Vec<Step>) {
        for verb in VERBS {
            let Some(value) = table.remove(verb) else { continue };
            match verb {
                "decode" => into.extend(self.codecs(reading, value).into_iter().map(Step::Decode)),
                "encode" => into.extend(self.codecs(reading, value).into_iter().map(Step::Encode)),
                "unwrap" => into.extend(self.unwrap_step(reading, &value)),
                "wrap" => into.extend(self.wrap_step(reading, value)),
                "validate" => into.extend(self.validate_step(reading, &value)),
                "split" => into.extend(self.split_step(reading, value)),
                "payload" => {
                    let whole = Field::Payload(Path::default());
                    let computed = self.computed(reading, value);
                    into.extend(computed.map(|value| Step::Set(vec![(whole, value)])));
                }
                "rename" => into.extend(self.rename_step(reading, &value)),
                "remove" => into.extend(self.remove_step(reading, value)),
                _ => into.extend(self.set_step(reading, &value)),
            }
        }
        for (key, _) in table {
            let name = key.get_ref();
            let help = suggest::help(name, &VERBS, "the steps are");
            let place = Place { file: reading.file, span: key.span() };
            let finding = Finding::error(place, format!("unknown step `{name}`"));
            self.report(finding.with_help(help));
        }
    }

    fn codecs(&mut self, reading: &Reading<'_>, value: Value<'a>) -> Vec<Codec> {
        let names: Vec<_> = Codec::ALL.iter().map(|(name, _)| *name).collect();
        let mut codecs = Vec::new();
        for value in one_or_several(value) {
            let Some(name) = value.get_ref().as_str() else {
                self.unexpected(reading.file, &value, "a string or an array of strings", None);
                continue;
            };
            let codec = Codec::ALL.iter().find(|(known, _)| *known == name);
            if codec.is_none() {
                let help = suggest::help(name, &names, "possible values are");
                self.unknown_value(reading.file, &value, name, help);
            }
            codecs.extend(codec.map(|(_, codec)| *codec));
        }
        codecs
    }

    fn unwrap_step(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Step> {
        let Some(name) = value.get_ref().as_str() else {
            self.unexpected(reading.file, value, "a string", None);
            return None;
        };
        if name == Form::Structured.name() {
            return Some(Step::Unwrap(Unwrap));
        }
        let help = "the only possible value is `cloudevents`".to_owned();
        self.unknown_value(reading.file, value, name, Some(help));
        None
    }

    fn wrap_step(&mut self, reading: &Reading<'_>, value: Value<'a>) -> Option<Step> {
        if value.get_ref().is_str() {
            let form = self.form(reading, &value)?;
            return Some(Step::Wrap(Wrap { form, attributes: Vec::new() }));
        }
        let mut table = match tree::into_table(value) {
            Ok(table) => table,
            Err(value) => {
                self.unexpected(reading.file, &value, "a string or a table", None);
                return None;
            }
        };
        let form = match table.get_mut().remove("as") {
            Some(value) => self.form(reading, &value)?,
            None => Form::Structured,
        };
        let mut attributes = Vec::new();
        for (key, value) in table.into_inner() {
            let name = Text::from(key.get_ref().as_ref());
            let reserved = ["data", "datacontenttype", "specversion"].contains(&&*name);
            if reserved || !cloudevents::is_attribute_name(&name) {
                let help = match &*name {
                    "datacontenttype" => "set `property.content_type` before",
                    _ => "names of attributes are lower-case letters and digits",
                };
                let place = Place { file: reading.file, span: key.span() };
                let message = format!("`{name}` cannot be set as an attribute of an event");
                self.report(Finding::error(place, message).with_help(help.to_owned()));
                continue;
            }
            attributes.extend(self.computed(reading, value).map(|value| (name, value)));
        }
        Some(Step::Wrap(Wrap { form, attributes }))
    }

    fn form(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Form> {
        let Some(name) = value.get_ref().as_str() else {
            self.unexpected(reading.file, value, "a string", None);
            return None;
        };
        let form = Form::ALL.iter().find(|(known, _)| *known == name).map(|(_, form)| *form);
        if form.is_none() {
            let names: Vec<_> = Form::ALL.iter().map(|(name, _)| *name).collect();
            let help = suggest::help(name, &names, "possible values are");
            self.unknown_value(reading.file, value, name, help);
        }
        form
    }

    fn split_step(&mut self, reading: &Reading<'_>, value: Value<'a>) -> Option<Step> {
        let (at, max) = match tree::into_table(value) {
            Err(value) => (value, None),
            Ok(mut table) => {
                let place = Place { file: reading.file, span: table.span() };
                let (at, max) = (table.get_mut().remove("at"), table.get_mut().remove("max"));
                for (key, _) in table.get_ref() {
                    let help = suggest::help(key.get_ref(), &["at", "max"], "the keys here are");
                    let place = Place { file: reading.file, span: key.span() };
                    let message = format!("unknown key `{}`", key.get_ref());
                    self.report(Finding::error(place, message).with_help(help));
                }
                let Some(at) = at else {
                    let help = "write `split = { at = \"payload.items\" }`".to_owned();
                    let message = "the key `at` is missing in this split";
                    self.report_missing(Finding::error(place, message).with_help(help));
                    return None;
                };
                (at, max)
            }
        };
        let path = match self.field(reading, &at)? {
            Field::Payload(path) => path,
            Field::Header(_) | Field::Property(_) | Field::Address => {
                let place = Place { file: reading.file, span: at.span() };
                let help = "write `split = \"payload\"` or `split = \"payload.items\"`".to_owned();
                let message = "only the payload can be split";
                self.report(Finding::error(place, message).with_help(help));
                return None;
            }
        };
        let messages_max = match max {
            None => Split::DEFAULT_MAX,
            Some(max) => {
                let number =
                    values::integer(max.get_ref()).and_then(|number| number.try_into().ok());
                let number = number.filter(|number| (1..=MESSAGES_MAX).contains(number));
                if number.is_none() {
                    let what = format!("an integer between 1 and {MESSAGES_MAX}");
                    self.unexpected(reading.file, &max, &what, None);
                }
                number?
            }
        };
        Some(Step::Split(Split { at: path, messages_max }))
    }

    /// A schema that stands in the file, or the name of a file that holds it.
    fn validate_step(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Step> {
        let place = Place { file: reading.file, span: value.span() };
        let (name, schema) = if let Some(path) = value.get_ref().as_str() {
            let file = files::beside(self.sources, reading.file, path);
            self.watched.file(file.clone());
            match read_schema(&file, path) {
                Ok(schema) => (Text::from(path), schema),
                Err(message) => {
                    self.report(Finding::error(place, message));
                    return None;
                }
            }
        } else if value.get_ref().is_table() {
            (Text::from_static("its schema"), values::json(value.get_ref()))
        } else {
            self.unexpected(reading.file, value, "the name of a file or a table", None);
            return None;
        };
        match Schema::compile(name.clone(), &schema) {
            Ok(schema) => Some(Step::Validate(schema)),
            Err(error) => {
                let at = match &*error.pointer {
                    "" => String::new(),
                    pointer => format!(", at {pointer}"),
                };
                let message = format!("{name} is no JSON Schema{at}: {error}");
                self.report(Finding::error(place, message));
                None
            }
        }
    }

    fn unknown_value(&mut self, file: FileId, value: &Value<'_>, name: &str, help: Option<String>) {
        let place = Place { file, span: value.span() };
        self.report(Finding::error(place, format!("unknown value `{name}`")).with_help(help));
    }

    fn unexpected(&mut self, file: FileId, value: &Value<'_>, expected: &str, help: Option<&str>) {
        let message = format!("expected {expected}, found {}", value.get_ref().type_str());
        let place = Place { file, span: value.span() };
        self.report(Finding::error(place, message).with_help(help.map(str::to_owned)));
    }
}

/// Where a shape stands.
struct Reading<'r> {
    file: FileId,
    /// The patterns of its route, for what they capture.
    patterns: &'r [Pattern],
}

fn one_or_several(value: Value<'_>) -> Vec<Value<'_>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Array(list) => list.into_iter().collect(),
        one @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_)) => vec![toml::Spanned::new(span, one)],
    }
}

/// Reads a schema from a file, which is called `path` in the file that names it.
fn read_schema(file: &FilePath, path: &str) -> Result<Json, String> {
    let text = files::read_text(file)?;
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
        format!("`{path}` is no JSON, at line {line}, column {column}: {reason}")
    })
}
