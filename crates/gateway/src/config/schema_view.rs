//! What the JSON Schemas of the adapters tell about a table: its keys and those it must have.

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};
use transload_adapter::Kind;

/// The schemas of one role of a protocol.
#[derive(Debug)]
pub(super) struct KindSchemas {
    config: Value,
    target: Value,
    definitions: Map<String, Value>,
}

/// The schema of one table.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    schema: &'a Value,
    definitions: &'a Map<String, Value>,
}

impl KindSchemas {
    pub(super) fn new(kind: &dyn Kind) -> Self {
        let mut generator = generator();
        let config = kind.config_schema(&mut generator).to_value();
        let target = kind.target_schema(&mut generator).to_value();
        let definitions = generator.take_definitions(true);
        Self { config, target, definitions }
    }

    pub(super) fn config(&self) -> View<'_> {
        View { schema: &self.config, definitions: &self.definitions }
    }

    pub(super) fn target(&self) -> View<'_> {
        View { schema: &self.target, definitions: &self.definitions }
    }
}

/// How deep a secret may be in what a text stands in the place of.
const SECRET_DEPTH_MAX: usize = 4;

/// A generator for draft 2020-12.
pub(super) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

impl<'a> View<'a> {
    /// The schema of a key; `None` for a key that is not named.
    pub(super) fn property(self, name: &str) -> Option<View<'a>> {
        // Nearly all are here, and large files ask for very many.
        if let Some(schema) = self.schema.get("properties").and_then(|keys| keys.get(name)) {
            return Some(View { schema, ..self });
        }
        self.alternatives().into_iter().find_map(|view| {
            let schema = view.schema.get("properties")?.get(name)?;
            Some(View { schema, ..view })
        })
    }

    /// The schema of a key, also of one that is not named where any key may be.
    pub(super) fn entry(self, name: &str) -> Option<View<'a>> {
        self.property(name).or_else(|| self.any_entry())
    }

    fn any_entry(self) -> Option<View<'a>> {
        self.alternatives().into_iter().find_map(|view| {
            let schema = view.schema.get("additionalProperties").filter(|it| it.is_object())?;
            Some(View { schema, ..view })
        })
    }

    /// Whether the value is a secret or something that may hold one, so that a text in its place may
    /// be one.
    pub(super) fn may_hold_secret(self) -> bool {
        self.may_hold_secret_within(SECRET_DEPTH_MAX)
    }

    fn may_hold_secret_within(self, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        let inner = |view: View<'_>| view.may_hold_secret_within(depth);
        self.is_secret()
            || self.names().into_iter().any(|name| self.property(name).is_some_and(inner))
            || self.element().is_some_and(inner)
            || self.any_entry().is_some_and(inner)
    }

    /// The names of its keys.
    pub(super) fn names(self) -> Vec<&'a str> {
        let views = self.alternatives().into_iter();
        let keys = views.filter_map(|view| view.schema.get("properties")?.as_object());
        keys.flat_map(|keys| keys.keys().map(String::as_str)).collect()
    }

    /// The schema of the elements of an array.
    pub(super) fn element(self) -> Option<View<'a>> {
        self.alternatives()
            .into_iter()
            .find_map(|view| Some(View { schema: view.schema.get("items")?, ..view }))
    }

    /// The keys that must be there.
    pub(super) fn required(self) -> Vec<&'a str> {
        let lists = self.alternatives().into_iter().filter_map(|view| {
            // Alternatives of a choice are not all required.
            view.schema.get("required").and_then(Value::as_array)
        });
        lists.flatten().filter_map(Value::as_str).collect()
    }

    /// Whether the text is a secret.
    pub(super) fn is_secret(self) -> bool {
        self.alternatives()
            .iter()
            .any(|view| view.schema.get("format").and_then(Value::as_str) == Some("password"))
    }

    /// The schema itself with its references followed, and the parts that it is put together of.
    fn alternatives(self) -> Vec<View<'a>> {
        /// How many parts are looked at; schemas may refer to themselves.
        const PARTS_MAX: usize = 64;
        let mut views = vec![self];
        let mut next = 0;
        while let Some(view) = views.get(next).copied() {
            next += 1;
            if views.len() > PARTS_MAX {
                break;
            }
            let schema = view.schema;
            let reference = schema.get("$ref").and_then(Value::as_str);
            let name = reference.and_then(|text| text.strip_prefix("#/$defs/"));
            if let Some(schema) = name.and_then(|name| self.definitions.get(name)) {
                views.push(View { schema, ..self });
            }
            for choice in ["allOf", "anyOf", "oneOf"] {
                let parts = schema.get(choice).and_then(Value::as_array).into_iter().flatten();
                views.extend(parts.map(|schema| View { schema, ..self }));
            }
        }
        views
    }
}
