//! What the JSON Schemas of the adapters tell about a table: its keys and those it must have.
//!
//! The schemas are taken apart once, since a large file asks them about very many keys.

use std::collections::HashMap;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};
use transload_adapter::Kind;

/// How deep a secret may be in what a text stands in the place of.
const SECRET_DEPTH_MAX: usize = 4;

/// The schemas of one role of a protocol.
#[derive(Debug)]
pub(super) struct KindSchemas {
    schemas: Vec<Described>,
    config: usize,
    target: usize,
}

/// What one schema tells of a value. Other schemas are given by their numbers.
#[derive(Debug, Default)]
struct Described {
    properties: HashMap<String, usize>,
    names: Vec<String>,
    /// Of keys that are not named.
    any_entry: Option<usize>,
    element: Option<usize>,
    required: Vec<String>,
    secret: bool,
    /// Whether it is a secret, or may hold one within [`SECRET_DEPTH_MAX`].
    may_hold_secret: bool,
}

/// The schema of one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    schemas: &'a [Described],
    number: usize,
}

impl KindSchemas {
    pub(super) fn new(kind: &dyn Kind) -> Self {
        let mut generator = generator();
        let config = kind.config_schema(&mut generator).to_value();
        let target = kind.target_schema(&mut generator).to_value();
        let definitions = generator.take_definitions(true);
        let mut taken = TakenApart::new(&definitions);
        let (config, target) = (taken.number(&config), taken.number(&target));
        Self { schemas: taken.finish(), config, target }
    }

    pub(super) fn config(&self) -> View<'_> {
        View { schemas: &self.schemas, number: self.config }
    }

    pub(super) fn target(&self) -> View<'_> {
        View { schemas: &self.schemas, number: self.target }
    }
}

/// A generator for draft 2020-12.
pub(super) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

impl<'a> View<'a> {
    fn described(self) -> Option<&'a Described> {
        self.schemas.get(self.number)
    }

    fn other(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// The schema of a key; `None` for a key that is not named.
    pub(super) fn property(self, name: &str) -> Option<Self> {
        self.described()?.properties.get(name).map(|number| self.other(*number))
    }

    /// The schema of a key, also of one that is not named where any key may be.
    pub(super) fn entry(self, name: &str) -> Option<Self> {
        let any = || self.described()?.any_entry.map(|number| self.other(number));
        self.property(name).or_else(any)
    }

    /// Whether the value is a secret or something that may hold one, so that a text in its place may
    /// be one.
    pub(super) fn may_hold_secret(self) -> bool {
        self.described().is_some_and(|described| described.may_hold_secret)
    }

    /// The names of its keys.
    pub(super) fn names(self) -> Vec<&'a str> {
        let names = self.described().into_iter().flat_map(|described| &described.names);
        names.map(String::as_str).collect()
    }

    /// The schema of the elements of an array.
    pub(super) fn element(self) -> Option<Self> {
        self.described()?.element.map(|number| self.other(number))
    }

    /// The keys that must be there.
    pub(super) fn required(self) -> Vec<&'a str> {
        let keys = self.described().into_iter().flat_map(|described| &described.required);
        keys.map(String::as_str).collect()
    }

    /// Whether the text is a secret.
    pub(super) fn is_secret(self) -> bool {
        self.described().is_some_and(|described| described.secret)
    }
}

/// Schemas that are being taken apart. Each has a number; schemas may refer to themselves.
struct TakenApart<'s> {
    definitions: &'s Map<String, Value>,
    schemas: Vec<&'s Value>,
}

impl<'s> TakenApart<'s> {
    fn new(definitions: &'s Map<String, Value>) -> Self {
        Self { definitions, schemas: Vec::new() }
    }

    /// The number of a schema, which is known by its place in memory.
    fn number(&mut self, schema: &'s Value) -> usize {
        let known = self.schemas.iter().position(|known| std::ptr::eq(*known, schema));
        known.unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        })
    }

    fn finish(mut self) -> Vec<Described> {
        let mut all: Vec<Described> = Vec::new();
        while let Some(schema) = self.schemas.get(all.len()).copied() {
            let described = self.describe(schema);
            all.push(described);
        }
        mark_holders(&mut all);
        all
    }

    fn describe(&mut self, schema: &'s Value) -> Described {
        let mut described = Described::default();
        for part in alternatives(schema, self.definitions) {
            let keys = part.get("properties").and_then(Value::as_object);
            for (name, schema) in keys.into_iter().flatten() {
                let number = self.number(schema);
                described.properties.entry(name.clone()).or_insert(number);
                described.names.push(name.clone());
            }
            let any = part.get("additionalProperties").filter(|any| any.is_object());
            described.any_entry = described.any_entry.or_else(|| Some(self.number(any?)));
            let element = part.get("items");
            described.element = described.element.or_else(|| Some(self.number(element?)));
            // Alternatives of a choice are not all required.
            let required = part.get("required").and_then(Value::as_array).into_iter().flatten();
            described.required.extend(required.filter_map(Value::as_str).map(str::to_owned));
            described.secret |= part.get("format").and_then(Value::as_str) == Some("password");
        }
        described
    }
}

/// Marks the schemas of secrets, and then again and again those of what may hold a marked one.
fn mark_holders(all: &mut [Described]) {
    let mut holders: Vec<bool> = all.iter().map(|described| described.secret).collect();
    for _ in 1..SECRET_DEPTH_MAX {
        let holds = |number: &usize| holders.get(*number) == Some(&true);
        let inner = |described: &Described| {
            let others = described.any_entry.iter().chain(&described.element);
            described.properties.values().chain(others).any(holds)
        };
        holders = all.iter().map(|described| described.secret || inner(described)).collect();
    }
    for (described, holder) in all.iter_mut().zip(holders) {
        described.may_hold_secret = holder;
    }
}

/// The schema itself with its references followed, and the parts that it is put together of.
fn alternatives<'s>(schema: &'s Value, definitions: &'s Map<String, Value>) -> Vec<&'s Value> {
    /// How many parts are looked at; schemas may refer to themselves.
    const PARTS_MAX: usize = 64;
    let mut parts = vec![schema];
    let mut next = 0;
    while let Some(part) = parts.get(next).copied() {
        next += 1;
        if parts.len() > PARTS_MAX {
            break;
        }
        let reference = part.get("$ref").and_then(Value::as_str);
        let name = reference.and_then(|text| text.strip_prefix("#/$defs/"));
        parts.extend(name.and_then(|name| definitions.get(name)));
        for choice in ["allOf", "anyOf", "oneOf"] {
            parts.extend(part.get(choice).and_then(Value::as_array).into_iter().flatten());
        }
    }
    parts
}
