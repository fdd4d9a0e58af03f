//! Routes that feed themselves, by themselves or by way of others.

use transload_routing::{Index, Pattern};

use super::super::{
    adapters::{Adapters, RoleOf},
    check::Check,
    finding::Finding,
    routes::Declared,
    source::Place,
};
use super::{PAIRS_MAX, sample, starts_wild};

/// A way from a route to one that takes what it sends.
#[derive(Clone, Debug)]
struct Way {
    to: usize,
    /// The key of the target that says where it goes, and its place.
    key: String,
    place: Place,
    target: Place,
    adapter: usize,
}

impl Check<'_> {
    /// Reports each circle that messages may run in, once.
    pub(super) fn loops(&mut self, routes: &[Declared], adapters: &Adapters<'_>) {
        let ways = ways(routes, adapters);
        for (number, ways) in ways.iter().enumerate() {
            if let Some(way) = ways.iter().find(|way| way.to == number) {
                self.report_own_loop(way, adapters);
            }
        }
        for circle in circles(&ways) {
            self.report_circle(&circle, routes, adapters);
        }
    }

    fn report_own_loop(&mut self, way: &Way, adapters: &Adapters<'_>) {
        let adapter = adapters.get(way.adapter).map_or("", |adapter| &adapter.name);
        let message = format!(
            "what this route sends to `{adapter}` may come back to it: its {} matches the route's \
             own pattern",
            way.key
        );
        let help = "send it to another address, or take it from other adapters".to_owned();
        let finding = Finding::warning(way.place.clone(), message).with_help(help);
        self.report(finding.with_related(way.target.clone(), "this target"));
    }

    fn report_circle(&mut self, circle: &[&Way], routes: &[Declared], adapters: &Adapters<'_>) {
        let Some((first, others)) = circle.split_first() else { return };
        let name = |way: &Way| routes.get(way.to).map_or("", |declared| &declared.route.name);
        // The last way leads back to the route that the first one starts from.
        let through: Vec<_> = circle
            .split_last()
            .map(|(_, through)| through.iter().map(|way| format!("`{}`", name(way))).collect())
            .unwrap_or_default();
        let adapter = adapters.get(first.adapter).map_or("", |adapter| &adapter.name);
        let message = format!(
            "what this route sends to `{adapter}` may come back to it by way of {}",
            through.join(", ")
        );
        let help = "send it to another address, or take it from other adapters".to_owned();
        let mut finding = Finding::warning(first.place.clone(), message).with_help(help);
        for way in others {
            finding = finding.with_related(way.place.clone(), "it is sent on here");
        }
        self.report(finding);
    }
}

/// The ways from each route.
fn ways(routes: &[Declared], adapters: &Adapters<'_>) -> Vec<Vec<Way>> {
    // Only what a client sends can come back. A condition may be what ends the circle.
    let echoes = |declared: &&Declared| {
        let route = &declared.route;
        route.when.is_none() && route.from.iter().any(|from| is_client(*from, adapters))
    };
    let mut index = Index::new();
    for (number, declared) in routes.iter().enumerate().filter(|(_, declared)| echoes(declared)) {
        for (place, pattern) in declared.route.patterns.iter().enumerate() {
            // What a pattern that starts with a wildcard takes depends on more than the address.
            if !starts_wild(pattern) {
                index.insert(pattern, (number, place), ());
            }
        }
    }
    let mut pairs_left = PAIRS_MAX;
    let from = |declared: &Declared| {
        let mut ways: Vec<Way> = Vec::new();
        for target in targets(declared, adapters) {
            for (pattern, key, place) in &target.sent {
                index.matches(&sample(pattern), |(to, number), ()| {
                    pairs_left = pairs_left.saturating_sub(1);
                    let taker = routes.get(*to).filter(|_| pairs_left > 0);
                    let takes = taker.is_some_and(|taker| {
                        let route = &taker.route;
                        route.from.contains(&target.adapter)
                            && route.patterns.get(*number).is_some_and(|own| own.covers(pattern))
                    });
                    if takes && !ways.iter().any(|way| way.to == *to) {
                        ways.push(Way {
                            to: *to,
                            key: key.clone(),
                            place: place.clone(),
                            target: target.place.clone(),
                            adapter: target.adapter,
                        });
                    }
                });
            }
        }
        ways
    };
    routes.iter().map(from).collect()
}

/// Whether an adapter hears what it sends; a listener does not.
fn is_client(adapter: usize, adapters: &Adapters<'_>) -> bool {
    let adapter = adapters.get(adapter).and_then(|adapter| adapter.kind);
    adapter.is_some_and(|RoleOf(kind)| kind.role_key() == "url")
}

/// A target at a broker that may send back what it gets.
struct Sender {
    adapter: usize,
    place: Place,
    /// Which addresses it sends to, the key that says so, and its place.
    sent: Vec<(Pattern, String, Place)>,
}

