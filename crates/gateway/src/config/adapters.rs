//! The tables `[adapters.NAME]`.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use toml::de::{DeTable, DeValue};
use transload_adapter::{Kind, Prepared, SelectError, units::ByteSize};

use super::{
    check::Check,
    document,
    finding::Finding,
    fingerprint::Fingerprint,
    json::{Hidden, Settings},
    model::{Deduplicate, Unrouted},
    recover::{self, Fault, Recovered},
    schema_view::View,
    source::{FileId, Place},
    suggest,
    tree::{self, Table, Value},
    wording::Worded,
};

/// How many messages from an adapter may be unsettled where the file does not say.
pub(super) const MAX_UNSETTLED_DEFAULT: usize = 1_000;
pub(super) const MAX_UNSETTLED_BYTES_DEFAULT: ByteSize = ByteSize::from_mib(8);
/// How long the name of an adapter or a route may be, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 128;
/// The keys that every adapter has.
const COMMON_KEYS: [&str; 5] =
    ["kind", "max_unsettled", "max_unsettled_bytes", "deduplicate", "unrouted"];

/// An adapter as far as it could be read.
#[derive(Debug)]
pub(super) struct Declared<'a> {
    pub(super) name: String,
    /// Its key in the file.
    pub(super) place: Place,
    /// Its role, if that is known.
    pub(super) kind: Option<RoleOf<'a>>,
    pub(super) credits: usize,
    pub(super) unsettled_bytes: ByteSize,
    pub(super) deduplicate: Option<Deduplicate>,
    /// Of the settings that are the adapter's own.
    pub(super) fingerprint: Fingerprint,
    pub(super) unrouted: Option<Unrouted>,
    /// Its settings, as they may be shown.
    pub(super) shown: Map<String, Json>,
    /// Its settings, if they could be read.
    pub(super) prepared: Option<Box<dyn Prepared>>,
}

/// A role with a printable form.
#[derive(Clone, Copy)]
pub(super) struct RoleOf<'a>(pub(super) &'a dyn Kind);

impl std::fmt::Debug for RoleOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {}", self.0.kind(), self.0.role_key())
    }
}

/// All adapters in the order of the files.
#[derive(Debug, Default)]
pub(super) struct Adapters<'a> {
    pub(super) list: Vec<Declared<'a>>,
    by_name: HashMap<String, usize>,
}

impl<'a> Adapters<'a> {
    /// The number of the adapter of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Declared<'a>> {
        self.list.get(number)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.list.iter().map(|adapter| adapter.name.as_str()).collect()
    }
}

impl<'a> Check<'a> {
    /// Reads the adapters of one file.
    pub(super) fn adapters(&mut self, file: FileId, tables: Value<'a>, into: &mut Adapters<'a>) {
        let tables = match tree::into_table(tables) {
            Ok(tables) => tables,
            Err(value) => {
                let message = "expected tables such as `[adapters.devices]`";
                self.report(Finding::error(Place { file, span: value.span() }, message));
                return;
            }
        };
        for (key, value) in tables.into_inner() {
            let place = Place { file, span: key.span() };
            let name = key.into_inner().into_owned();
            if let Some(other) = into.find(&name).and_then(|number| into.get(number)) {
                let message = format!("there are two adapters named `{name}`");
                let finding = Finding::error(place, message);
                self.report(finding.with_related(other.place.clone(), "the other one"));
                continue;
            }
            self.check_name(&name, &place);
            let declared = self.adapter(file, name.clone(), place, value);
            into.by_name.insert(name, into.list.len());
            into.list.push(declared);
        }
    }

    fn check_name(&mut self, name: &str, place: &Place) {
        let known = |character: char| matches!(character, 'a'..='z' | '0'..='9' | '_' | '-');
        if name.is_empty() || !name.chars().all(known) || name.len() > NAME_BYTES_MAX {
            let help = "use up to 128 of the characters a to z, 0 to 9, `_` and `-`".to_owned();
            let message = format!("`{name}` cannot be the name of an adapter");
            self.report(Finding::error(place.clone(), message).with_help(help));
        } else if name == "any" {
            let help = "`any` stands for all adapters in `from`".to_owned();
            let message = "`any` cannot be the name of an adapter";
            self.report(Finding::error(place.clone(), message).with_help(help));
        }
    }

