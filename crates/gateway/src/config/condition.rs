//! The condition `when` of a route, and the names that its expressions use.

use std::ops::Range;

use toml::Spanned;
use transload_routing::{Expression, Pattern, Predicate, When, WhenMissing};

use super::{
    check::Check,
    finding::Finding,
    settings::{RouteKeys, WhenMissingKey},
    source::{FileId, Place},
    suggest,
};

impl Check<'_> {
    /// Reads the condition of a route, `None` where there is none or it has faults. The patterns
    /// are those that could be read, or none where one could not.
    pub(super) fn condition(
        &mut self,
        file: FileId,
        keys: &RouteKeys,
        patterns: &[Pattern],
    ) -> Option<When> {
        let Some(when) = &keys.when else {
            if let Some(missing) = &keys.when_missing {
                let place = Place { file, span: missing.span() };
                let message = "`when_missing` says nothing without `when`";
                self.report(Finding::error(place, message));
            }
            return None;
        };
        let predicate = match Predicate::compile(when.get_ref()) {
            Ok(predicate) => predicate,
            Err(error) => {
                let place = self.inside(file, when.span(), when.get_ref(), error.range);
                self.report(Finding::error(place, error.message).with_help(error.help));
                return None;
            }
        };
        for (range, finding) in unknown_captures(predicate.expression(), patterns, false) {
            let place = self.inside(file, when.span(), when.get_ref(), range);
            self.report(Finding { place: Some(place), ..finding });
        }
        let missing = match keys.when_missing.as_ref().map(Spanned::get_ref) {
            None | Some(WhenMissingKey::Skip) => WhenMissing::Skip,
            Some(WhenMissingKey::DeadLetter) => WhenMissing::Fail,
        };
        Some(When { predicate, missing })
    }
}

/// The captures that an expression reads and that no pattern of the route has; with `every`, also
/// those that some pattern has not.
pub(super) fn unknown_captures(
    expression: &Expression,
    patterns: &[Pattern],
    every: bool,
) -> Vec<(Range<usize>, Finding)> {
    let has =
        |pattern: &Pattern, name: &str| pattern.captures().iter().any(|known| **known == *name);
    let mut findings = Vec::new();
    for (name, range) in expression.captures() {
        let lacking = patterns.iter().filter(|pattern| !has(pattern, name)).count();
        if lacking == 0 || (lacking < patterns.len() && !every) {
            continue;
        }
        let message = format!("the pattern of this route does not capture `{name}`");
        let mut known: Vec<&str> =
            patterns.iter().flat_map(Pattern::captures).map(|name| &**name).collect();
        known.dedup();
        let help = match known.as_slice() {
            [] => Some(format!("write `{{{name}}}` for a level of the pattern")),
            _ => suggest::help(name, &known, "there are"),
        };
        findings.push((range, Finding::error(None, message).with_help(help)));
    }
    findings
}
