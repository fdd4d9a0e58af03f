use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use zeroize::Zeroize as _;

/// A text that is never printed: passwords, tokens, keys. Its memory is overwritten when it goes;
/// what a client library copies of it is that library's matter.
///
/// An adapter that has a setting `password` needs no `password_file` of its own: where a file has a
/// key `NAME_file` that the adapter's JSON Schema does not know, and the schema knows `NAME`, the
/// configuration's loader reads the file and hands its text, without the line ends at its end, to
/// the adapter as `NAME`. This holds for every text setting, in nested tables too; it is there for
/// secrets and for addresses that hold one.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the peer that it is meant for and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value reaches the message of a panic by `Debug` only, since `Secret` has no `Display`.
    #[test]
    fn a_panic_does_not_tell_it() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "it is printed only")]
        struct Settings {
            password: Secret,
            more: Vec<Option<Secret>>,
        }

        let secret = || Secret::new("hush");
        let panic = std::panic::catch_unwind(|| {
            let settings = Settings { password: secret(), more: vec![Some(secret()), None] };
            panic!("{settings:?}");
        });
        let message = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("***") && !message.contains("hush"), "{message}");
    }
}
