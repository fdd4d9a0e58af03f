//! Where a byte of a TOML string's value stands in the file.
//!
//! A fault inside a pattern is known by its place in the value; escapes such as `\"` and
//! `\u00e9` make the value shorter than what was written (TOML 1.1, «String»).

use std::ops::Range;

/// Finds the part of the file that holds these bytes of a string's value. `written` is the string
/// as it stands in the file, with its quotes. `None` where that cannot be told, as when the value
/// is not what was written.
pub(super) fn locate(written: &str, value: &str, bytes: Range<usize>) -> Option<Range<usize>> {
    let (body_start, body, escapes) = body(written)?;
    let mut rest = Rest { body, offset: 0 };
    let mut decoded = String::with_capacity(value.len());
    // The start in the file of every byte of the value, and at last its end.
    let mut starts = Vec::with_capacity(value.len() + 1);
    while !rest.remaining().is_empty() {
        let from = rest.offset;
        let Piece::Character(character) = rest.next(escapes)? else { continue };
        starts.resize(starts.len() + character.len_utf8(), from);
        decoded.push(character);
    }
    if decoded != value {
        return None;
    }
    let start = starts.get(bytes.start).copied().unwrap_or(rest.offset);
    let end = starts.get(bytes.end).copied().unwrap_or(rest.offset);
    Some(body_start + start..body_start + end.max(start))
}

/// The part between the quotes, where it starts, and whether it has escapes.
fn body(written: &str) -> Option<(usize, &str, bool)> {
    for (quotes, escapes, lines) in
        [("\"\"\"", true, true), ("'''", false, true), ("\"", true, false), ("'", false, false)]
    {
        let Some(open) = written.strip_prefix(quotes) else { continue };
        let Some(inner) = open.strip_suffix(quotes) else { continue };
        // The line end directly behind the opening of a multi-line string is not part of it.
        let trimmed = if lines {
            inner.strip_prefix("\r\n").or_else(|| inner.strip_prefix('\n')).unwrap_or(inner)
        } else {
            inner
        };
        return Some((quotes.len() + inner.len() - trimmed.len(), trimmed, escapes));
    }
    None
}

/// What the next characters of what was written add to the value.
enum Piece {
    Character(char),
    Nothing,
}

struct Rest<'a> {
    body: &'a str,
    offset: usize,
}

impl Rest<'_> {
    fn remaining(&self) -> &str {
        self.body.get(self.offset..).unwrap_or("")
    }

    fn take(&mut self) -> Option<char> {
        let character = self.remaining().chars().next()?;
        self.offset += character.len_utf8();
        Some(character)
    }

    fn next(&mut self, escapes: bool) -> Option<Piece> {
        let character = self.take()?;
        if character != '\\' || !escapes {
            return Some(Piece::Character(character));
        }
        let meant = match self.take()? {
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'f' => '\u{c}',
            'r' => '\r',
            'e' => '\u{1b}',
            'x' => self.hexadecimal(2)?,
            'u' => self.hexadecimal(4)?,
            'U' => self.hexadecimal(8)?,
            same @ ('"' | '\\') => same,
            // A backslash at the end of a line swallows all white space up to the next text.
            _ => {
                let rest = self.remaining();
                self.offset += rest.len() - rest.trim_start().len();
                return Some(Piece::Nothing);
            }
        };
        Some(Piece::Character(meant))
    }

    fn hexadecimal(&mut self, digits: usize) -> Option<char> {
        let code = self.body.get(self.offset..self.offset + digits)?;
        self.offset += digits;
        char::from_u32(u32::from_str_radix(code, 16).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for the text `X` of the value in what was written.
    fn check(written: &str, expected: &str) {
        let document = format!("value = {written}");
        let table: toml::Table = toml::from_str(&document).unwrap();
        let value = table["value"].as_str().unwrap();
        let start = value.find('X').unwrap();
        let range = locate(written, value, start..start + 1).unwrap();
        assert_eq!(&written[range], expected, "{written}");
        assert_eq!(locate(written, value, value.len()..value.len()).unwrap().len(), 0);
    }

    #[test]
    fn places_are_found_behind_escapes() {
        for (written, expected) in [
            (r#""X""#, "X"),
            (r#""aXb""#, "X"),
            (r#""\"\\\tX""#, "X"),
            (r#""\u00e9éX""#, "X"),
            (r#""\U0001F600\x41X""#, "X"),
            (r#""a\u0058b""#, r"\u0058"),
            (r"'\tX'", "X"),
            ("\"\"\"\nX\"\"\"", "X"),
            ("\"\"\"\\\n   \n  X\"\"\"", "X"),
            ("\"\"\"a\"b\\\n   X\"\"\"", "X"),
            ("'''\nX\\'''", "X"),
        ] {
            check(written, expected);
        }
    }

    #[test]
    fn a_value_that_was_not_written_has_no_place() {
        assert_eq!(locate("\"${NAME}\"", "value", 0..1), None);
        assert_eq!(locate("5", "5", 0..1), None);
        assert_eq!(locate("\"", "", 0..0), None);
    }
}
