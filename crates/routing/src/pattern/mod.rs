//! Canonical patterns.
//!
//! A pattern is a list of levels separated by `/`, in the sense of MQTT 5.0, section 4.7:
//!
//! | written | matches | captures |
//! |---|---|---|
//! | `text` | exactly this level, in this letter case | |
//! | `+` | any one level, also an empty one | |
//! | `{name}` | the same | the level |
//! | `dev-{name}.raw` | a level that starts with `dev-` and ends with `.raw` | what is between; may be empty |
//! | `#` | all levels that follow, also none: `sport/#` matches `sport` | |
//! | `{name...}` | the same | the levels with their `/`; empty when there are none |
//! | `{{`, `}}` | a brace | |
//!
//! - `#` and `{name...}` are whole levels and come last. `+` is a whole level. A level holds one
//!   capture at most.
//! - A pattern that starts with a wildcard does not match an address that starts with `$`
//!   (MQTT 5.0, section 4.7.2). `{name}-dev` starts with a wildcard, `dev-{name}` does not, and
//!   `$dev-{name}` is refused there, since no topic filter reaches that far.
//! - A leading `/` makes an empty first level: `/a` and `a` are different.
//! - The name of a capture is an identifier: a letter or `_`, then letters, digits and `_`.

mod parse;
mod relation;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc};

use transload_envelope::Text;

use crate::PatternError;

/// How long a pattern may be, in bytes.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// How many levels a pattern may have.
pub const LEVELS_MAX: usize = 128;
/// How many captures a pattern may have.
pub const CAPTURES_MAX: usize = 16;

/// What one level of a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Exactly this text, without any escape; may be empty.
    Literal(Box<str>),
    /// Any one level: `+` or `{name}`.
    Any {
        /// Whether it is a capture.
        captured: bool,
    },
    /// A capture with text around it. At least one of prefix and suffix is not empty.
    Affixed(Box<Affix>),
    /// All further levels, also none: `#` or `{name...}`. The last level of its pattern.
    Rest {
        /// Whether it is a capture.
        captured: bool,
    },
}

/// The text around a capture inside a level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Affix {
    /// Before the capture.
    pub prefix: Box<str>,
    /// Behind the capture.
    pub suffix: Box<str>,
}

impl Affix {
    /// What is between prefix and suffix, if the level has both and they do not overlap.
    fn strip<'a>(&self, level: &'a str) -> Option<&'a str> {
        level.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)
    }
}

/// A pattern over addresses.
///
/// | written | matches |
/// |---|---|
/// | `text` | exactly this level |
/// | `+`, `{name}` | any one level, also an empty one |
/// | `dev-{name}.raw` | one level with this start and this end |
/// | `#`, `{name...}` | all levels that follow, also none; comes last |
/// | `{{`, `}}` | a brace |
///
/// A pattern that starts with a wildcard does not match an address that starts with `$`.
///
/// Cheap to clone: the rules of a large file are in several tables.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<Parsed>);

#[derive(PartialEq, Eq, Hash)]
struct Parsed {
    source: Box<str>,
    levels: Box<[Level]>,
    captures: Box<[Text]>,
}

impl Pattern {
    /// Parses a pattern as it stands in a rule.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        parse::pattern(text, parse::Syntax::Rule)
    }

    /// Parses an MQTT topic filter (MQTT 5.0, section 4.7): there are no captures, and braces are
    /// ordinary characters. The prefix of a shared subscription is not part of the filter.
    pub fn parse_filter(text: &str) -> Result<Self, PatternError> {
        parse::pattern(text, parse::Syntax::Filter)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0.source
    }

    /// What each level matches, from left to right; never empty.
    pub fn levels(&self) -> &[Level] {
        &self.0.levels
    }

    /// The names of the captures, from left to right.
    pub fn captures(&self) -> &[Text] {
        &self.0.captures
    }

    /// The pattern as an MQTT topic filter: captures become `+` and `#`. It matches every address
    /// that the pattern matches, and more where a capture has text around it.
    pub fn to_filter(&self) -> String {
        let mut filter = String::with_capacity(self.0.source.len());
        for (number, level) in self.0.levels.iter().enumerate() {
            if number > 0 {
                filter.push('/');
            }
            filter.push_str(match level {
                Level::Literal(text) => text,
                Level::Any { .. } | Level::Affixed(_) => "+",
                Level::Rest { .. } => "#",
            });
        }
        filter
    }

    /// The captured texts if the pattern matches the address. Takes time in the length of the
    /// address, and allocates nothing.
    pub fn matches<'p, 'a>(&'p self, address: &'a str) -> Option<Captures<'p, 'a>> {
        if self.starts_with_wildcard() && address.starts_with('$') {
            return None;
        }
        let mut captures = Captures { names: &self.0.captures, values: [""; CAPTURES_MAX], len: 0 };
        let mut left = Some(address);
        for level in &self.0.levels {
            if let Level::Rest { captured } = level {
                if *captured {
                    captures.push(left.unwrap_or_default());
                }
                left = None;
                break;
            }
            let (head, tail) = match left?.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (left?, None),
            };
            match level {
                Level::Literal(text) if **text == *head => {}
                Level::Any { captured: true } => captures.push(head),
                Level::Any { captured: false } => {}
                Level::Affixed(affix) => captures.push(affix.strip(head)?),
                Level::Literal(_) | Level::Rest { .. } => return None,
            }
            left = tail;
        }
        left.is_none().then_some(captures)
    }

    /// Whether some address matches both patterns. Exact.
    pub fn overlaps(&self, other: &Self) -> bool {
        relation::overlaps(self, other)
    }

    /// Whether every address that matches `other` matches this pattern too. Exact.
    pub fn covers(&self, other: &Self) -> bool {
        relation::covers(self, other)
    }

    /// Whether an address that starts with `$` is out of reach (MQTT 5.0, section 4.7.2).
    fn starts_with_wildcard(&self) -> bool {
        match self.0.levels.first() {
            Some(Level::Any { .. } | Level::Rest { .. }) => true,
            Some(Level::Affixed(affix)) => affix.prefix.is_empty(),
            Some(Level::Literal(_)) | None => false,
        }
    }

    /// Whether every address that matches starts with `$`; otherwise none does.
    fn starts_with_dollar(&self) -> bool {
        match self.0.levels.first() {
            Some(Level::Literal(text)) => text.starts_with('$'),
            Some(Level::Any { .. } | Level::Rest { .. } | Level::Affixed(_)) | None => false,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.source)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0.source)
    }
}

/// What a pattern captured from an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures<'p, 'a> {
    names: &'p [Text],
    values: [&'a str; CAPTURES_MAX],
    len: usize,
}

impl<'p, 'a> Captures<'p, 'a> {
    /// The text captured under this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and captured texts from left to right.
    pub fn iter(&self) -> impl Iterator<Item = (&'p str, &'a str)> + '_ {
        self.names.iter().map(|name| &**name).zip(self.values.iter().copied()).take(self.len)
    }

    fn push(&mut self, value: &'a str) {
        if let Some(place) = self.values.get_mut(self.len) {
            *place = value;
            self.len += 1;
        }
    }

    /// How many captures there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the pattern has no captures.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
