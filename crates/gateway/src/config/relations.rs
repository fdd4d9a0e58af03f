//! What routes have to do with each other and with themselves.

use std::collections::HashMap;

use transload_routing::{Level, Pattern};

use super::{
    adapters::{Adapters, RoleOf},
    check::Check,
    finding::Finding,
    routes::Declared,
};

/// How many pairs of patterns are compared; what goes beyond is not looked at, so that a file with
/// very many routes still loads at once.
const PAIRS_MAX: usize = 2_000_000;

impl Check<'_> {
    /// Looks for routes that never get a message, and for those that feed themselves.
    pub(super) fn relations(&mut self, routes: &[Declared], adapters: &Adapters<'_>) {
        self.unreachable(routes);
        for declared in routes {
            self.loops(declared, adapters);
        }
    }

    fn unreachable(&mut self, routes: &[Declared]) {
        let mut ends: HashMap<First<'_>, Vec<(&Declared, &Pattern)>> = HashMap::new();
        let mut pairs_left = PAIRS_MAX;
        // A fallback comes behind all others, so every other route ends the way to it.
        let (fallbacks, ordinary): (Vec<_>, Vec<_>) =
            routes.iter().partition(|declared| declared.route.fallback);
        for declared in &ordinary {
            self.check_reach(declared, &ends, &mut pairs_left);
            if declared.route.stop {
                enter(declared, &mut ends);
            }
        }
        for declared in ordinary.iter().filter(|declared| !declared.route.stop) {
            enter(declared, &mut ends);
        }
        for declared in &fallbacks {
            self.check_reach(declared, &ends, &mut pairs_left);
            if declared.route.stop {
                enter(declared, &mut ends);
            }
        }
    }

    /// Reports a route all of whose patterns are covered by routes that end the way to it.
    fn check_reach(
        &mut self,
        declared: &Declared,
        ends: &HashMap<First<'_>, Vec<(&Declared, &Pattern)>>,
        pairs_left: &mut usize,
    ) {
        let mut culprit = None;
        for pattern in &declared.route.patterns {
            let firsts = [first(pattern), First::Wild];
            let firsts = if firsts[0] == First::Wild { &firsts[1..] } else { &firsts[..] };
            let mut candidates = firsts.iter().filter_map(|first| ends.get(first)).flatten();
            let covering = candidates.find(|(other, outer)| {
                *pairs_left = pairs_left.saturating_sub(1);
                *pairs_left > 0
                    && outer.covers(pattern)
                    && declared.route.from.iter().all(|from| other.route.from.contains(from))
            });
            let Some((other, _)) = covering else { return };
            culprit = Some(*other);
        }
        let Some(other) = culprit else { return };
        let message = format!("route `{}` never gets a message", declared.route.name);
        let why = if other.route.stop {
            "this route takes them all, and stops"
        } else {
            "this route takes them all, so nothing is left for a fallback"
        };
        let finding = Finding::warning(declared.place.clone(), message);
        self.report(finding.with_related(other.place.clone(), why));
    }

    /// Reports a target at a broker that sends back what the route takes from there.
    fn loops(&mut self, declared: &Declared, adapters: &Adapters<'_>) {
        let route = &declared.route;
        for (target, (templates, place)) in
            route.to.iter().zip(declared.templates.iter().zip(&declared.targets))
        {
            let Some(adapter) = adapters.get(target.adapter) else { continue };
            // A listener does not hear what it sends itself.
            let is_client = adapter.kind.is_some_and(|RoleOf(kind)| kind.role_key() == "url");
            if !is_client || !route.from.contains(&target.adapter) {
                continue;
            }
            // What a pattern that starts with a wildcard takes depends on more than the address.
            let patterns = route.patterns.iter().filter(|pattern| first(pattern) != First::Wild);
            let back = templates.iter().find(|(_, _, template)| {
                patterns.clone().any(|pattern| returns(template.as_str(), pattern))
            });
            if let Some((key, key_place, _)) = back {
                let message = format!(
                    "what this route sends to `{}` may come back to it: its `{key}` matches the \
                     route's own pattern",
                    adapter.name
                );
                let help = "send it to another address, or take it from other adapters".to_owned();
                let finding = Finding::warning(key_place.clone(), message).with_help(help);
                self.report(finding.with_related(place.clone(), "this target"));
            }
        }
    }
}

/// The first level of a pattern, where it is a text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum First<'a> {
    Text(&'a str),
    Wild,
}

fn first(pattern: &Pattern) -> First<'_> {
    match pattern.levels().first() {
        Some(Level::Literal(text)) => First::Text(text),
        Some(Level::Any { .. } | Level::Affixed(_) | Level::Rest { .. }) | None => First::Wild,
    }
}

fn enter<'a>(
    declared: &'a Declared,
    ends: &mut HashMap<First<'a>, Vec<(&'a Declared, &'a Pattern)>>,
) {
    for pattern in &declared.route.patterns {
        ends.entry(first(pattern)).or_default().push((declared, pattern));
    }
}

/// Whether every text that the template comes to is an address that the pattern matches, as far as
/// that can be told without a message. Both `/` and `.` separate levels in templates.
fn returns(template: &str, pattern: &Pattern) -> bool {
    // With its references as captures, the template is itself a pattern over the addresses that it
    // comes to.
    let as_pattern = |text: &str| Pattern::parse(text).ok().filter(|inner| pattern.covers(inner));
    !template.is_empty()
        && (as_pattern(template).is_some()
            || (!template.contains('/') && as_pattern(&template.replace('.', "/")).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_come_back_are_recognised() {
        for (template, pattern, expected) in [
            ("a/b", "a/b", true),
            ("a.b", "a/+", true),
            ("commands.{id}", "commands/{id}", true),
            ("commands.{id}", "commands/x", false),
            ("other.{id}", "commands/{id}", false),
            ("", "#", false),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(returns(template, &pattern), expected, "{template}");
        }
    }
}
