//! What a route with `reply` asks of its source and its targets.

use std::{num::NonZeroU32, time::Duration};

use transload_adapter::ReplyPath;

use super::{
    adapters::Adapters,
    check::{Check, from_lint},
    finding::Finding,
    model::Reply,
    routes::Parts,
    settings::{ReplyKeys, RouteKeys},
    source::{FileId, Place},
    targets::CORRELATION_KEPT,
};

/// How long a reply is waited for where the file does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest time that a caller may be made to wait.
const TIMEOUT_MAX: Duration = Duration::from_hours(1);
/// How many requests may be under way where the file does not say.
const IN_FLIGHT_DEFAULT: usize = 1_000;
/// The most that may be.
const IN_FLIGHT_MAX: u32 = 1_000_000;
/// The most replies that are gathered.
const GATHER_MAX: u32 = 1_000;

impl Check<'_> {
    /// The `reply` of a route, and what there is to say about it.
    pub(super) fn reply(
        &mut self,
        file: FileId,
        parts: &Parts,
        keys: &RouteKeys,
        adapters: &Adapters<'_>,
    ) -> Option<Reply> {
        let Some(written) = &keys.reply else {
            self.lint_correlation(parts);
            return None;
        };
        let place = Place { file, span: written.span() };
        self.lint_callers(&place, parts, adapters);
        self.lint_responders(&place, parts, adapters);
        self.lint_without_queue(file, &place, keys);
        let settings = written.get_ref();
        self.lint_bounds(file, settings);
        let count = |number: &Option<serde_spanned::Spanned<NonZeroU32>>, default| {
            let number = number.as_ref().map(|number| number.get_ref().get());
            number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        let timeout = settings.timeout.as_ref();
        let place = timeout.map_or(place, |timeout| Place { file, span: timeout.span() });
        let timeout = timeout.map_or(TIMEOUT_DEFAULT, |timeout| timeout.get_ref().get());
        self.lint_patience(&place, timeout, parts, adapters);
        Some(Reply {
            timeout,
            gather: count(&settings.gather, 1),
            in_flight_max: count(&settings.max_in_flight, IN_FLIGHT_DEFAULT),
        })
    }

    /// Only a request has a correlation.
    fn lint_correlation(&mut self, parts: &Parts) {
        for (key, place, template) in parts.targets.iter().flat_map(|target| &target.templates) {
            if **key == *"reply_topic" || template.as_str().contains(CORRELATION_KEPT) {
                let message = "this has a meaning only for a route with `reply`";
                let help = "add `reply = {}` to the route".to_owned();
                self.report(Finding::error(place.clone(), message).with_help(help));
            }
        }
    }

    fn lint_callers(&mut self, place: &Place, parts: &Parts, adapters: &Adapters<'_>) {
        let sources = parts.from.iter().filter_map(|number| adapters.get(*number));
        let deaf: Vec<_> = sources
            .filter(|source| {
                let prepared = source.prepared.as_ref();
                prepared.is_some_and(|prepared| prepared.source().replies == ReplyPath::None)
            })
            .map(|source| format!("`{}`", source.name))
            .collect();
        if deaf.is_empty() {
            return;
        }
        let message = format!("{} cannot take replies", deaf.join(", "));
        let help = "name the adapters whose messages can be answered in `from`".to_owned();
        self.report(Finding::error(place.clone(), message).with_help(help));
    }

    /// Lets each source say what it thinks of the time that its senders may have to wait.
    fn lint_patience(
        &mut self,
        place: &Place,
        timeout: Duration,
        parts: &Parts,
        adapters: &Adapters<'_>,
    ) {
        for source in parts.from.iter().filter_map(|number| adapters.get(*number)) {
            let Some(prepared) = &source.prepared else { continue };
            for mut lint in prepared.lint_reply(timeout) {
                lint.message = format!("`{}`: {}", source.name, lint.message);
                self.report(from_lint(place.clone(), lint));
            }
        }
    }

    fn lint_responders(&mut self, place: &Place, parts: &Parts, adapters: &Adapters<'_>) {
        for target in &parts.targets {
            let Some(prepared) = &target.target else { continue };
            if prepared.capabilities.replies {
                continue;
            }
            let name = adapters.get(target.adapter).map_or("", |adapter| &adapter.name);
            let message = format!("`{name}` gives no replies here");
            let finding = Finding::error(target.place.clone(), message);
            self.report(finding.with_related(place.clone(), "this route asks for replies"));
        }
    }

    /// Nothing of a request is stored, so what says how it is stored can have no effect.
    fn lint_without_queue(&mut self, file: FileId, place: &Place, keys: &RouteKeys) {
        let placed = [
            ("guarantee", keys.guarantee.as_ref().map(serde_spanned::Spanned::span)),
            ("queue", keys.queue.as_ref().map(serde_spanned::Spanned::span)),
            ("ordered_by", keys.ordered_by.as_ref().map(serde_spanned::Spanned::span)),
            ("lanes", keys.lanes.as_ref().map(serde_spanned::Spanned::span)),
            ("batch", keys.batch.as_ref().map(serde_spanned::Spanned::span)),
        ];
        for (key, span) in placed.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let message = format!("`{key}` has no meaning for a route with `reply`");
            let help = "leave it out: a request is asked at once and never stored, and its caller \
                        gets a reply or is told why not"
                .to_owned();
            let finding = Finding::error(Place { file, span }, message).with_help(help);
            self.report(finding.with_related(place.clone(), "the reply is asked for here"));
        }
        let others = [
            ("when_full", keys.when_full.is_some()),
            ("attempts", keys.attempts.is_some()),
            ("expires", keys.expires.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, given)| *given) {
            let message = format!("`{key}` has no meaning for a route with `reply`");
            let help = "leave it out: a request is asked once, within `timeout`".to_owned();
            self.report(Finding::error(place.clone(), message).with_help(help));
        }
    }

    fn lint_bounds(&mut self, file: FileId, settings: &ReplyKeys) {
        if let Some(timeout) = &settings.timeout {
            let place = Place { file, span: timeout.span() };
            let given = timeout.get_ref().get();
            if given.is_zero() {
                self.report(Finding::error(place, "`timeout` must be at least 1ms"));
            } else if given > TIMEOUT_MAX {
                self.report(Finding::error(place, "`timeout` may be 1h at most"));
            }
        }
        for (key, number, max) in [
            ("gather", &settings.gather, GATHER_MAX),
            ("max_in_flight", &settings.max_in_flight, IN_FLIGHT_MAX),
        ] {
            if let Some(number) = number.as_ref().filter(|number| number.get_ref().get() > max) {
                let place = Place { file, span: number.span() };
                self.report(Finding::error(place, format!("`{key}` may be {max} at most")));
            }
        }
    }
}
