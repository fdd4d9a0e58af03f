//! The messages of the deserializers in the words of the file's reader.

use super::suggest;

/// A message and its help.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Worded {
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// The key that this is about: one that is missing, or one that was probably meant.
    pub(super) about: Option<String>,
    pub(super) missing: bool,
}

/// Puts a deserializer's message into our words. `also` are keys that stand beside those which
/// the deserializer knows.
pub(super) fn reword(message: &str, also: &[&str]) -> Worded {
    let plain = |message: String, help: Option<String>| Worded {
        message,
        help,
        about: None,
        missing: false,
    };
    let message = message.trim_end();
    if let Some((name, expected)) = named(message, "unknown field `") {
        let mut known = backticked(expected);
        known.extend(also);
        return Worded {
            about: suggest::closest(name, known.iter().copied()).map(str::to_owned),
            ..plain(
                format!("unknown key `{name}`"),
                suggest::help(name, &known, "the keys here are"),
            )
        };
    }
    if let Some((name, _)) = named(message, "missing field `") {
        return Worded {
            about: Some(name.to_owned()),
            missing: true,
            ..plain(format!("the key `{name}` is missing"), None)
        };
    }
    if let Some((name, expected)) = named(message, "unknown variant `") {
        let known = backticked(expected);
        return plain(
            format!("unknown value `{name}`"),
            suggest::help(name, &known, "possible values are"),
        );
    }
    for start in ["invalid type: ", "invalid value: "] {
        let parts = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = parts {
            return plain(format!("expected {}, found {found}", expected_in_words(expected)), None);
        }
    }
    if message == "wanted string or table" {
        return plain("expected a string".to_owned(), None);
    }
    plain(message.to_owned(), None)
}

/// The name behind a known start, and what follows it.
fn named<'a>(message: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(start)?.split_once('`')
}

/// All names between backticks.
fn backticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn expected_in_words(expected: &str) -> String {
    match expected {
        "u8" => "an integer from 0 to 255".to_owned(),
        "u16" => "an integer from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "an integer that is not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "an integer".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        "a borrowed string" => "a string".to_owned(),
        other => match other.strip_prefix("a nonzero ") {
            Some(_) => "an integer of at least 1".to_owned(),
            None if other.starts_with("struct ") => "a table".to_owned(),
            None => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_our_words() {
        for (message, worded, help) in [
            (
                "unknown field `urll`, expected one of `url`, `client_id`",
                "unknown key `urll`",
                Some("did you mean `url`?"),
            ),
            (
                "unknown field `zzz`, expected `url` or `client_id`",
                "unknown key `zzz`",
                Some("the keys here are: `url`, `client_id`, `kind`"),
            ),
            (
                "unknown field `zzz`, there are no fields",
                "unknown key `zzz`",
                Some("the keys here are: `kind`"),
            ),
            ("missing field `url`", "the key `url` is missing", None),
            (
                "unknown variant `blok`, expected one of `block`, `reject`",
                "unknown value `blok`",
                Some("did you mean `block`?"),
            ),
            (
                "invalid type: integer `5`, expected a string",
                "expected a string, found integer `5`",
                None,
            ),
            (
                "invalid value: integer `300`, expected u8",
                "expected an integer from 0 to 255, found integer `300`",
                None,
            ),
            ("anything else", "anything else", None),
        ] {
            let found = reword(message, &["kind"]);
            assert_eq!((&*found.message, found.help.as_deref()), (worded, help));
        }
    }
}
