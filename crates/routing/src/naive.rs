//! What the tests compare with: a matcher as simple as it gets, which reads the text of a pattern
//! anew each time, and generators whose patterns and addresses often meet.

use proptest::{collection::vec, option, prelude::*, sample::select};

pub(crate) fn matches(pattern: &str, address: &str) -> bool {
    if address.starts_with('$') && pattern.starts_with(['+', '#', '{']) {
        return false;
    }
    let pattern: Vec<_> = pattern.split('/').collect();
    let address: Vec<_> = address.split('/').collect();
    levels_match(&pattern, &address)
}

fn levels_match(pattern: &[&str], address: &[&str]) -> bool {
    match (pattern, address) {
        (["#"], _) | ([], []) => true,
        ([level], _) if level.ends_with("...}") => true,
        ([level, pattern @ ..], [text, address @ ..]) => {
            level_matches(level, text) && levels_match(pattern, address)
        }
        _ => false,
    }
}

fn level_matches(level: &str, text: &str) -> bool {
    match (level.split_once('{'), level.split_once('}')) {
        _ if level == "+" => true,
        (Some((prefix, _)), Some((_, suffix))) => {
            text.len() >= prefix.len() + suffix.len()
                && text.starts_with(prefix)
                && text.ends_with(suffix)
        }
        _ => level == text,
    }
}

/// The text of a pattern.
pub(crate) fn pattern() -> impl Strategy<Value = String> {
    let literals = select(vec!["a", "b", "", "ab", "é", "$a", "n1", "n2", "n3", "n4", "n5", "n6"]);
    let captures = select(vec!["{}", "a{}", "{}b", "a{}b", "é{}", "{}é", "{}ab", "$a{}", "n{}"]);
    let level = prop_oneof![4 => literals, 2 => Just("+"), 3 => captures];
    let rest = option::of(select(vec!["#", "{rest...}"]));
    (vec(level, 0..5), rest).prop_map(|(levels, rest)| {
        let named = levels.iter().enumerate();
        let mut levels: Vec<_> =
            named.map(|(place, level)| level.replace("{}", &format!("{{c{place}}}"))).collect();
        levels.extend(rest.map(str::to_owned));
        // A first level that starts with `$` has no capture, and the empty text is no pattern.
        let text = levels.join("/").replacen("$a{c0}", "$a", 1);
        if text.is_empty() { "a".to_owned() } else { text }
    })
}

/// An address.
pub(crate) fn address() -> impl Strategy<Value = String> {
    let levels = vec![
        "a", "b", "", "ab", "é", "$a", "n1", "n2", "n3", "n4", "n5", "n6", "aab", "aéb", "éab", "ü",
    ];
    vec(select(levels), 1..6).prop_map(|levels| levels.join("/"))
}
