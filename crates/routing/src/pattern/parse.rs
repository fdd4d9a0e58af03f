use std::{ops::Range, sync::Arc};

use transload_envelope::Text;

use super::{Affix, CAPTURES_MAX, LEVELS_MAX, Level, PATTERN_BYTES_MAX, Parsed, Pattern};
use crate::PatternError;

/// How long the name of a capture may be, in bytes.
const NAME_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// With captures in braces.
    Rule,
    /// An MQTT topic filter: braces have no meaning.
    Filter,
}

pub(super) fn pattern(text: &str, syntax: Syntax) -> Result<Pattern, PatternError> {
    check_text(text)?;
    let mut parser = Parser { syntax, captures: Vec::new() };
    let mut levels = Vec::with_capacity(text.matches('/').count().min(LEVELS_MAX) + 1);
    let mut start = 0;
    for written in text.split('/') {
        let end = start + written.len();
        if levels.len() == LEVELS_MAX {
            return Err(PatternError::new(
                start..text.len(),
                format!("a pattern has at most {LEVELS_MAX} levels"),
            )
            .help("end it earlier with `#`"));
        }
        let level = parser.level(written, start)?;
        if matches!(level, Level::Rest { .. }) && end < text.len() {
            return Err(PatternError::new(
                start..end,
                format!("`{written}` matches all levels that follow, so it must be the last"),
            )
            .help("write `+` for exactly one level"));
        }
        levels.push(level);
        start = end + 1;
    }
    Ok(Pattern(Arc::new(Parsed {
        source: text.into(),
        levels: levels.into_boxed_slice(),
        captures: parser.captures.into_boxed_slice(),
    })))
}

fn check_text(text: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(
            PatternError::new(0..0, "the pattern is empty").help("write `#` for every address")
        );
    }
    if text.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::new(
            0..text.len(),
            format!("a pattern has at most {PATTERN_BYTES_MAX} bytes, and this has {}", text.len()),
        ));
    }
    if let Some(at) = text.find('\0') {
        return Err(PatternError::new(at..at + 1, "a pattern cannot hold the character U+0000"));
    }
    Ok(())
}

struct Parser {
    syntax: Syntax,
    captures: Vec<Text>,
}

/// What stands between braces, without them.
struct Capture<'a> {
    name: &'a str,
    rest: bool,
    /// Of the name with its braces, in the pattern.
    range: Range<usize>,
}

impl Parser {
    /// Parses one level; `start` is its place in the pattern.
    fn level(&mut self, written: &str, start: usize) -> Result<Level, PatternError> {
        match written {
            "+" => return Ok(Level::Any { captured: false }),
            "#" => return Ok(Level::Rest { captured: false }),
            _ => {}
        }
        if let Some(at) = written.find(['+', '#']) {
            return Err(self.misplaced_wildcard(written, start, at));
        }
        if self.syntax == Syntax::Filter || !written.contains(['{', '}']) {
            return Ok(Level::Literal(written.into()));
        }
        let (prefix, capture, suffix) = split(written, start)?;
        let Some(capture) = capture else {
            return Ok(Level::Literal(prefix.into_boxed_str()));
        };
        let rest = capture.rest;
        let whole = prefix.is_empty() && suffix.is_empty();
        if rest && !whole {
            return Err(PatternError::new(
                capture.range,
                format!(
                    "`{{{}...}}` matches whole levels, so no text may stand beside it",
                    capture.name
                ),
            )
            .help(format!("write `{{{}}}` for a part of one level", capture.name)));
        }
        if start == 0 && prefix.starts_with('$') {
            return Err(PatternError::new(
                0..written.len(),
                "a first level that starts with `$` cannot hold a capture",
            )
            .help("such addresses are internal to their broker, so write the level in full"));
        }
        self.add(&capture)?;
        Ok(match (whole, rest) {
            (true, true) => Level::Rest { captured: true },
            (true, false) => Level::Any { captured: true },
            (false, _) => Level::Affixed(Box::new(Affix {
                prefix: prefix.into_boxed_str(),
                suffix: suffix.into_boxed_str(),
            })),
        })
    }

