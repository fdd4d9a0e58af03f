//! The `to` of a route.

use std::borrow::Cow;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};
use transload_adapter::{Kind, PreparedTarget};
use transload_envelope::Text;
use transload_routing::{Name, Pattern, Shape, Template};

use super::{
    adapters::{self, Adapters, Declared, RoleOf},
    check::Check,
    condition::unknown_captures as unknown_captures_of,
    finding::Finding,
    fingerprint::Fingerprint,
    json::{self, Hidden, JsonTable, Settings, WithoutSecrets},
    recover,
    schema_view::View,
    source::{FileId, Place},
    suggest,
    tree::{Table, Value},
};

/// Stands in a target's topics for what tells one request from others.
const CORRELATION: &str = "{correlation}";
/// The same in a template that comes to it.
pub(super) const CORRELATION_KEPT: &str = "{{correlation}}";

/// A target as far as it could be read.
#[derive(Debug)]
pub(super) struct DeclaredTarget {
    /// The number of its adapter.
    pub(super) adapter: usize,
    /// The target in the file.
    pub(super) place: Place,
    pub(super) target: Option<PreparedTarget>,
    /// What is given, without secrets.
    pub(super) keys: JsonTable,
    pub(super) fingerprint: Fingerprint,
    /// What is given, as a running gateway may show it.
    pub(super) shown: JsonTable,
    /// What is made of a message for this target only.
    pub(super) shape: Shape,
    /// The templated keys that are given: the key, its place, and what was read.
    pub(super) templates: Vec<(Text, Place, Template)>,
}

impl<'a> Check<'a> {
    /// Reads all targets of a route: a table, an adapter's name, or an array of these. `None` for
    /// each that is of no use.
    pub(super) fn targets(
        &mut self,
        file: FileId,
        value: Value<'a>,
        patterns: &[Pattern],
        adapters: &Adapters<'a>,
    ) -> Vec<Option<DeclaredTarget>> {
        if !value.get_ref().is_array() {
            return vec![self.target(file, value, patterns, adapters)];
        }
        let place = Place { file, span: value.span() };
        let DeValue::Array(list) = value.into_inner() else { return Vec::new() };
        if list.is_empty() {
            self.report(Finding::error(place, "a route needs at least one target"));
            return vec![None];
        }
        list.into_iter().map(|value| self.target(file, value, patterns, adapters)).collect()
    }

