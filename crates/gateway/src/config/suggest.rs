//! «Did you mean».

/// The known name that is most like a misspelt one, if any is like it enough.
pub(super) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let distance = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // A word that was begun or continued is a likely slip: `exchange_name`, `routing`.
        let begun = candidate.len() > 2
            && wanted.len() > 2
            && (candidate.starts_with(&wanted) || wanted.starts_with(&candidate));
        if begun { 1 } else { strsim::damerau_levenshtein(&candidate, &wanted) }
    };
    known
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A help text for a name that is not known: the closest one, or else all of them.
pub(super) fn help(name: &str, known: &[&str], what: &str) -> Option<String> {
    /// How many names a person reads without getting lost.
    const LISTED_MAX: usize = 16;
    if let Some(closest) = closest(name, known.iter().copied()) {
        return Some(format!("did you mean `{closest}`?"));
    }
    if known.is_empty() {
        return None;
    }
    let mut listed =
        known.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    if known.len() > LISTED_MAX {
        listed.push("…".to_owned());
    }
    Some(format!("{what}: {}", listed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_offered() {
        for (name, known, expected) in [
            ("rotuing_key", &["exchange", "routing_key"][..], Some("routing_key")),
            ("Exchange", &["exchange"], Some("exchange")),
            ("exchange_name", &["exchange", "queue"], Some("exchange")),
            ("lisen", &["listen", "url"], Some("listen")),
            ("ulr", &["listen", "url"], Some("url")),
            ("xyz", &["listen", "url"], None),
            ("", &["listen", "url"], None),
        ] {
            assert_eq!(closest(name, known.iter().copied()), expected, "{name}");
        }
    }
}