    fn add(&mut self, capture: &Capture<'_>) -> Result<(), PatternError> {
        if self.captures.iter().any(|known| **known == *capture.name) {
            return Err(PatternError::new(
                capture.range.clone(),
                format!("there are two captures with the name `{}`", capture.name),
            )
            .help("give each capture its own name, or write `+` where the text is not needed"));
        }
        if self.captures.len() == CAPTURES_MAX {
            return Err(PatternError::new(
                capture.range.clone(),
                format!("a pattern has at most {CAPTURES_MAX} captures"),
            )
            .help("write `+` where the text is not needed"));
        }
        self.captures.push(capture.name.into());
        Ok(())
    }

    fn misplaced_wildcard(&self, written: &str, start: usize, at: usize) -> PatternError {
        let wildcard = if written.get(at..at + 1) == Some("+") { '+' } else { '#' };
        let error = PatternError::new(
            start + at..start + at + 1,
            format!("`{wildcard}` must be a whole level, and here it is a part of `{written}`"),
        );
        match (self.syntax, wildcard) {
            (Syntax::Filter, _) => error,
            (Syntax::Rule, '+') => error.help("write `{name}` for a part of a level"),
            (Syntax::Rule, _) => error.help("write it behind a `/`, as the last level"),
        }
    }
}

/// Takes a level apart into the text before its capture, the capture, and the text behind it.
fn split(
    written: &str,
    start: usize,
) -> Result<(String, Option<Capture<'_>>, String), PatternError> {
    let (mut prefix, mut suffix) = (String::new(), String::new());
    let mut capture = None;
    let mut at = 0;
    while let Some(left) = written.get(at..).filter(|left| !left.is_empty()) {
        let text = if capture.is_none() { &mut prefix } else { &mut suffix };
        let plain = left.find(['{', '}']).unwrap_or(left.len());
        if plain > 0 {
            text.push_str(left.get(..plain).unwrap_or_default());
            at += plain;
        } else if left.starts_with("{{") || left.starts_with("}}") {
            text.push_str(left.get(..1).unwrap_or_default());
            at += 2;
        } else {
            let found = braces(left, start + at)?;
            if capture.is_some() {
                return Err(PatternError::new(found.range, "a level holds at most one capture")
                    .help("where one capture ends and the next begins would not be certain"));
            }
            at += found.range.len();
            capture = Some(found);
        }
    }
    Ok((prefix, capture, suffix))
}

/// Reads the capture that `left` begins with; `start` is its place in the pattern.
fn braces(left: &str, start: usize) -> Result<Capture<'_>, PatternError> {
    let Some(inside) = left.strip_prefix('{') else {
        return Err(PatternError::new(start..start + 1, "this `}` closes nothing")
            .help("write `}}` for the character itself"));
    };
    let Some(end) = inside.find('}') else {
        return Err(PatternError::new(
            start..start + left.len(),
            "this `{` is not closed inside its level",
        )
        .help("write `{name}` for a capture, and `{{` for the character itself"));
    };
    let written = inside.get(..end).unwrap_or_default();
    let range = start..start + end + 2;
    let (name, rest) = match written.strip_suffix("...") {
        Some(name) => (name, true),
        None => (written, false),
    };
    if name.is_empty() {
        return Err(PatternError::new(range, "the capture has no name")
            .help("write `{name}`, or `+` where the text is not needed"));
    }
    check_name(name, range.start + 1)?;
    Ok(Capture { name, rest, range })
}

/// Checks the name of a capture; `start` is its place in the pattern.
fn check_name(name: &str, start: usize) -> Result<(), PatternError> {
    let range = start..start + name.len();
    if name.len() > NAME_BYTES_MAX {
        return Err(PatternError::new(
            range,
            format!("the name of a capture has at most {NAME_BYTES_MAX} bytes"),
        ));
    }
    let fits = |(number, char): (usize, char)| {
        char == '_' || char.is_ascii_alphabetic() || number > 0 && char.is_ascii_digit()
    };
    if name.chars().enumerate().all(fits) {
        return Ok(());
    }
    let error = PatternError::new(range, format!("`{name}` cannot be the name of a capture"));
    let plain = name.trim().trim_end_matches(['*', '#', '+', '.']).replace(['-', '.', ' '], "_");
    if !plain.is_empty() && plain.chars().enumerate().all(fits) {
        return Err(error.help(if name.ends_with(['*', '#', '.']) {
            format!("write `{{{plain}...}}` for all levels that follow")
        } else {
            format!("write `{{{plain}}}`")
        }));
    }
    Err(error.help("a name is a letter or `_`, then letters, digits and `_`"))
}