    fn target(
        &mut self,
        file: FileId,
        value: Value<'a>,
        patterns: &[Pattern],
        adapters: &Adapters<'a>,
    ) -> Option<DeclaredTarget> {
        let place = Place { file, span: value.span() };
        let (name, mut table) = match value.into_inner() {
            DeValue::String(name) => {
                let table = toml::Spanned::new(place.span.clone(), toml::de::DeTable::new());
                (toml::Spanned::new(place.span.clone(), name.into_owned()), table)
            }
            DeValue::Table(mut table) => {
                let name = self.adapter_key(&place, table.remove("adapter"))?;
                (name, toml::Spanned::new(place.span.clone(), table))
            }
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)) => {
                let message =
                    format!("expected a table or an adapter's name, found {}", other.type_str());
                let help = "write `{ adapter = \"NAME\", … }`".to_owned();
                self.report(Finding::error(place, message).with_help(help));
                return None;
            }
        };
        let name_place = Place { file, span: name.span() };
        let Some(number) = adapters.find(name.get_ref()) else {
            self.unknown_adapter(name_place, name.get_ref(), adapters);
            return None;
        };
        let adapter = adapters.get(number)?;
        let RoleOf(kind) = adapter.kind?;
        let written = table.get_mut().remove("shape");
        let shape_shown = written.as_ref().map(|shape| self.written(file, shape));
        let shape = self.shape(file, written, patterns);
        let templates = self.templates(file, kind, &mut table, patterns);
        let schemas = self.schemas(kind);
        let (keys, shown) = self.shown_keys(file, table.get_ref(), schemas.target(), shape_shown);
        self.secret_files(file, table.get_mut(), schemas.target());
        let fingerprint = Fingerprint::of(kind.kind(), table.get_ref());
        let target = self.prepare_target(file, adapter, &mut table, name_place);
        Some(DeclaredTarget {
            adapter: number,
            place,
            target,
            fingerprint,
            keys,
            shown,
            shape,
            templates,
        })
    }

    /// The keys of a target without secrets, and as a running gateway may show them.
    fn shown_keys(
        &self,
        file: FileId,
        table: &DeTable<'_>,
        view: View<'_>,
        shape: Option<Json>,
    ) -> (JsonTable, JsonTable) {
        let secret_keys = &self.secret_keys;
        let keys = JsonTable::of(&WithoutSecrets { table, view, secret_keys });
        let expanded = |at| self.expanded.contains(&(file, at));
        let hidden = Hidden { secret_keys, expanded: &expanded };
        let shown = JsonTable::of(&Settings { table, view: Some(view), hidden, shape });
        let shown = shown.or_same(&keys);
        (keys, shown)
    }

    /// A shape as a running gateway may show it.
    pub(super) fn written(&self, file: FileId, shape: &Value<'_>) -> Json {
        let expanded = |at| self.expanded.contains(&(file, at));
        json::written(shape, Hidden { secret_keys: &self.secret_keys, expanded: &expanded })
    }

    fn adapter_key(
        &mut self,
        place: &Place,
        value: Option<Value<'a>>,
    ) -> Option<toml::Spanned<String>> {
        let Some(value) = value else {
            let message = "the key `adapter` is missing in this target";
            self.report_missing(Finding::error(place.clone(), message));
            return None;
        };
        if let Some(name) = value.get_ref().as_str() {
            return Some(toml::Spanned::new(value.span(), name.to_owned()));
        }
        let message = format!("expected a string, found {}", value.get_ref().type_str());
        let place = Place { file: place.file, span: value.span() };
        self.report(Finding::error(place, message));
        None
    }

    /// Reports that there is no adapter of this name.
    pub(super) fn unknown_adapter(&mut self, place: Place, name: &str, adapters: &Adapters<'a>) {
        let help = suggest::help(name, &adapters.names(), "the adapters are");
        let finding = Finding::error(place, format!("there is no adapter named `{name}`"));
        // The adapter may stand behind a line that could not be parsed.
        if help.as_ref().is_some_and(|help| help.starts_with("did you mean")) {
            self.report(finding.with_help(help));
        } else {
            self.report_missing(finding.with_help(help));
        }
    }

    fn prepare_target(
        &mut self,
        file: FileId,
        adapter: &Declared<'a>,
        table: &mut Table<'a>,
        name_place: Place,
    ) -> Option<PreparedTarget> {
        let RoleOf(kind) = adapter.kind?;
        let prepared = adapter.prepared.as_ref()?;
        let schemas = self.schemas(kind);
        let mut recovered =
            recover::read(table, &["adapter"], |table| prepared.prepare_target(table));
        adapters::add_missing(&mut recovered, table, schemas.target());
        let faults = std::mem::take(&mut recovered.faults);
        if !faults.is_empty() {
            self.report_faults(file, faults, &format!("this target of `{}`", adapter.name));
        }
        let mut target = recovered.value.take()?;
        let lints = std::mem::take(&mut target.lints);
        self.report_lints(file, table, lints, &recovered);
        if !target.capabilities.sends {
            let message = format!("adapter `{}` cannot send", adapter.name);
            self.report(Finding::error(name_place, message));
        }
        Some(target)
    }

    /// Reads the templates among the keys of a target. What has faults is taken out of the table,
    /// so that it is reported once.
    fn templates(
        &mut self,
        file: FileId,
        kind: &dyn Kind,
        table: &mut Table<'a>,
        patterns: &[Pattern],
    ) -> Vec<(Text, Place, Template)> {
        let given = |key: &&&str| table.get_ref().contains_key(**key);
        let mut templates = Vec::with_capacity(kind.templated().iter().filter(given).count());
        for key in kind.templated() {
            let Some(value) = table.get_ref().get(*key) else { continue };
            let Some(text) = value.get_ref().as_str() else { continue };
            let place = Place { file, span: value.span() };
            let kept = keep_correlation(text, kind, patterns);
            let template = match Template::parse(&kept) {
                Ok(template) => template,
                Err(error) => {
                    let place = self.inside(file, value.span(), text, error.range.clone());
                    self.report(Finding::error(place, error.message).with_help(error.help));
                    continue;
                }
            };
            for (range, finding) in unknown_captures(&template, patterns) {
                let place = self.inside(file, value.span(), text, range);
                self.report(Finding { place: Some(place), ..finding });
            }
            templates.push((Text::from_static(key), place, template));
        }
        templates
    }
}

/// Keeps `{correlation}` as it is in the topics of a request and its reply: it is filled in with each
/// request, after the templates.
fn keep_correlation<'t>(text: &'t str, kind: &dyn Kind, patterns: &[Pattern]) -> Cow<'t, str> {
    let captured =
        |pattern: &Pattern| pattern.captures().iter().any(|name| **name == *"correlation");
    if !kind.templated().contains(&"reply_topic")
        || !text.contains(CORRELATION)
        || patterns.iter().any(captured)
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(CORRELATION, CORRELATION_KEPT))
}

/// The references of a template that a pattern of the route does not fill in.
pub(super) fn unknown_captures(
    template: &Template,
    patterns: &[Pattern],
) -> Vec<(std::ops::Range<usize>, Finding)> {
    let mut findings = Vec::new();
    for reference in template.names() {
        let without =
            |pattern: &&Pattern| template.unknown(pattern).any(|other| other == reference);
        let lacking: Vec<_> = patterns.iter().filter(without).collect();
        // A default stands in, as long as there is a pattern for which it does not.
        if lacking.is_empty() || (reference.default().is_some() && lacking.len() < patterns.len()) {
            continue;
        }
        let Name::Capture(name) = reference.name() else { continue };
        let message = if lacking.len() == patterns.len() {
            format!("the pattern of this route does not capture `{name}`")
        } else {
            let pattern = lacking.first().map_or("", |pattern| pattern.as_str());
            format!("the pattern `{pattern}` of this route does not capture `{name}`")
        };
        let mut known: Vec<&str> =
            patterns.iter().flat_map(Pattern::captures).map(|name| &**name).collect();
        known.dedup();
        known.extend(["address", "id", "source"]);
        let help = suggest::help(name, &known, "there are");
        findings.push((reference.range(), Finding::error(None, message).with_help(help)));
    }
    for embedded in template.expressions() {
        let every = embedded.default().is_none();
        let found = unknown_captures_of(embedded.expression(), patterns, every);
        let start = embedded.range().start;
        findings.extend(
            found
                .into_iter()
                .map(|(range, finding)| (start + range.start..start + range.end, finding)),
        );
    }
    findings
}
