//! What routes have to do with each other and with themselves.
//!
//! Patterns are looked up in an index, so that the time grows with the number of routes and not with
//! its square: a pattern that covers another one matches a sample of what that one matches.

mod duplicates;
mod loops;
mod reach;

use transload_routing::{Level, Pattern};

use super::{adapters::Adapters, check::Check, routes::Declared};

/// How many pairs of routes are compared by each lint; what goes beyond is not looked at, so that a
/// file in which very many routes match the same addresses still loads at once.
const PAIRS_MAX: usize = 2_000_000;

impl Check<'_> {
    /// Looks for routes that never get a message, for those that feed themselves, and for targets that
    /// get messages twice.
    pub(super) fn relations(&mut self, routes: &[Declared], adapters: &Adapters<'_>) {
        self.unreachable(routes);
        self.loops(routes, adapters);
        self.duplicates(routes);
    }
}

/// Whether the first level of a pattern is not a text.
fn starts_wild(pattern: &Pattern) -> bool {
    !matches!(pattern.levels().first(), Some(Level::Literal(_)))
}

/// An address that the pattern matches. What stands for a wildcard is in no pattern.
fn sample(pattern: &Pattern) -> String {
    const WILD: &str = "\u{1}";
    let mut address = String::with_capacity(pattern.as_str().len() + WILD.len());
    for (number, level) in pattern.levels().iter().enumerate() {
        if number > 0 {
            address.push('/');
        }
        match level {
            Level::Literal(text) => address.push_str(text),
            Level::Any { .. } | Level::Rest { .. } => address.push_str(WILD),
            Level::Affixed(affix) => address.extend([&*affix.prefix, WILD, &*affix.suffix]),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_matched_by_their_patterns_and_by_those_that_cover_them() {
        for text in ["a/b", "{x}/b", "a/dev-{x}.raw/#", "{rest...}", "$x/#"] {
            let pattern = Pattern::parse(text).unwrap();
            assert!(pattern.matches(&sample(&pattern)).is_some(), "{text}");
            for other in ["#", "+/#", "+/b", "a/#", "a/+/#", "$x/+"] {
                let other = Pattern::parse(other).unwrap();
                if other.covers(&pattern) {
                    assert!(other.matches(&sample(&pattern)).is_some(), "{other} {text}");
                }
            }
        }
    }
}
