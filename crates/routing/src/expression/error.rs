use std::fmt;

use serde_json::Value as Json;
use transload_envelope::Text;

/// How much of a value stands in an error, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// Why an expression has no value for one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The message has no such field, or a null where a value is needed.
    #[error("{what} is absent")]
    Absent {
        /// What, as the expression writes it.
        what: Text,
    },
    /// The expression cannot be calculated with the values that the message has.
    #[error("{message}{values}")]
    Failed {
        /// What is wrong, without a full stop.
        message: String,
        /// What the expression has read.
        values: Values,
    },
}

/// What an expression reads of a message, and what it found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(pub Vec<(Text, Option<Json>)>);

impl fmt::Display for Values {
    /// Written behind a message: nothing when there are no values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { "; " } else { ", " })?;
            match value {
                None => write!(f, "{name} is absent")?,
                Some(value) => write!(f, "{name} is {}", shown(value))?,
            }
        }
        Ok(())
    }
}

fn shown(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
