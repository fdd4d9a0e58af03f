//! JSON Schema: `validate`.

use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use transload_envelope::Text;

/// How many violations a reason names.
const VIOLATIONS_MAX: usize = 3;
/// How much of a violation a reason has, in characters.
const VIOLATION_CHARS_MAX: usize = 200;

/// A compiled schema. Nothing outside it is read: references lead to places inside it, and a
/// reference that does not is a fault of the schema.
#[derive(Clone)]
pub struct Schema {
    name: Text,
    validator: Arc<Validator>,
}

/// What is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    /// Where, as a JSON Pointer; empty for the whole schema.
    pub pointer: String,
    /// What, in one sentence without a full stop.
    pub message: String,
}

impl Schema {
    /// Compiles a schema. `name` is what it is called in reasons.
    ///
    /// Patterns are those that can be matched in linear time, so that no message can keep a
    /// validation busy.
    pub fn compile(name: impl Into<Text>, schema: &Value) -> Result<Self, SchemaError> {
        let options = jsonschema::options().offline();
        let validator = options.with_pattern_options(PatternOptions::regex()).build(schema);
        let validator = validator.map_err(|error| SchemaError {
            pointer: error.instance_path().to_string(),
            message: shortened(&error.to_string()),
        })?;
        Ok(Self { name: name.into(), validator: Arc::new(validator) })
    }

    /// What it is called.
    pub fn name(&self) -> &Text {
        &self.name
    }

    /// The error names the first violations and where they are.
    pub(super) fn validate(&self, value: &Value) -> Result<(), String> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let mut reasons = Vec::new();
        let mut more = 0;
        for violation in self.validator.iter_errors(value) {
            if reasons.len() < VIOLATIONS_MAX {
                let place = violation.instance_path().to_string();
                let place = if place.is_empty() { "the payload" } else { &place };
                reasons.push(format!("{place}: {}", shortened(&violation.to_string())));
            } else {
                more += 1;
            }
        }
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        Err(reasons.join("; "))
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Schema").field(&self.name).finish()
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(VIOLATION_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
