//! One file, parsed, with its variables filled in.

use std::{borrow::Cow, cell::RefCell, collections::HashSet, ops::Range};

use foldhash::HashMap;
use strsim::damerau_levenshtein;
use toml::de::DeTable;

use super::{
    check::Check,
    comments::comments,
    environment,
    finding::Finding,
    source::{FileId, Place},
    tree,
};

/// Words in the names of keys whose values are not shown.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "authorization",
];

impl<'a> Check<'a> {
    /// Parses the text of a file, or of a piece of it, reports what cannot be parsed, and fills in
    /// the variables.
    pub(super) fn parse(&mut self, file: FileId, text: &'a str) -> DeTable<'a> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut root = root.into_inner();
        self.hidden_spans.extend(comments(text).into_iter().map(|comment| (file, comment)));
        self.hide_secrets(file, &mut root);
        self.report_syntax(file, &root, &errors);
        self.expand(file, &mut root);
        root
    }

    /// Reports one fault for each line: what follows on it is a consequence. Of what stands behind
    /// a bracket that is never closed, nothing is said, since all of it belongs to the bracket.
    fn report_syntax(&mut self, file: FileId, root: &DeTable<'_>, errors: &[toml::de::Error]) {
        let Some(source) = self.sources.get(file) else { return };
        let unclosed = if errors.is_empty() { None } else { tree::unclosed(root, &source.text) };
        let mut lines = HashSet::new();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let consequence = unclosed.as_ref().is_some_and(|open| span.start > open.start);
            self.hide_line(file, span.start);
            if !consequence && lines.insert(source.position(span.start).line) {
                self.findings.push(Finding::error(Place { file, span }, error.message()));
            }
        }
        if let Some(span) = unclosed {
            self.unclosed.insert(file, span.start);
            let bracket = source.text.get(span.clone()).unwrap_or_default();
            let message = format!("this `{bracket}` is never closed");
            lines.insert(source.position(span.start).line);
            self.findings.push(Finding::error(Place { file, span }, message));
        }
        if !lines.is_empty() {
            self.broken_files.insert(file);
            self.broken_lines.extend(lines.into_iter().map(|line| (file, line)));
        }
    }

    /// Hides what may be secret on a line with a fault. The parser has not given it back, or not all
    /// of it.
    fn hide_line(&mut self, file: FileId, offset: usize) {
        let text = self.sources.text(file);
        let before = text.get(..offset).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        for part in secrets_of_line(line) {
            self.hidden_spans.push((file, start + part.start..start + part.end));
        }
    }

    fn expand(&mut self, file: FileId, root: &mut DeTable<'a>) {
        tree::strings(
            root,
            &mut |_, span, text| match environment::expand(text, self.environment) {
                Ok(None) => {}
                Ok(Some(expanded)) => {
                    for (value, written) in &expanded.values {
                        self.hide_text(value, written);
                    }
                    if !expanded.values.is_empty() {
                        self.hide_text(&expanded.text, text);
                    }
                    self.expanded.insert((file, span.start));
                    *text = Cow::Owned(expanded.text);
                }
                Err(faults) => {
                    for fault in faults {
                        let place = self.inside(file, span.clone(), text, fault.range);
                        self.report(Finding::error(place, fault.message).with_help(fault.help));
                    }
                }
            },
        );
    }

    /// Keeps passwords that stand in the file out of the excerpts and messages.
    fn hide_secrets(&mut self, file: FileId, root: &mut DeTable<'a>) {
        tree::strings(root, &mut |key, span, text| {
            if self.secret_keys.has(key) {
                if !is_reference(text) {
                    self.hidden_spans.push((file, inner(&span)));
                    let text = text.clone();
                    self.hide_text(&text, "***");
                }
            } else if let Some(bytes) = password_in_url(text)
                && !text.get(bytes.clone()).is_some_and(is_reference)
            {
                let place = self.inside(file, span, text, bytes.clone());
                self.hidden_spans.push((file, place.span));
                let password = text.get(bytes).unwrap_or_default().to_owned();
                self.hide_text(&password, "***");
            }
        });
    }
}

/// Tells which keys are those of secrets. A file has few keys, and each of them very often.
#[derive(Debug, Default)]
pub(super) struct SecretKeys(RefCell<HashMap<String, bool>>);