fn targets(declared: &Declared, adapters: &Adapters<'_>) -> Vec<Sender> {
    let all = declared.route.to.iter().zip(declared.templates.iter().zip(&declared.targets));
    let sender = |(target, (templates, place)): (_, (&Vec<(_, Place, _)>, &Place))| {
        let target: &super::super::model::RouteTarget = target;
        if !is_client(target.adapter, adapters) {
            return None;
        }
        let written = templates.iter().flat_map(|(key, key_place, template)| {
            let template: &transload_routing::Template = template;
            let key: &transload_envelope::Text = key;
            sent_to(template.as_str())
                .into_iter()
                .map(move |pattern| (pattern, format!("`{key}`"), key_place.clone()))
        });
        let mut sent: Vec<_> = written.collect();
        if templates.is_empty() {
            // Its address stays what it is.
            let own = declared.route.patterns.iter();
            sent.extend(own.map(|pattern| (pattern.clone(), "address".to_owned(), place.clone())));
        }
        Some(Sender { adapter: target.adapter, place: place.clone(), sent })
    };
    all.filter_map(sender).collect()
}

/// The addresses that a template comes to, as patterns: with its references as captures it is itself
/// one. Both `/` and `.` separate levels in templates.
fn sent_to(template: &str) -> Vec<Pattern> {
    if template.is_empty() {
        return Vec::new();
    }
    let dotted = (!template.contains('/')).then(|| template.replace('.', "/"));
    let texts = [Some(template.to_owned()), dotted.filter(|dotted| dotted != template)];
    texts.into_iter().flatten().filter_map(|text| Pattern::parse(&text).ok()).collect()
}

/// The circles of more than one route, each from its first route on. A walk ends at a circle or where
/// an earlier walk has been, so that all of it takes no longer than looking at all ways once.
fn circles(ways: &[Vec<Way>]) -> Vec<Vec<&Way>> {
    let mut walk = Walk { seen: vec![Seen::Not; ways.len()], circles: Vec::new() };
    for start in 0..ways.len() {
        walk.from(start, ways);
    }
    walk.circles
}

/// What is known of a route during the walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Not,
    /// It is on the present walk, at this place.
    At(usize),
    Done,
}

struct Walk<'w> {
    seen: Vec<Seen>,
    circles: Vec<Vec<&'w Way>>,
}

impl<'w> Walk<'w> {
    fn see(&mut self, route: usize, seen: Seen) {
        if let Some(entry) = self.seen.get_mut(route) {
            *entry = seen;
        }
    }

    fn from(&mut self, start: usize, ways: &'w [Vec<Way>]) {
        if self.seen.get(start) != Some(&Seen::Not) {
            return;
        }
        // The routes on the walk, the number of the next way to try from each, and the ways between.
        let mut routes = vec![(start, 0_usize)];
        let mut path: Vec<&'w Way> = Vec::new();
        self.see(start, Seen::At(0));
        while let Some((at, next)) = routes.last_mut() {
            let way = ways.get(*at).and_then(|ways| ways.get(*next));
            let from = *at;
            *next += 1;
            let Some(way) = way else {
                self.see(from, Seen::Done);
                routes.pop();
                path.pop();
                continue;
            };
            match self.seen.get(way.to).copied() {
                Some(Seen::Not) => {
                    self.see(way.to, Seen::At(routes.len()));
                    routes.push((way.to, 0));
                    path.push(way);
                }
                Some(Seen::At(place)) if way.to != from => {
                    let mut circle = path.get(place..).unwrap_or_default().to_vec();
                    circle.push(way);
                    self.circles.push(circle);
                }
                Some(Seen::At(_) | Seen::Done) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::source::Sources;
    use super::*;

    #[test]
    fn each_circle_is_found_once() {
        let place =
            || Place { file: Sources::default().add("x".into(), String::new()), span: 0..0 };
        let way =
            |to: usize| Way { to, key: String::new(), place: place(), target: place(), adapter: 0 };
        let check = |edges: &[&[usize]], expected: &[&[usize]]| {
            let ways: Vec<Vec<Way>> =
                edges.iter().map(|to| to.iter().map(|to| way(*to)).collect()).collect();
            let found: Vec<Vec<usize>> = circles(&ways)
                .iter()
                .map(|circle| circle.iter().map(|way| way.to).collect())
                .collect();
            assert_eq!(found, expected, "{edges:?}");
        };
        check(&[&[1], &[0]], &[&[1, 0]]);
        check(&[&[0, 1], &[]], &[]);
        check(&[&[1], &[2], &[1, 3], &[]], &[&[2, 1]]);
        check(&[&[1], &[2], &[0], &[1], &[5], &[4]], &[&[1, 2, 0], &[5, 4]]);
        check(&[&[1, 2], &[3], &[3], &[]], &[]);
    }

    #[test]
    fn templates_are_patterns_of_what_they_come_to() {
        for (template, pattern, expected) in [
            ("a/b", "a/b", true),
            ("a.b", "a/+", true),
            ("commands.{id}", "commands/{id}", true),
            ("commands.{id}", "commands/x", false),
            ("{id}", "commands/{id}", false),
            ("", "#", false),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let found = sent_to(template).iter().any(|sent| pattern.covers(sent));
            assert_eq!(found, expected, "{template}");
        }
    }
}
