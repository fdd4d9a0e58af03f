//! Addresses in both forms: levels separated by `/` here, words separated by `.` at the broker.

use std::{borrow::Cow, collections::HashSet};

use schemars::JsonSchema;
use serde::Deserialize;

/// How a routing key becomes an address and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressMapping {
    /// Swaps `.` and `/`, as RabbitMQ's MQTT plugin does. Nothing is lost in either direction, but
    /// a dot inside a level is a `/` inside a word at the broker.
    #[default]
    Swap,
    /// Writes `/` as `.`, and percent-encodes `%`, `.`, `/`, `*` and `#` inside a level.
    Percent,
    /// As nats-server maps MQTT topics: `/` as `.`, `.` as `//`, an empty level with a `/`.
    Nats,
}

impl AddressMapping {
    /// The routing key for an address. Together with [`Self::to_address`] it gives the address back.
    pub(crate) fn to_key(self, address: &str) -> String {
        match self {
            Self::Swap => swap(address),
            Self::Percent => percent_encode(address),
            Self::Nats => nats_encode(address),
        }
    }

    /// The address for a routing key, whoever wrote it.
    pub(crate) fn to_address(self, key: &str) -> String {
        match self {
            Self::Swap => swap(key),
            Self::Percent => percent_decode(key),
            Self::Nats => nats_decode(key),
        }
    }
}

fn swap(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// What is special to this mapping on either side, with its code.
const CODES: [(char, &str); 5] =
    [('%', "%25"), ('.', "%2E"), ('/', "%2F"), ('*', "%2A"), ('#', "%23")];

fn percent_encode(address: &str) -> String {
    let mut key = String::with_capacity(address.len());
    for c in address.chars() {
        match CODES.iter().find(|(special, _)| *special == c) {
            _ if c == '/' => key.push('.'),
            Some((_, code)) => key.push_str(code),
            None => key.push(c),
        }
    }
    key
}

fn percent_decode(key: &str) -> String {
    let mut address = String::with_capacity(key.len());
    let mut rest = key;
    while let Some(c) = rest.chars().next() {
        // A code for `/` stays a code: only a foreign publisher writes it, and inside a level.
        let code = CODES.iter().find(|(special, code)| *special != '/' && rest.starts_with(code));
        let taken = match (code, c) {
            (Some((special, code)), _) => {
                address.push(*special);
                code.len()
            }
            (None, '.') => {
                address.push('/');
                1
            }
            (None, '/') => {
                address.push_str("%2F");
                1
            }
            (None, other) => {
                address.push(other);
                other.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    address
}

/// As `mqttToNATSSubjectConversion` in nats-server's `mqtt.go`.
fn nats_encode(address: &str) -> String {
    let mut key = String::with_capacity(address.len() + 8);
    let mut chars = address.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if key.is_empty() || key.ends_with('.') => key.push_str("/."),
            '/' if matches!(chars.peek(), None | Some('/')) => key.push_str("./"),
            '/' => key.push('.'),
            '.' => key.push_str("//"),
            other => key.push(other),
        }
    }
    key
}

/// As `natsSubjectToMQTTTopic` in nats-server's `mqtt.go`, except that a lone `/`, which only a
/// foreign publisher writes, is kept instead of dropped.
fn nats_decode(key: &str) -> String {
    let mut address = String::with_capacity(key.len());
    let mut chars = key.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('/', Some('.')) => {
                address.push('/');
                chars.next();
            }
            ('/', Some('/')) => {
                address.push('.');
                chars.next();
            }
            // A trailing empty level is written `./`, and the dot has said it all.
            ('/', None) if key.len() > 1 => {}
            ('.', _) => address.push('/'),
            (other, _) => address.push(other),
        }
    }
    address
}

/// The first word of a routing key that would be a wildcard in a binding.
///
/// Routing keys hold no wildcards, so the broker takes such a word literally; but the next bridge
/// that makes a subscription or a subject of it may not.
pub(crate) fn wildcard(key: &str) -> Option<&'static str> {
    key.split('.').find_map(|word| match word {
        "*" => Some("*"),
        "#" => Some("#"),
        _ => None,
    })
}

/// Whether some address can both match a route's pattern and come in by a binding of a topic
/// exchange; true also where it cannot be told.
pub(crate) fn can_match(pattern: &str, binding: &str, mapping: AddressMapping) -> bool {
    // In these cases the words of the key are not the levels of the address.
    let opaque = match mapping {
        AddressMapping::Swap => false,
        AddressMapping::Percent => binding.contains('%'),
        AddressMapping::Nats => binding.contains('/'),
    };
    if opaque {
        return true;
    }
    let levels: Vec<_> = pattern.split('/').map(Part::of_pattern).collect();
    let words: Vec<_> = binding.split('.').map(|word| Part::of_binding(word, mapping)).collect();
    overlap(&levels, &words, &mut HashSet::new())
}

