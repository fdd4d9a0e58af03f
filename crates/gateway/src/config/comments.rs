//! Where the comments of a file are. They are never shown, since people leave old passwords there.

use std::ops::Range;

/// Longer ones first, since each begins with a shorter one.
const QUOTES: [&str; 4] = ["\"\"\"", "'''", "\"", "'"];

/// The comments of a text, without their `#`.
pub(super) fn comments(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some(next) = rest.find(['#', '"', '\''])
    {
        let start = at + next;
        let rest = rest.get(next..).unwrap_or_default();
        if rest.starts_with('#') {
            at = start + rest.find('\n').unwrap_or(rest.len());
            found.push(start + 1..at);
        } else {
            at = start + string_length(rest);
        }
    }
    found
}

/// How long the string is with which a text begins. One that is never closed is as long as its
/// quotes: what comes behind them may be a comment.
fn string_length(text: &str) -> usize {
    let quotes = QUOTES.into_iter().find(|quotes| text.starts_with(quotes)).unwrap_or("\"");
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(quotes.len()) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quotes.starts_with('"') {
            escaped = true;
        } else if c == '\n' && quotes.len() == 1 {
            break;
        } else if text.get(at..).is_some_and(|rest| rest.starts_with(quotes)) {
            return at + quotes.len();
        }
    }
    quotes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_and_strings_are_not_taken_for_them() {
        for (text, expected) in [
            ("a = 1 # one\n#two\nb = 2 # three", &[" one", "two", " three"][..]),
            ("a = \"x # y\" # one", &[" one"]),
            ("a = 'x \\' # one", &[" one"]),
            ("a = \"x \\\" # y\" # one", &[" one"]),
            ("a = \"\" # one\nb = \"\"\"\n# y\n\"\"\" # two", &[" one", " two"]),
            ("a = '''\n# y ' '' \n''' # one", &[" one"]),
            ("a = \"never closed # one\nb = \"x\"", &[" one"]),
            ("a = don't # one", &[" one"]),
            ("a = \"\"\"never closed # one\nb = 1 # two", &[" one", " two"]),
            ("# don't\na = \"é # y\" # ü", &[" don't", " ü"]),
            ("\"a # b\" = 1", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = comments(text).into_iter().map(|span| &text[span]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
