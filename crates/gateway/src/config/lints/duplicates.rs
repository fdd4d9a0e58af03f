//! Messages that two targets send to the same place.

use foldhash::{HashMap, HashMapExt as _};

use super::super::{check::Check, finding::Finding, json::JsonTable, routes::Declared};
use super::PAIRS_MAX;

/// One target of one route.
type At<'a> = (&'a Declared, usize);

impl Check<'_> {
    /// Reports targets that get a second copy of what another target sends to the same place.
    pub(super) fn duplicates(&mut self, routes: &[Declared]) {
        let mut seen: HashMap<(usize, &JsonTable), Vec<At<'_>>> = HashMap::new();
        let mut pairs_left = PAIRS_MAX;
        for declared in routes {
            for (number, target) in declared.route.to.iter().enumerate() {
                let others = seen.entry((target.adapter, &target.keys)).or_default();
                let looked_at = others.len().min(pairs_left);
                pairs_left -= looked_at;
                let mut looked_at = others.iter().take(looked_at);
                let twin = looked_at.find(|other| sends_the_same(**other, (declared, number)));
                if let Some(twin) = twin {
                    self.report_duplicate(*twin, (declared, number));
                }
                others.push((declared, number));
            }
        }
    }

    fn report_duplicate(&mut self, (first, number): At<'_>, (second, own): At<'_>) {
        let (Some(place), Some(other)) = (second.targets.get(own), first.targets.get(number))
        else {
            return;
        };
        let message = if first.route.name == second.route.name {
            "this target stands here twice, and gets every message twice".to_owned()
        } else {
            format!("this target gets messages twice: route `{}` sends them too", first.route.name)
        };
        let help = "leave one of them out, or let the first route say `stop = true`".to_owned();
        let finding = Finding::warning(place.clone(), message).with_help(help);
        self.report(finding.with_related(other.clone(), "the other one"));
    }
}

/// Whether some message surely goes through both. `first` stands before `second` in the file.
fn sends_the_same((first, number): At<'_>, (second, own): At<'_>) -> bool {
    let (one, two) = (&first.route, &second.route);
    if std::ptr::eq(one, two) {
        return true;
    }
    let templated = |declared: &Declared, number: usize| {
        declared.route.to.get(number).is_none_or(|target| !target.templates.is_empty())
    };
    let same_patterns = |wide: bool| {
        one.patterns.iter().any(|left| {
            two.patterns.iter().any(|right| {
                left.as_str() == right.as_str()
                    || wide && (left.covers(right) || right.covers(left))
            })
        })
    };
    one.when.is_none()
        && two.when.is_none()
        && !one.stop
        && one.fallback == two.fallback
        && one.from.iter().any(|from| two.from.contains(from))
        && same_patterns(!templated(first, number) && !templated(second, own))
}
