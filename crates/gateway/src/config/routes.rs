//! The tables `[[route]]`.

use foldhash::{HashMap, HashMapExt as _};
use serde::Deserialize;
use serde_json::Value as Json;
use toml::{
    Spanned,
    de::{DeValue, Deserializer},
};
use transload_delivery::dead_letters::PREFIX;
use transload_envelope::Text;
use transload_routing::{Pattern, Shape, When};

use super::{
    adapters::{Adapters, NAME_BYTES_MAX},
    check::{Check, from_lint},
    finding::Finding,
    lanes::Ordering,
    model::{Route, RouteTarget, UNROUTED, WhenFull},
    recover,
    settings::{RouteKeys, Texts},
    source::{FileId, Place},
    targets::DeclaredTarget,
    tree::{self, Table, Value},
};

/// How many attempts of one message may fail where the file does not say.
const ATTEMPTS_DEFAULT: u32 = 10;

/// A route with the places of its parts.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) route: Route,
    /// Its name.
    pub(super) place: Place,
    /// The templated keys of each target: the key's place and what it comes to.
    pub(super) templates: Vec<Vec<(Text, Place, transload_routing::Template)>>,
    /// Its targets.
    pub(super) targets: Vec<Place>,
}

/// The name of a route and where it is.
pub(super) type Named = (String, Place);

/// The names of routes and where they are.
pub(super) type RouteNames = HashMap<String, Place>;

impl<'a> Check<'a> {
    /// Reads the routes of one file.
    pub(super) fn routes(
        &mut self,
        file: FileId,
        value: Value<'a>,
        adapters: &Adapters<'a>,
        named: &mut Vec<Named>,
        into: &mut Vec<Declared>,
    ) {
        let span = value.span();
        let DeValue::Array(list) = value.into_inner() else {
            let message = "expected an array of tables";
            let help = "write `[[route]]`, in double brackets".to_owned();
            self.report(Finding::error(Place { file, span }, message).with_help(help));
            return;
        };
        for value in list {
            match tree::into_table(value) {
                Ok(table) => into.extend(self.route(file, table, adapters, named)),
                Err(value) => {
                    let message = format!("expected a table, found {}", value.get_ref().type_str());
                    self.report(Finding::error(Place { file, span: value.span() }, message));
                }
            }
        }
    }

    fn route(
        &mut self,
        file: FileId,
        mut table: Table<'a>,
        adapters: &Adapters<'a>,
        named: &mut Vec<Named>,
    ) -> Option<Declared> {
        let whole = Place { file, span: table.span() };
        let to = table.get_mut().remove("to");
        let shape = table.get_mut().remove("shape");
        let shown = shape.as_ref().map(|shape| self.written(file, shape));
        let mut recovered = recover::read(&mut table, &["to", "shape"], |table| {
            RouteKeys::deserialize(Deserializer::from(table.clone()))
        });
        let faults = std::mem::take(&mut recovered.faults);
        self.report_faults(file, faults, "this route");
        let mut keys = recovered.value.take()?;
        let (name, place) = if let Some(name) = keys.name.take() {
            self.route_name(file, name, named)
        } else {
            if !recovered.lost("name") {
                let message = "the key `name` is missing in this route";
                self.report_missing(Finding::error(whole.clone(), message));
            }
            (String::new(), whole.clone())
        };
        let from_list = keys.from.take().map(Texts::list);
        let from = self.sources_of(file, from_list.as_deref(), adapters);
        let pattern_list = match keys.patterns.take() {
            Some(patterns) => Texts::list(patterns),
            None => vec![Spanned::new(place.span.clone(), "#".to_owned())],
        };
        let patterns = self.patterns(file, &pattern_list);
        if let Some(named) = &from_list {
            self.lint_sources(file, named, &patterns, adapters);
        }
        let Some(to) = to else {
            if !recovered.lost("to") {
                let help = "write `to = { adapter = \"NAME\", … }`".to_owned();
                let message = "the key `to` is missing in this route";
                self.report_missing(Finding::error(whole, message).with_help(help));
            }
            return None;
        };
        // Where a pattern could not be read, its captures are not known, and none is looked for.
        let complete = patterns.len() == pattern_list.len();
        let known = patterns.iter().filter(|_| complete).map(|(pattern, _)| pattern.clone());
        let known: Vec<_> = known.collect();
        let when = self.condition(file, &keys, &known);
        let shape = self.shape(file, shape, &known);
        let targets = self.targets(file, to, &known, adapters);
        let ordering = self.ordering(file, &keys, &known);
        if patterns.is_empty() {
            return None;
        }
        let targets: Option<Vec<_>> = targets.into_iter().collect();
        let declared = Parts {
            name,
            place,
            from,
            explicit_from: from_list.is_some(),
            patterns,
            when,
            shape,
            shown,
            targets: targets?,
            ordering,
        };
        self.assemble(file, declared, &keys, adapters)
    }

