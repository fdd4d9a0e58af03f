//! The JSON Schema of the file, for editors.

use std::collections::HashSet;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use transload_adapter::{Kind, Registry};

use super::{
    adapters::{MAX_UNSETTLED_BYTES_DEFAULT, MAX_UNSETTLED_DEFAULT},
    rule_tests::{ExpectationKeys, TestKeys},
    schema_view::generator,
    settings::{DeduplicateKeys, GatewayKeys, RouteKeys, TelemetryKeys},
    shape::shape_schema,
};

/// The JSON Schema (draft 2020-12) of the whole file, with every key of every kind of adapter.
pub fn schema(registry: &Registry) -> Value {
    let mut generator = generator();
    generator.subschema_for::<DeduplicateKeys>();
    let adapters: Vec<_> =
        registry.kinds().map(|kind| adapter_schema(kind, &mut generator)).collect();
    let mut targets: Vec<_> =
        registry.kinds().map(|kind| target_schema(kind, &mut generator)).collect();
    targets.push(json!({ "type": "string", "description": "The name of an adapter that needs to \
        know no more." }));
    let gateway = inlined::<GatewayKeys>(&mut generator);
    let telemetry = inlined::<TelemetryKeys>(&mut generator);
    let mut route = inlined::<RouteKeys>(&mut generator);
    let target = json!({ "anyOf": targets });
    let mut shape_definitions = Map::new();
    let shape = shape_schema(&mut shape_definitions);
    if let Some(route) = route.as_object_mut() {
        add_targets(route, shape);
    }
    let test = test_schema(&mut generator);
    let mut definitions = generator.take_definitions(true);
    definitions.extend(shape_definitions);
    definitions.insert("AdapterTable".to_owned(), json!({ "oneOf": adapters }));
    definitions.insert("TargetTable".to_owned(), target);
    definitions.insert("RouteTable".to_owned(), route);
    definitions.insert("GatewayTable".to_owned(), gateway);
    definitions.insert("TelemetryTable".to_owned(), telemetry);
    definitions.insert("TestTable".to_owned(), test);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Transload configuration",
        "description": "Adapters, and the routes between them.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "include": {
                "description": "Files with further adapters and routes, relative to this file; \
                    `*` and `?` stand for parts of names.",
                "type": "array",
                "items": { "type": "string" },
            },
            "gateway": { "$ref": "#/$defs/GatewayTable" },
            "telemetry": { "$ref": "#/$defs/TelemetryTable" },
            "adapters": {
                "description": "The adapters by their names.",
                "type": "object",
                "propertyNames": { "pattern": "^[a-z0-9_-]{1,128}$", "not": { "const": "any" } },
                "additionalProperties": { "$ref": "#/$defs/AdapterTable" },
            },
            "route": {
                "description": "The routes, in the order in which they are tried.",
                "type": "array",
                "items": { "$ref": "#/$defs/RouteTable" },
            },
            "test": {
                "description": "Tests of the routes; `transload test` runs them.",
                "type": "array",
                "items": { "$ref": "#/$defs/TestTable" },
            },
        },
    });
    if let Some(root) = schema.as_object_mut() {
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    without_null(&mut schema);
    keep_referenced(&mut schema);
    schema
}

/// Adds where the messages of a route go, and what is made of them before.
fn add_targets(route: &mut Map<String, Value>, shape: Value) {
    let to = json!({
        "description": "Where the messages go: a table with `adapter` and the keys of its \
            kind, an adapter's name, or an array of these.",
        "anyOf": [
            { "$ref": "#/$defs/TargetTable" },
            { "type": "array", "items": { "$ref": "#/$defs/TargetTable" }, "minItems": 1 },
        ],
    });
    edit(route, "properties", |keys| drop(keys.insert("to".to_owned(), to)));
    edit(route, "properties", |keys| drop(keys.insert("shape".to_owned(), shape)));
    require(route, "to");
}

/// TOML has no null: a key that may be absent is one that is not required.
fn without_null(schema: &mut Value) {
    let is_null = |value: &Value| {
        value.get("type").is_some_and(|name| name == "null") || value.as_str() == Some("null")
    };
    if let Value::Object(members) = schema {
        if members.get("default").is_some_and(Value::is_null) {
            members.remove("default");
        }
        for key in ["type", "anyOf"] {
            let Some(Value::Array(list)) = members.get_mut(key) else { continue };
            list.retain(|value| !is_null(value));
            if list.len() == 1
                && let (Some(only), Some(_)) = (list.pop(), members.remove(key))
            {
                match (key, only) {
                    ("anyOf", Value::Object(only)) => {
                        for (name, value) in only {
                            members.entry(name).or_insert(value);
                        }
                    }
                    (_, only) => drop(members.insert(key.to_owned(), only)),
                }
            }
        }
        members.values_mut().for_each(without_null);
    } else if let Value::Array(list) = schema {
        list.iter_mut().for_each(without_null);
    }
}

/// Leaves out the definitions that nothing refers to.
fn keep_referenced(schema: &mut Value) {
    let mut known = HashSet::new();
    let mut next: Vec<Value> = Vec::new();
    if let Some(properties) = schema.get("properties") {
        next.push(properties.clone());
    }
    while let Some(value) = next.pop() {
        for reference in references(&value) {
            if known.insert(reference.clone())
                && let Some(definition) = schema.get("$defs").and_then(|all| all.get(&reference))
            {
                next.push(definition.clone());
            }
        }
    }
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        definitions.retain(|name, _| known.contains(name));
    }
}