/// Whether an address matches a route's pattern; true also where it cannot be told.
pub(crate) fn matches(pattern: &str, address: &str) -> bool {
    let levels: Vec<_> = pattern.split('/').map(Part::of_pattern).collect();
    let address: Vec<_> = address.split('/').map(|level| Part::Literal(level.into())).collect();
    overlap(&levels, &address, &mut HashSet::new())
}

#[derive(Debug, PartialEq)]
enum Part<'a> {
    Literal(Cow<'a, str>),
    One,
    Rest,
}

impl<'a> Part<'a> {
    fn of_pattern(level: &'a str) -> Self {
        match level {
            "#" => Self::Rest,
            "+" => Self::One,
            capture if capture.contains('{') => {
                if capture.contains(['#', '*']) || capture.contains("..") {
                    Self::Rest
                } else {
                    Self::One
                }
            }
            literal => Self::Literal(literal.into()),
        }
    }

    fn of_binding(word: &'a str, mapping: AddressMapping) -> Self {
        match word {
            "#" => Self::Rest,
            "*" => Self::One,
            literal => Self::Literal(mapping.to_address(literal).into()),
        }
    }
}

/// `hopeless` holds the pairs of remaining lengths that are known not to overlap, so that the work
/// is bounded by their number.
fn overlap(a: &[Part<'_>], b: &[Part<'_>], hopeless: &mut HashSet<(usize, usize)>) -> bool {
    if hopeless.contains(&(a.len(), b.len())) {
        return false;
    }
    let found = match (a, b) {
        ([], []) => true,
        ([Part::Rest, tail @ ..], _) if overlap(tail, b, hopeless) => true,
        (_, [Part::Rest, tail @ ..]) if overlap(a, tail, hopeless) => true,
        ([], _) | (_, []) => false,
        ([Part::Rest, ..], [_, tail @ ..]) => overlap(a, tail, hopeless),
        ([_, tail @ ..], [Part::Rest, ..]) => overlap(tail, b, hopeless),
        ([Part::Literal(x), ..], [Part::Literal(y), ..]) if x != y => false,
        ([_, a @ ..], [_, b @ ..]) => overlap(a, b, hopeless),
    };
    if !found {
        hopeless.insert((a.len(), b.len()));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AddressMapping::*, *};

    #[test]
    fn known_addresses_map_both_ways() {
        for (mapping, address, key) in [
            (Swap, "devices/d1/telemetry", "devices.d1.telemetry"),
            (Swap, "spBv1.0/plant", "spBv1/0.plant"),
            (Swap, "", ""),
            (Percent, "a.b/c*d/100%/#", "a%2Eb.c%2Ad.100%25.%23"),
            (Nats, "spBv1.0/plant1", "spBv1//0.plant1"),
            (Nats, "/a", "/.a"),
            (Nats, "a/", "a./"),
            (Nats, "a//b", "a./.b"),
            (Nats, "/", "/."),
        ] {
            assert_eq!(mapping.to_key(address), key, "{mapping:?} {address}");
            assert_eq!(mapping.to_address(key), address, "{mapping:?} {key}");
        }
    }

    #[test]
    fn foreign_keys_lose_nothing_readable() {
        assert_eq!(Percent.to_address("a/b.%41"), "a%2Fb/%41");
        assert_eq!(Nats.to_address("a/b"), "a/b");
    }

    #[test]
    fn wildcards_are_whole_words() {
        for (key, found) in
            [("a.*.b", Some("*")), ("#", Some("#")), ("a.b*", None), ("", None), ("a.#", Some("#"))]
        {
            assert_eq!(wildcard(key), found, "{key}");
        }
    }

    #[test]
    fn bindings_and_patterns_meet() {
        for (pattern, binding, expected) in [
            ("commands/{id}", "commands.*", true),
            ("commands/{id}", "commands.#", true),
            ("commands/{id}", "commands.a.b", false),
            ("commands/+", "events.*", false),
            ("commands/#", "commands", true),
            ("#", "anything.at.all", true),
            ("a/b/c", "#.c", true),
            ("a/b/c", "#.x.#", false),
            ("a/{rest...}", "a.b.c.d", true),
            ("a/+/c", "a.*", false),
        ] {
            assert_eq!(can_match(pattern, binding, Swap), expected, "{pattern} {binding}");
        }
        // Many wildcards must not make the check slow.
        assert!(!can_match(&"a/".repeat(60), &"#.a.".repeat(60).replace("a.#.a", "#.b.a"), Swap));
    }

    proptest! {
        #[test]
        fn every_address_survives_the_round_trip(address in "[a.b/%*#+ é2E]{0,24}") {
            for mapping in [Swap, Percent, Nats] {
                let key = mapping.to_key(&address);
                prop_assert_eq!(mapping.to_address(&key), &*address, "{:?} {}", mapping, key);
            }
        }

        #[test]
        fn swapping_keeps_every_foreign_key(key in "\\PC{0,24}") {
            prop_assert_eq!(Swap.to_key(&Swap.to_address(&key)), key);
        }

        #[test]
        fn percent_never_makes_a_wildcard(address in "[*#/.]{0,12}") {
            prop_assert_eq!(wildcard(&Percent.to_key(&address)), None);
        }
    }
}
