//! The rules file `adapters.toml`: reading, checking, and what comes of it.
//!
//! Invariants:
//! - Reading a configuration changes nothing and connects to nothing: it reads the file, the files
//!   that it includes, those that hold secrets, and the environment through the function that is
//!   handed in.
//! - Every fault is reported, not only the first, at its place in its file.
//! - What comes from the environment or is a secret is in no finding.
//! - What is not in the file has its default here, so the rest of the gateway knows no defaults.

mod adapters;
mod beside;
mod carried;
mod check;
mod comments;
mod condition;
mod deduplicate;
mod document;
mod environment;
mod files;
mod finding;
mod fingerprint;
mod gateway;
mod json;
mod lanes;
mod limits;
mod lints;
mod model;
mod overview;
mod pieces;
mod promise;
mod recover;

mod render;
mod reply;
mod routes;
mod rule_tests;
mod schema;
mod schema_view;
mod settings;
mod shape;
mod shown;
mod source;
mod suggest;
mod targets;
mod telemetry;
#[cfg(test)]
mod tests;
mod toml_text;
mod tree;
mod watched;
mod wording;

use std::{ops::Range, path::Path};

use toml::de::{DeTable, DeValue};
use transload_adapter::Registry;

pub(crate) use self::overview::Described;
pub(crate) use self::shown::shown;
use self::{
    adapters::{Adapters, Declared},
    check::Check,
    pieces::Pieces,
    source::{FileId, Place, Sources},
};
pub use self::{
    carried::{Notice, notices},
    environment::Environment,
    finding::{Finding, Report},
    fingerprint::Fingerprint,
    json::JsonTable,
    model::{
        AdapterInstance, Batch, BatchFormat, Configuration, Deduplicate, DeduplicateBy,
        GatewaySettings, Guarantee, Reply, Route, RouteTarget, TelemetrySettings, UNROUTED,
        Unrouted, WhenFull,
    },
    overview::overview,
    schema::schema,
    source::{FileId as SourceId, Place as SourcePlace, Position, Source, Sources as SourceFiles},
    watched::{Snapshot, Watched},
};

/// The keys of a file; all but the first three may stand in included files too.
const ROOT_KEYS: [&str; 6] = ["gateway", "telemetry", "include", "adapters", "route", "test"];

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; absent when a finding is an error.
    pub configuration: Option<Configuration>,
    /// All that there is to say about it.
    pub report: Report,
    /// The files that it comes from, also where they could not be read.
    pub watched: Watched,
}

/// Reads and checks a configuration.
pub fn load(path: &Path, environment: &Environment<'_>, registry: &Registry) -> Loaded {
    let mut findings = Vec::new();
    let mut watched = Watched::default();
    let sources = files::read_all(path, environment, &mut findings, &mut watched);
    load_sources(sources, findings, watched, environment, registry)
}

/// The same with the file of tests that stands beside it, such as `adapters.test.toml` beside
/// `adapters.toml`, if there is one.
pub fn load_with_tests(path: &Path, environment: &Environment<'_>, registry: &Registry) -> Loaded {
    let mut findings = Vec::new();
    let mut watched = Watched::default();
    let mut sources = files::read_all(path, environment, &mut findings, &mut watched);
    files::read_tests(path, &mut sources, &mut findings);
    load_sources(sources, findings, watched, environment, registry)
}

/// Reads and checks a configuration that is not in a file; `include` and `*_file` are relative to
/// the working directory.
pub fn load_text(
    name: &str,
    text: &str,
    environment: &Environment<'_>,
    registry: &Registry,
) -> Loaded {
    let mut sources = Sources::default();
    sources.add(name.into(), text.to_owned());
    load_sources(sources, Vec::new(), Watched::default(), environment, registry)
}

fn load_sources(
    mut sources: Sources,
    mut findings: Vec<Finding>,
    watched: Watched,
    environment: &Environment<'_>,
    registry: &Registry,
) -> Loaded {
    let (configuration, watched, found, hidden) = {
        let mut check = Check::new(&sources, registry, environment);
        check.watched = watched.clone();
        let mut configuration = check.run();
        if check.torn {
            check = Check::new(&sources, registry, environment);
            check.watched = watched;
            check.whole = true;
            configuration = check.run();
        }
        let watched = std::mem::take(&mut check.watched);
        let (found, hidden) = check.finish();
        (configuration, watched, found, hidden)
    };
    findings.extend(found);
    for (file, span) in hidden {
        sources.hide(file, &[span]);
    }
    let mut report = Report { sources, findings };
    report.sort();
    let configuration = configuration.filter(|_| report.errors() == 0);
    Loaded { configuration, report, watched }
}

/// The routes of one file.
enum Routes<'a> {
    Whole(FileId, tree::Value<'a>),
    Pieces(FileId, Vec<Range<usize>>),
}