/// The names of the definitions that a schema refers to.
fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            let own = own.and_then(|text| text.strip_prefix("#/$defs/")).map(str::to_owned);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// `[adapters.NAME]` in one role.
fn adapter_schema(kind: &dyn Kind, generator: &mut SchemaGenerator) -> Value {
    let mut schema = resolved(kind.config_schema(generator), generator);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), json!(format!("{}, `{}`", kind.kind(), kind.role_key())));
        edit(object, "properties", |keys| add_common_keys(kind, keys));
        require(object, "kind");
        require(object, kind.role_key());
    }
    schema
}

/// Adds the keys that every adapter has, and a file for each secret.
fn add_common_keys(kind: &dyn Kind, keys: &mut Map<String, Value>) {
    let is_secret = |schema: &Value| schema.get("format") == Some(&json!("password"));
    let secrets: Vec<_> = keys
        .iter()
        .filter(|(key, schema)| is_secret(schema) && !keys.contains_key(&format!("{key}_file")))
        .map(|(key, _)| key.clone())
        .collect();
    for key in secrets {
        let description =
            format!("A file that holds `{key}`, relative to this file; instead of `{key}`.");
        let schema = json!({ "type": "string", "description": description });
        keys.insert(format!("{key}_file"), schema);
    }
    let const_kind = json!({
        "const": kind.kind(),
        "description": format!("The protocol; with `{}`: {}.", kind.role_key(), kind.summary()),
    });
    keys.insert("kind".to_owned(), const_kind);
    let max_unsettled = json!({
        "type": "integer",
        "minimum": 1,
        "default": MAX_UNSETTLED_DEFAULT,
        "description": "How many messages from this adapter may be without a settlement; at this \
            bound, it takes in no more.",
    });
    keys.insert("max_unsettled".to_owned(), max_unsettled);
    let max_unsettled_bytes = json!({
        "$ref": "#/$defs/ByteSize",
        "default": MAX_UNSETTLED_BYTES_DEFAULT,
        "description": "How many bytes the payloads of these messages may have together, as far as \
            they are of 16 KiB or more; at this bound, no more are taken in. A larger message goes \
            alone.",
    });
    keys.insert("max_unsettled_bytes".to_owned(), max_unsettled_bytes);
    let deduplicate = json!({
        "$ref": "#/$defs/Deduplicate",
        "description": "How messages that were accepted before are recognized; they are \
            acknowledged and not routed again. Without it, none is.",
    });
    keys.insert("deduplicate".to_owned(), deduplicate);
    let unrouted = json!({
        "enum": ["drop", "reject", "dead-letter"],
        "description": "What becomes of a message from this adapter that no route wants. Default: \
            as `[gateway]` says.",
    });
    keys.insert("unrouted".to_owned(), unrouted);
}

/// A `to` table for adapters of one role.
fn target_schema(kind: &dyn Kind, generator: &mut SchemaGenerator) -> Value {
    let mut schema = resolved(kind.target_schema(generator), generator);
    if let Some(object) = schema.as_object_mut() {
        object.insert(
            "title".to_owned(),
            json!(format!("to {}, `{}`", kind.kind(), kind.role_key())),
        );
        let adapter = json!({ "type": "string", "description": "The name of the adapter." });
        edit(object, "properties", |keys| drop(keys.insert("adapter".to_owned(), adapter)));
        let shape = json!({
            "$ref": "#/$defs/Shape",
            "description": "What is made of a message for this target only, behind the shape of \
                the route.",
        });
        edit(object, "properties", |keys| drop(keys.insert("shape".to_owned(), shape)));
        require(object, "adapter");
    }
    schema
}

/// `[[test]]`, where an expectation may have the keys of any target.
fn test_schema(generator: &mut SchemaGenerator) -> Value {
    let mut test = inlined::<TestKeys>(generator);
    let mut expectation = inlined::<ExpectationKeys>(generator);
    if let Some(expectation) = expectation.as_object_mut() {
        expectation.insert("additionalProperties".to_owned(), Value::Bool(true));
    }
    let expect = json!({
        "description": "What goes out, and nothing else; an empty array for a message that goes \
            nowhere.",
        "type": "array",
        "items": expectation,
    });
    if let Some(test) = test.as_object_mut() {
        edit(test, "properties", |keys| drop(keys.insert("expect".to_owned(), expect)));
    }
    test
}

/// The schema of a type, not as a reference.
fn inlined<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let schema = generator.subschema_for::<T>();
    resolved(schema, generator)
}

/// The schema that a reference refers to.
fn resolved(schema: Schema, generator: &SchemaGenerator) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str);
    let name = name.and_then(|reference| reference.strip_prefix("#/$defs/"));
    match name.and_then(|name| generator.definitions().get(name)) {
        Some(schema) => schema.clone(),
        None => schema.to_value(),
    }
}

/// Changes the object under a key; it is made when it is not there.
fn edit(object: &mut Map<String, Value>, key: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let value = object.entry(key).or_insert_with(|| json!({}));
    if let Some(members) = value.as_object_mut() {
        change(members);
    }
}

fn require(object: &mut Map<String, Value>, key: &str) {
    let required = object.entry("required").or_insert_with(|| json!([]));
    if let Some(list) = required.as_array_mut()
        && !list.iter().any(|known| known == key)
    {
        list.push(json!(key));
    }
}