    fn adapter(
        &mut self,
        file: FileId,
        name: String,
        place: Place,
        value: Value<'a>,
    ) -> Declared<'a> {
        let mut declared = Declared {
            name,
            place,
            kind: None,
            credits: MAX_UNSETTLED_DEFAULT,
            unsettled_bytes: MAX_UNSETTLED_BYTES_DEFAULT,
            deduplicate: None,
            fingerprint: Fingerprint::default(),
            unrouted: None,
            shown: Map::new(),
            prepared: None,
        };
        let mut table = match tree::into_table(value) {
            Ok(table) => table,
            Err(value) => {
                let message = format!("expected a table, found {}", value.get_ref().type_str());
                self.report(Finding::error(Place { file, span: value.span() }, message));
                return declared;
            }
        };
        declared.credits = self.max_unsettled(file, table.get_mut());
        declared.unsettled_bytes = self.max_unsettled_bytes(file, table.get_mut());
        declared.deduplicate = self.deduplicate(file, table.get_mut());
        declared.unrouted = self.unrouted(file, table.get_mut());
        let Some(role) = self.role(file, &declared, &mut table) else { return declared };
        declared.kind = Some(RoleOf(role));
        let schemas = self.schemas(role);
        let expanded = |at| self.expanded.contains(&(file, at));
        let hidden = Hidden { secret_keys: &self.secret_keys, expanded: &expanded };
        let view = Some(schemas.config());
        declared.shown = Settings { table: table.get_ref(), view, hidden, shape: None }.to_map();
        self.secret_files(file, table.get_mut(), schemas.config());
        let kind = format!("{} {}", role.kind(), role.role_key());
        declared.fingerprint = Fingerprint::of(&kind, table.get_ref());
        let mut recovered = recover::read(&mut table, &COMMON_KEYS, |table| role.prepare(table));
        add_missing(&mut recovered, &table, schemas.config());
        let what = format!("adapter `{}`", declared.name);
        let faults = std::mem::take(&mut recovered.faults);
        self.report_faults(file, faults, &what);
        if let Some((prepared, lints)) = recovered.value.take() {
            self.report_lints(file, &table, lints, &recovered);
            declared.prepared = Some(prepared);
        }
        declared
    }

    fn max_unsettled(&mut self, file: FileId, table: &mut DeTable<'a>) -> usize {
        let Some(value) = table.remove("max_unsettled") else { return MAX_UNSETTLED_DEFAULT };
        let number = value.get_ref().as_integer();
        let number =
            number.and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok());
        match number {
            Some(number) if number > 0 => number.min(tokio::sync::Semaphore::MAX_PERMITS),
            _ => {
                let place = Place { file, span: value.span() };
                self.report(Finding::error(place, "expected an integer of at least 1"));
                MAX_UNSETTLED_DEFAULT
            }
        }
    }

    fn max_unsettled_bytes(&mut self, file: FileId, table: &mut DeTable<'a>) -> ByteSize {
        let default = MAX_UNSETTLED_BYTES_DEFAULT;
        let Some(value) = table.remove("max_unsettled_bytes") else { return default };
        let wrong = match value.get_ref().as_str().map(str::parse::<ByteSize>) {
            Some(Ok(size)) if size.get() > 0 => return size,
            Some(Ok(_)) => "expected at least one byte".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => format!("expected a size such as \"{default}\""),
        };
        self.report(Finding::error(Place { file, span: value.span() }, wrong));
        default
    }

    fn unrouted(&mut self, file: FileId, table: &mut DeTable<'a>) -> Option<Unrouted> {
        let value = table.remove("unrouted")?;
        let known = match value.get_ref().as_str() {
            Some("drop") => return Some(Unrouted::Drop),
            Some("reject") => return Some(Unrouted::Reject),
            Some("dead-letter") => return Some(Unrouted::DeadLetter),
            Some(other) => format!("unknown value `{other}`"),
            None => format!("expected a string, found {}", value.get_ref().type_str()),
        };
        let help = "possible values are: `drop`, `reject`, `dead-letter`".to_owned();
        let place = Place { file, span: value.span() };
        self.report(Finding::error(place, known).with_help(help));
        None
    }

    /// The role that the table asks for by `kind` and its keys.
    fn role(
        &mut self,
        file: FileId,
        declared: &Declared<'a>,
        table: &mut Table<'a>,
    ) -> Option<&'a dyn Kind> {
        let registry = self.registry;
        let whole = Place { file, span: table.span() };
        let mut kinds: Vec<_> = registry.kinds().map(Kind::kind).collect();
        kinds.dedup();
        let Some(kind) = table.get_mut().remove("kind") else {
            let message = format!("the key `kind` is missing in adapter `{}`", declared.name);
            let help = suggest::help("", &kinds, "kinds are");
            self.report_missing(Finding::error(whole, message).with_help(help));
            return None;
        };
        let place = Place { file, span: kind.span() };
        let DeValue::String(kind) = kind.get_ref() else {
            let message = format!("expected a string, found {}", kind.get_ref().type_str());
            self.report(Finding::error(place, message));
            return None;
        };
        let finding = match registry.select(kind, table.get_ref()) {
            Ok(role) => return Some(role),
            Err(SelectError::UnknownKind { known }) => {
                let help = suggest::help(kind, &known, "kinds are");
                Finding::error(place, format!("unknown adapter kind `{kind}`")).with_help(help)
            }
            Err(SelectError::TwoRoles { keys }) => {
                let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
                let message =
                    format!("adapter `{}` has both {}", declared.name, keys.join(" and "));
                let help = "make two adapters of it, one for each".to_owned();
                Finding::error(whole, message).with_help(help)
            }
            Err(SelectError::NoRole { keys }) => {
                if let Some(role) = self.misspelt_role(file, kind, &keys, table) {
                    return Some(role);
                }
                let roles: Vec<_> =
                    keys.iter().map(|(key, summary)| format!("`{key}` for {summary}")).collect();
                let keys: Vec<_> = keys.iter().map(|(key, _)| format!("`{key}`")).collect();
                let message = format!("adapter `{}` needs {}", declared.name, keys.join(" or "));
                let finding = Finding::error(whole, message).with_help(roles.join(", "));
                self.report_missing(finding);
                return None;
            }
        };
        self.report(finding);
        None
    }

    /// The role whose key was probably meant by a key of the table; the key is put right, so that
    /// the rest of the table can be checked.
    fn misspelt_role(
        &mut self,
        file: FileId,
        kind: &str,
        keys: &[(&'static str, &'static str)],
        table: &mut Table<'a>,
    ) -> Option<&'a dyn Kind> {
        let names: Vec<_> = table.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
        for (role_key, _) in keys {
            let file_key = format!("{role_key}_file");
            let Some(written) = names.iter().find(|name| **name == file_key).or_else(|| {
                names.iter().find(|name| suggest::closest(name, [*role_key]).is_some())
            }) else {
                continue;
            };
            let (key, value) = table.get_mut().remove_entry(written.as_str())?;
            let value = if *written == file_key {
                self.secret_value(file, &value)?
            } else {
                let place = Place { file, span: key.span() };
                let help = format!("did you mean `{role_key}`?");
                self.report(
                    Finding::error(place, format!("unknown key `{written}`")).with_help(help),
                );
                value
            };
            table.get_mut().insert(toml::Spanned::new(key.span(), (*role_key).into()), value);
            return self.registry.select(kind, table.get_ref()).ok();
        }
        None
    }

    /// Replaces each key `NAME_file` by `NAME` with the text of the file, where the schema knows
    /// only the latter.
    pub(super) fn secret_files(&mut self, file: FileId, table: &mut DeTable<'a>, view: View<'_>) {
        let mut files = Vec::new();
        for (key, value) in &mut *table {
            let key = key.get_ref();
            self.hide_if_secret(file, value, view.entry(key));
            self.secret_files_in(file, value, view.property(key));
            if key.ends_with("_file") {
                files.push(key.to_string());
            }
        }
        for key in files {
            let Some(name) = key.strip_suffix("_file") else { continue };
            if view.property(&key).is_none() && view.property(name).is_some() {
                self.secret_file(file, table, &key, name);
            } else if let Some(path) = table.get(key.as_str()).and_then(|it| it.get_ref().as_str())
            {
                // The adapter reads it, when it connects and when it is told to look again.
                self.watched.file(path.into());
            }
        }
    }

    fn secret_files_in(&mut self, file: FileId, value: &mut Value<'a>, view: Option<View<'_>>) {
        match (value.get_mut(), view) {
            (DeValue::Table(inner), Some(view)) => self.secret_files(file, inner, view),
            (DeValue::Array(list), Some(view)) => {
                let Some(view) = view.element() else { return };
                for element in list.iter_mut() {
                    self.hide_if_secret(file, element, Some(view));
                    if let DeValue::Table(inner) = element.get_mut() {
                        self.secret_files(file, inner, view);
                    }
                }
            }
            _ => {}
        }
    }

    /// Hides a text that is a secret, or stands where something else should that holds one.
    fn hide_if_secret(&mut self, file: FileId, value: &Value<'_>, view: Option<View<'_>>) {
        let span = value.span();
        let written = value
            .get_ref()
            .as_str()
            .filter(|text| !self.expanded.contains(&(file, span.start)) && !text.contains("://"));
        if let (Some(text), true) = (written, view.is_some_and(View::may_hold_secret)) {
            self.hidden_spans.push((file, document::inner(&span)));
            self.hide_text(text, "***");
        }
    }

    fn secret_file(&mut self, file: FileId, table: &mut DeTable<'a>, key: &str, name: &str) {
        let Some((written, value)) = table.remove_entry(key) else { return };
        if let Some(other) = tree::key_span(table, name) {
            let message = format!("both `{name}` and `{key}` are given");
            let finding = Finding::error(Place { file, span: written.span() }, message);
            self.report(finding.with_related(Place { file, span: other }, "the other one"));
            return;
        }
        let span = value.span();
        // Where the file cannot be read, some text stands in, so that the key is not missing too.
        let value = self.secret_value(file, &value).unwrap_or_else(|| {
            toml::Spanned::new(span, DeValue::String(std::borrow::Cow::Borrowed("")))
        });
        table.insert(toml::Spanned::new(written.span(), name.to_owned().into()), value);
    }

    fn secret_value(&mut self, file: FileId, value: &Value<'_>) -> Option<Value<'a>> {
        let span = value.span();
        let place = Place { file, span: span.clone() };
        let Some(path) = value.get_ref().as_str() else {
            let message =
                format!("expected the path of a file, found {}", value.get_ref().type_str());
            self.report(Finding::error(place, message));
            return None;
        };
        match self.read_secret(file, path) {
            Ok(text) => {
                self.expanded.insert((file, span.start));
                Some(toml::Spanned::new(span, DeValue::String(text.into())))
            }
            Err(message) => {
                self.report(Finding::error(place, message));
                None
            }
        }
    }
}

/// Adds the other keys that must be there, where the reader stopped at the first that is not.
pub(super) fn add_missing<T>(recovered: &mut Recovered<T>, table: &Table<'_>, view: View<'_>) {
    let missing = |fault: &Fault| fault.worded.missing && fault.span == table.span();
    if recovered.value.is_some() || !recovered.faults.iter().any(missing) {
        return;
    }
    for key in view.required() {
        let about = Some(key.to_owned());
        let known = recovered.faults.iter().any(|fault| fault.worded.about == about);
        if !known && !table.get_ref().contains_key(key) && !recovered.lost(key) {
            let message = format!("the key `{key}` is missing");
            let worded = Worded { message, help: None, about, missing: true };
            recovered.faults.push(Fault { span: table.span(), worded });
        }
    }
}
