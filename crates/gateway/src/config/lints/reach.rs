//! Routes that never get a message.

use transload_routing::Index;

use super::super::{check::Check, finding::Finding, routes::Declared};
use super::{PAIRS_MAX, sample};

/// The patterns of the routes that end the way to others.
struct Ends<'a> {
    routes: &'a [Declared],
    /// The place of a route and of its pattern.
    index: Index<(usize, usize)>,
    pairs_left: usize,
}

impl Check<'_> {
    /// Reports the routes that never get a message.
    pub(super) fn unreachable(&mut self, routes: &[Declared]) {
        let mut ends = Ends { routes, index: Index::new(), pairs_left: PAIRS_MAX };
        // A fallback comes behind all others, so every other route ends the way to it.
        let is = |fallback: bool| {
            let numbered = routes.iter().enumerate();
            numbered.filter(move |(_, declared)| declared.route.fallback == fallback)
        };
        for (number, declared) in is(false) {
            self.check_reach(declared, &mut ends);
            if declared.route.stop {
                ends.enter(number, declared);
            }
        }
        if is(true).next().is_none() {
            return;
        }
        for (number, declared) in is(false).filter(|(_, declared)| !declared.route.stop) {
            ends.enter(number, declared);
        }
        for (number, declared) in is(true) {
            self.check_reach(declared, &mut ends);
            if declared.route.stop {
                ends.enter(number, declared);
            }
        }
    }

    /// Reports a route all of whose patterns are covered by routes that end the way to it.
    fn check_reach(&mut self, declared: &Declared, ends: &mut Ends<'_>) {
        let Some(other) = ends.taker(declared) else { return };
        let message = format!("route `{}` never gets a message", declared.route.name);
        let why = if other.route.stop {
            "this route takes them all, and stops"
        } else {
            "this route takes them all, so nothing is left for a fallback"
        };
        let help = "put it before that route, or give one of them another pattern".to_owned();
        let finding = Finding::warning(declared.place.clone(), message).with_help(help);
        self.report(finding.with_related(other.place.clone(), why));
    }
}

impl<'a> Ends<'a> {
    fn enter(&mut self, number: usize, declared: &Declared) {
        // What a condition lets go is there for others.
        if declared.route.when.is_some() {
            return;
        }
        for (place, pattern) in declared.route.patterns.iter().enumerate() {
            self.index.insert(pattern, (number, place), ());
        }
    }

    /// One of the routes that together take all that a route might get.
    fn taker(&mut self, declared: &Declared) -> Option<&'a Declared> {
        if self.index.is_empty() {
            return None;
        }
        let mut last = None;
        for pattern in &declared.route.patterns {
            let mut taker = None;
            let (routes, pairs_left) = (self.routes, &mut self.pairs_left);
            self.index.matches(&sample(pattern), |(number, place), ()| {
                *pairs_left = pairs_left.saturating_sub(1);
                let Some(other) = routes.get(*number).filter(|_| *pairs_left > 0) else { return };
                let outer = other.route.patterns.get(*place);
                let takes = outer.is_some_and(|outer| outer.covers(pattern))
                    && declared.route.from.iter().all(|from| other.route.from.contains(from));
                // The index gives no order; the first one in the file explains best.
                if takes && taker.is_none_or(|known| *number < known) {
                    taker = Some(*number);
                }
            });
            last = Some(taker?);
        }
        self.routes.get(last?)
    }
}
