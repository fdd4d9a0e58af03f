//! The JSON Schema of a shape, for editors and for the tables of keys in the documents.

use serde_json::{Map, Value, json};
use transload_routing::{Codec, Form};

/// The schema of a route's `shape`, and its definitions: a table of steps or an array of these.
pub(in crate::config) fn shape_schema(definitions: &mut Map<String, Value>) -> Value {
    definitions.insert("Steps".to_owned(), steps());
    let shape = json!({
        "anyOf": [
            { "$ref": "#/$defs/Steps" },
            { "type": "array", "items": { "$ref": "#/$defs/Steps" } },
        ],
    });
    definitions.insert("Shape".to_owned(), shape);
    json!({
        "$ref": "#/$defs/Shape",
        "description": "What is made of a message before it goes to the targets: a table of steps, \
            or an array of these; see RULES.md. Each target can have one of its own.",
    })
}

fn steps() -> Value {
    let codecs: Vec<_> = Codec::ALL.iter().map(|(name, _)| *name).collect();
    let codec = json!({
        "anyOf": [
            { "enum": codecs },
            { "type": "array", "items": { "enum": codecs } },
        ],
    });
    let described = |mut schema: Value, description: &str| {
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), json!(description));
        }
        schema
    };
    let text_or_table = || json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] });
    let texts = json!({
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    let split = json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] });
    let form: Vec<_> = Form::ALL.iter().map(|(name, _)| *name).collect();
    let wrap = json!({ "anyOf": [{ "enum": form }, { "type": "object" }] });
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "Steps, done in the order of this list.",
        "properties": {
            "decode": described(codec.clone(), "Takes a form off the payload, or several, one \
                after the other."),
            "unwrap": described(json!({ "enum": ["cloudevents"] }), "Takes the event, or each \
                event of a batch, out of the JSON format."),
            "validate": described(text_or_table(), "A JSON Schema that the payload must conform \
                to: a file, relative to this one, or the schema itself."),
            "split": described(split, "Makes a message of each element of an array: \"payload\", \
                or where in it the array is. As a table: `at`, and `max`, how many elements there \
                may be (default 1000)."),
            "payload": described(json!({}), "A whole new payload: a text is taken as it is, \
                everything else becomes JSON; texts are templates."),
            "rename": described(json!({ "type": "object" }), "Other names for members of the \
                payload and headers: `payload.temp = \"payload.temperature\"`."),
            "remove": described(texts, "Parts to take away, such as \"payload.debug\", \
                \"header.x-*\" or \"property.reply_to\"."),
            "set": described(json!({ "type": "object" }), "Values for parts of the message: \
                `payload.NAME`, `header.NAME`, `property.NAME`, `address`; texts are templates."),
            "wrap": described(wrap, "Makes an event of the message. As a table: `as`, and \
                attributes such as `type` and `source`."),
            "encode": described(codec, "Gives the payload a form, or several, one after the \
                other."),
        },
    })
}