impl<'a> Check<'a> {
    fn run(&mut self) -> Option<Configuration> {
        let files: Vec<FileId> = self.sources.ids().collect();
        let mut gateway = GatewaySettings::default();
        let mut telemetry = None;
        let mut adapters = Adapters::default();
        let (mut route_tables, mut test_tables) = (Vec::new(), Vec::new());
        let mut main = true;
        for file in &files {
            for (file, mut root) in self.roots(*file, &mut route_tables) {
                if let Some(value) = root.remove("gateway") {
                    if main {
                        gateway = self.gateway(file, value);
                    } else {
                        self.refuse_in_included(file, "gateway", value.span());
                    }
                }
                if let Some(value) = root.remove("telemetry") {
                    if main {
                        telemetry = self.telemetry(file, value);
                    } else {
                        self.refuse_in_included(file, "telemetry", value.span());
                    }
                }
                if let Some(value) = root.remove("include") {
                    if main {
                        self.include(file, &value);
                    } else {
                        self.refuse_in_included(file, "include", value.span());
                    }
                }
                if let Some(value) = root.remove("adapters") {
                    self.adapters(file, value, &mut adapters);
                }
                route_tables.extend(root.remove("route").map(|value| Routes::Whole(file, value)));
                test_tables.extend(root.remove("test").map(|value| (file, value)));
                self.unknown_root_keys(file, &root);
            }
            main = false;
        }
        gateway.telemetry = telemetry;
        if self.torn {
            return None;
        }
        let (routes, names) = self.all_routes(route_tables, &adapters)?;
        self.relations(&routes, &adapters);
        let mut tests = Vec::new();
        for (file, value) in test_tables {
            self.rule_tests(file, value, &adapters, &names, &mut tests);
        }
        let first = files.first()?;
        if adapters.list.is_empty() {
            let finding =
                Finding::warning(Place { file: *first, span: 0..0 }, "there is no adapter");
            self.report_missing(finding.with_help("write `[adapters.NAME]`".to_owned()));
        }
        let routes = routes.into_iter().map(|declared| declared.route).collect();
        let instances: Option<Vec<_>> = adapters
            .list
            .into_iter()
            .map(|declared| instance(declared, gateway.unrouted))
            .collect();
        Some(Configuration { gateway, adapters: instances?, routes, tests })
    }

    /// The routes of all files, unless one turns out to have been cut where it must not be.
    fn all_routes(
        &mut self,
        tables: Vec<Routes<'a>>,
        adapters: &Adapters<'a>,
    ) -> Option<(Vec<routes::Declared>, routes::RouteNames)> {
        let (mut named, mut routes) = (Vec::new(), Vec::new());
        for tables in tables {
            match tables {
                Routes::Whole(file, value) => {
                    self.routes(file, value, adapters, &mut named, &mut routes);
                }
                Routes::Pieces(file, pieces) => {
                    self.routes_of_pieces(file, &pieces, adapters, &mut named, &mut routes);
                }
            }
        }
        let names = self.route_names(named);
        (!self.torn).then_some((routes, names))
    }

    /// The tables of a file: one, or where its routes are in pieces, what is before and behind them.
    fn roots(&mut self, file: FileId, routes: &mut Vec<Routes<'a>>) -> Vec<(FileId, DeTable<'a>)> {
        let text = self.sources.text(file);
        let cut = if self.whole { None } else { pieces::cut(text) };
        let cut = cut.and_then(|cut| Some((file.piece_at(cut.tail)?, cut)));
        let Some((behind, Pieces { head, routes: pieces, tail })) = cut else {
            return vec![(file, self.parse(file, text))];
        };
        let head = self.parse(file, text.get(..head).unwrap_or_default());
        let tail = self.parse(behind, text.get(tail..).unwrap_or_default());
        // What stands in both may be a fault, which only a reader of the whole file can tell.
        let twice = |key: &str| key == "route" || head.contains_key(key);
        self.torn |= self.broken_files.contains(&file)
            || self.broken_files.contains(&behind)
            || head.contains_key("route")
            || tail.keys().any(|key| twice(key.get_ref()));
        routes.push(Routes::Pieces(file, pieces));
        vec![(file, head), (behind, tail)]
    }

    /// What is included was looked up before; here only the form is checked.
    fn include(&mut self, file: FileId, value: &tree::Value<'_>) {
        let texts = value.get_ref().as_array();
        let unfit = match texts {
            Some(list) => list.iter().find(|element| !element.get_ref().is_str()),
            None => Some(value),
        };
        if let Some(unfit) = unfit {
            let message =
                format!("expected an array of paths, found {}", unfit.get_ref().type_str());
            let help = "write `include = [\"routes/*.toml\"]`".to_owned();
            let place = Place { file, span: unfit.span() };
            self.report(Finding::error(place, message).with_help(help));
        }
    }

    fn refuse_in_included(&mut self, file: FileId, key: &str, span: std::ops::Range<usize>) {
        let message = format!("`{key}` cannot stand in an included file");
        let help =
            "an included file has `[adapters.NAME]`, `[[route]]` and `[[test]]` only".to_owned();
        self.report(Finding::error(Place { file, span }, message).with_help(help));
    }

    fn unknown_root_keys(&mut self, file: FileId, root: &DeTable<'_>) {
        for (key, value) in root {
            let name = key.get_ref();
            let help = match (name.as_ref(), value.get_ref()) {
                ("adapter", DeValue::Table(_)) => Some("write `[adapters.NAME]`".to_owned()),
                ("routes", DeValue::Array(_) | DeValue::Table(_)) => {
                    Some("write `[[route]]`".to_owned())
                }
                ("tests", DeValue::Array(_) | DeValue::Table(_)) => {
                    Some("write `[[test]]`".to_owned())
                }
                _ => suggest::help(name, &ROOT_KEYS, "the keys here are"),
            };
            let place = Place { file, span: key.span() };
            self.report(Finding::error(place, format!("unknown key `{name}`")).with_help(help));
        }
    }
}

/// An adapter of which everything is known.
fn instance(declared: Declared<'_>, unrouted: Unrouted) -> Option<AdapterInstance> {
    Some(AdapterInstance {
        name: declared.name.into(),
        kind: declared.kind?.0.kind(),
        credits: declared.credits,
        unsettled_bytes: declared.unsettled_bytes,
        deduplicate: declared.deduplicate,
        fingerprint: declared.fingerprint,
        unrouted: declared.unrouted.unwrap_or(unrouted),
        shown: declared.shown,
        prepared: declared.prepared?.into(),
    })
}
