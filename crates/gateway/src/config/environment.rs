//! `${NAME}` and `${NAME:-default}` in the values of a file.
//!
//! As in a shell, the default stands in where the variable is not set or empty. `$${` is written
//! for a plain `${`. Names are letters, digits and `_`, and do not start with a digit.

use std::ops::Range;

/// Gives the value of an environment variable.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + Sync + 'a;

/// A text in which the variables were filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// What came from the environment, and as what it may be shown.
    pub(super) values: Vec<(String, String)>,
}

/// What is wrong with a reference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReferenceFault {
    /// The bytes of the text.
    pub(super) range: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

/// Fills in the variables. `None` when the text has none and stays as it is.
pub(super) fn expand(
    text: &str,
    environment: &Environment<'_>,
) -> Result<Option<Expanded>, Vec<ReferenceFault>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expanded = Expanded { text: String::with_capacity(text.len()), values: Vec::new() };
    let mut faults = Vec::new();
    let mut offset = 0;
    while let Some(rest) = text.get(offset..).filter(|rest| !rest.is_empty()) {
        let Some(found) = rest.find("${") else {
            expanded.text.push_str(rest);
            break;
        };
        let (before, reference) = rest.split_at(found);
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            offset += found + 2;
            continue;
        }
        expanded.text.push_str(before);
        offset += found;
        let end = reference.find('}').map_or(reference.len(), |end| end + 1);
        let written = reference.get(..end).unwrap_or(reference);
        match resolve(written, environment) {
            Ok(Resolved { value, from_environment }) => {
                expanded.text.push_str(&value);
                if from_environment {
                    expanded.values.push((value, written.to_owned()));
                }
            }
            Err((message, help)) => {
                faults.push(ReferenceFault { range: offset..offset + end, message, help });
            }
        }
        offset += end;
    }
    if faults.is_empty() { Ok(Some(expanded)) } else { Err(faults) }
}

struct Resolved {
    value: String,
    from_environment: bool,
}

fn resolve(written: &str, environment: &Environment<'_>) -> Result<Resolved, (String, String)> {
    let Some(inner) = written.strip_prefix("${").and_then(|inner| inner.strip_suffix('}')) else {
        let help = "write `${NAME}`, or `$${` for a plain `${`".to_owned();
        return Err(("a reference to the environment has no closing `}`".to_owned(), help));
    };
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        let help = "write `${NAME}` or `${NAME:-default}`, or `$${` for a plain `${`".to_owned();
        return Err((format!("`{name}` is no name of an environment variable"), help));
    }
    match (environment(name), default) {
        (Some(value), default) if !value.is_empty() || default.is_none() => {
            Ok(Resolved { value, from_environment: true })
        }
        (_, Some(default)) => Ok(Resolved { value: default.to_owned(), from_environment: false }),
        (_, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-default}}`"),
        )),
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("broker".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_filled_in() {
        for (text, expected) in [
            ("${HOST}", "broker"),
            ("a ${HOST}:${PORT:-5672}!", "a broker:5672!"),
            ("${PORT:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("$${HOST}", "${HOST}"),
            ("$${HOST} ${HOST}", "${HOST} broker"),
            ("é${HOST}é", "ébrokeré"),
            ("${PORT:-${HOST}", "${HOST"),
        ] {
            assert_eq!(expand(text, &environment).unwrap().unwrap().text, expected, "{text}");
        }
    }

    #[test]
    fn other_texts_stay() {
        for text in ["", "plain", "devices/{device}", "100$", "$ {HOST}", "$HOST"] {
            assert_eq!(expand(text, &environment), Ok(None), "{text}");
        }
    }

    #[test]
    fn faults_name_the_reference() {
        for (text, range, message) in [
            ("a${UNSET}b", 1..9, "the environment variable `UNSET` is not set"),
            ("${9}", 0..4, "`9` is no name of an environment variable"),
            ("${}", 0..3, "`` is no name of an environment variable"),
            ("x${HOST", 1..7, "a reference to the environment has no closing `}`"),
        ] {
            let faults = expand(text, &environment).unwrap_err();
            assert_eq!(faults.len(), 1, "{text}");
            assert_eq!((faults[0].range.clone(), &*faults[0].message), (range, message), "{text}");
        }
        assert_eq!(expand("${A} ${B}", &environment).unwrap_err().len(), 2);
    }
}