    fn route_name(
        &mut self,
        file: FileId,
        name: Spanned<String>,
        named: &mut Vec<Named>,
    ) -> (String, Place) {
        let place = Place { file, span: name.span() };
        let name = name.into_inner();
        let unfit = |character: char| character.is_control() || character == '/';
        // Its queues would be taken for the dead letters of a route.
        let taken = if PREFIX.strip_suffix('/') == Some(&*name) {
            Some("the name stands for the dead letters of all routes")
        } else {
            (name == UNROUTED).then_some("the name stands for messages that no route wants")
        };
        if taken.is_some()
            || name.trim().is_empty()
            || name.contains(unfit)
            || name.len() > NAME_BYTES_MAX
        {
            let help =
                taken.unwrap_or("use up to 128 bytes without `/` and without control characters");
            let message = "this cannot be the name of a route";
            self.report(Finding::error(place.clone(), message).with_help(help.to_owned()));
        } else {
            named.push((name.clone(), place.clone()));
        }
        (name, place)
    }

    /// The names of all routes, of which no two may be the same.
    pub(super) fn route_names(&mut self, named: Vec<Named>) -> RouteNames {
        let mut names = RouteNames::with_capacity(named.len());
        for (name, place) in named {
            if let Some(other) = names.get(&name) {
                let message = format!("there are two routes named `{name}`");
                let finding = Finding::error(place, message);
                self.report(finding.with_related(other.clone(), "the other one"));
            } else {
                names.insert(name, place);
            }
        }
        names
    }

    /// The adapters of `from`, by their numbers.
    fn sources_of(
        &mut self,
        file: FileId,
        named: Option<&[Spanned<String>]>,
        adapters: &Adapters<'a>,
    ) -> Vec<usize> {
        let receives = |number: &usize| {
            let prepared = adapters.get(*number).and_then(|adapter| adapter.prepared.as_ref());
            prepared.is_none_or(|prepared| prepared.source().receives)
        };
        let all = || (0..adapters.list.len()).filter(receives).collect();
        let Some(named) = named else { return all() };
        let mut from = Vec::new();
        for name in named {
            let place = Place { file, span: name.span() };
            let name = name.get_ref();
            if name == "any" {
                return all();
            }
            match adapters.find(name) {
                None => self.unknown_adapter(place, name, adapters),
                Some(number) if !receives(&number) => {
                    let message = format!("adapter `{name}` takes no messages in");
                    self.report(Finding::error(place, message));
                }
                Some(number) if !from.contains(&number) => from.push(number),
                Some(_) => {}
            }
        }
        from
    }

    fn patterns(&mut self, file: FileId, list: &[Spanned<String>]) -> Vec<(Pattern, Place)> {
        let mut patterns = Vec::with_capacity(list.len());
        for text in list {
            match Pattern::parse(text.get_ref()) {
                Ok(pattern) => patterns.push((pattern, Place { file, span: text.span() })),
                Err(error) => {
                    let place = self.inside(file, text.span(), text.get_ref(), error.range);
                    self.report(Finding::error(place, error.message).with_help(error.help));
                }
            }
        }
        patterns
    }