impl SecretKeys {
    /// Whether a value is to be hidden for its key's sake.
    pub(super) fn has(&self, key: &str) -> bool {
        let known = self.0.borrow().get(key).copied();
        known.unwrap_or_else(|| {
            let secret = is_secret_key(key);
            self.0.borrow_mut().insert(key.to_owned(), secret);
            secret
        })
    }
}

/// A string without its quotes.
pub(super) fn inner(string: &Range<usize>) -> Range<usize> {
    (string.start + 1).min(string.end)..string.end.saturating_sub(1).max(string.start)
}

/// Whether a text is nothing but a variable.
fn is_reference(text: &str) -> bool {
    text.starts_with("${")
        && text.find('}') == Some(text.len().saturating_sub(1))
        && !text.contains(":-")
}

/// Whether a value is to be hidden for its key's sake, also when the key is misspelt.
fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let like = |word: &str| {
        let slips = if word.len() > 6 { 2 } else { 1 };
        // What differs more in length differs by more slips, and is most of a large file.
        let close = |part: &str| {
            part.chars().count().abs_diff(word.chars().count()) <= slips
                && damerau_levenshtein(part, word) <= slips
        };
        key.contains(word) || key.split(['_', '-', '.']).any(close)
    };
    !key.ends_with("_file") && SECRET_WORDS.into_iter().any(like)
}

/// The password of `scheme://user:password@host`, or the user where there is no password, since
/// that is a token then. Where the scheme was forgotten, there must be a password.
pub(super) fn password_in_url(text: &str) -> Option<Range<usize>> {
    if !text.contains('@') {
        return None;
    }
    let scheme = text.find("://").map(|at| at + 3);
    let start = scheme.unwrap_or(0);
    let rest = text.get(start..)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let from = match (user.find(':'), scheme) {
        (Some(colon), _) => colon + 1,
        (None, Some(_)) => 0,
        (None, None) => return None,
    };
    Some(start + from..start + user.len())
}

/// The parts of a line that cannot be parsed which may be secrets: what stands behind a key whose
/// value is one, up to the end of the line, passwords in addresses, and what somebody may have meant
/// as a comment.
fn secrets_of_line(line: &str) -> Vec<Range<usize>> {
    let is_part_of_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'');
    let key_before = |at: usize| -> Option<&str> {
        let before = line.get(..at)?.trim_end();
        let start = before.trim_end_matches(is_part_of_key).len();
        before.get(start..)
    };
    let behind = line.match_indices('=').find_map(|(at, _)| {
        key_before(at).is_some_and(is_secret_key).then_some(at + 1..line.trim_end().len())
    });
    let comment = [" #", "\t#"].into_iter().filter_map(|mark| line.find(mark)).min();
    let comment = comment.map(|at| at + 2..line.len());
    password_in_url(line).into_iter().chain(behind).chain(comment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_found() {
        for (text, expected) in [
            ("amqp://guest:secret@host:5672/%2f", Some("secret")),
            ("nats://token@host", Some("token")),
            ("http://host/a@b", None),
            ("guest:secret@host", Some("secret")),
            ("somebody@example.com", None),
            ("amqp://host:5672", None),
            ("devices/{device}", None),
        ] {
            let found = password_in_url(text).map(|bytes| &text[bytes]);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn secrets_of_broken_lines_are_found() {
        for (line, expected) in [
            ("password = \"one\" \"two\"", &[" \"one\" \"two\""][..]),
            ("a = { name = \"x\", token = \"y\" \"z\" }", &[" \"y\" \"z\" }"]),
            ("\"api-key\"=hush", &["hush"]),
            ("url = \"amqp://a:hush@h\" \"x\"", &["hush"]),
            ("name = \"x\" \"y\"", &[]),
            ("name = \"x\" y\" # hush \"", &[" hush \""]),
            ("match = \"a/#\" \"b\"", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = secrets_of_line(line).into_iter().map(|part| &line[part]).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn keys_of_secrets_are_known_though_misspelt() {
        for key in [
            "password",
            "pasword",
            "passwrod",
            "Client_Secret",
            "bearer_token",
            "tokn",
            "auth_tken",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["password_file", "url", "topic", "path", "keep_alive"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