    /// Lets each adapter that is named as a source say what it thinks of the patterns.
    fn lint_sources(
        &mut self,
        file: FileId,
        named: &[Spanned<String>],
        patterns: &[(Pattern, Place)],
        adapters: &Adapters<'a>,
    ) {
        for name in named {
            let number = adapters.find(name.get_ref());
            let adapter = number.and_then(|number| adapters.get(number));
            let Some(prepared) = adapter.and_then(|adapter| adapter.prepared.as_ref()) else {
                continue;
            };
            for (pattern, place) in patterns {
                for lint in prepared.lint_source(pattern.as_str()) {
                    let finding = from_lint(place.clone(), lint);
                    let related = Place { file, span: name.span() };
                    self.report(finding.with_related(related, "messages come from here"));
                }
            }
        }
    }

    fn assemble(
        &mut self,
        file: FileId,
        parts: Parts,
        keys: &RouteKeys,
        adapters: &Adapters<'a>,
    ) -> Option<Declared> {
        let (guarantee, queue) = self.promise(file, &parts, keys, adapters)?;
        let reply = self.reply(file, &parts, keys, adapters);
        let Parts { name, place, from, patterns, when, shape, shown, targets, ordering, .. } =
            parts;
        let patterns: Vec<_> = patterns.into_iter().map(|(pattern, _)| pattern).collect();
        let limits = self.limits(file, keys, &patterns, guarantee);
        // Most routes have one target, for which a list that grows would keep room for four.
        let count = targets.len();
        let mut templates = Vec::with_capacity(count);
        let mut target_places = Vec::with_capacity(count);
        let mut to: Vec<RouteTarget> = Vec::with_capacity(count);
        for target in targets {
            let adapter_name = &adapters.get(target.adapter)?.name;
            let earlier = to.iter().filter(|other| other.adapter == target.adapter).count();
            let destination = match earlier {
                0 => [name.as_str(), "/", adapter_name].concat(),
                _ => format!("{name}/{adapter_name}/{}", earlier + 1),
            };
            // A constant with doubled braces comes to something else than what is written.
            let varying = target.templates.iter().filter(|(_, _, template)| {
                !template.is_constant() || template.as_str().contains(['{', '}'])
            });
            to.push(RouteTarget {
                destination: destination.into(),
                adapter: target.adapter,
                target: target.target?,
                keys: target.keys,
                shown: target.shown,
                fingerprint: target.fingerprint,
                shape: target.shape,
                templates: varying.map(|(key, _, text)| (key.clone(), text.clone())).collect(),
            });
            templates.push(target.templates);
            target_places.push(target.place);
        }
        let route = Route {
            name: name.into(),
            from,
            patterns,
            when,
            fallback: keys.fallback,
            stop: keys.stop,
            shape,
            shape_shown: shown,
            to,
            limits,
            guarantee,
            when_full: keys.when_full.unwrap_or(WhenFull::Block),
            queue,
            attempts_max: keys.attempts.map_or(ATTEMPTS_DEFAULT, std::num::NonZeroU32::get),
            expires: keys.expires.map(Into::into),
            ordered_by: ordering.ordered_by,
            lanes: ordering.lanes,
            batch: ordering.batch,
            reply,
        };
        Some(Declared { route, place, templates, targets: target_places })
    }
}

/// What is known of a route before its guarantee is.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) from: Vec<usize>,
    /// Whether the sources are named one by one.
    pub(super) explicit_from: bool,
    pub(super) patterns: Vec<(Pattern, Place)>,
    /// Its condition.
    pub(super) when: Option<When>,
    pub(super) shape: Shape,
    /// Its shape, as it may be shown.
    pub(super) shown: Option<Json>,
    pub(super) targets: Vec<DeclaredTarget>,
    pub(super) ordering: Ordering,
}
