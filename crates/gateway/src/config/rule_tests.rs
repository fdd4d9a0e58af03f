//! The tables `[[test]]`: messages, and what is expected of the routes.

use foldhash::HashMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};
use transload_envelope::{Envelope, Origin, Properties};

use super::{
    adapters::{Adapters, RoleOf},
    check::Check,
    finding::Finding,
    json::json,
    recover,
    source::{FileId, Place},
    suggest,
    tree::{self, Table, Value},
};
use crate::{
    message::{self, Message, MessageFault},
    rule_test::{Expectation, ExpectedPayload, RuleTest},
};

/// A message that comes in, and what is expected to go out; `transload test` runs all of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Test")]
#[expect(dead_code, reason = "the message is read from the table as a whole")]
pub(super) struct TestKeys {
    /// What the test shows. Default: its adapter and address.
    name: Option<String>,
    /// The adapter where the message comes in.
    #[schemars(with = "String", required)]
    from: Option<Spanned<String>>,
    /// Its address, in the form that patterns have.
    #[schemars(with = "String", required)]
    address: Option<Spanned<String>>,
    /// Its id. Default: a new one.
    id: Option<String>,
    /// Its payload as text. Default: empty.
    payload: Option<String>,
    /// Its payload as JSON, instead of `payload`.
    json: Option<Json>,
    /// Its payload in base64, instead of `payload`.
    payload_base64: Option<String>,
    /// Its headers; a list stands for repeats.
    headers: Option<Map<String, Json>>,
    /// Its properties, such as `content_type`.
    properties: Option<Map<String, Json>>,
    /// What the source's protocol knows beside the address, such as `method`.
    attributes: Option<Map<String, Json>>,
    /// A part of the reason for which the message goes to the dead letters.
    dead_letter: Option<String>,
}

/// What one target is expected to get. Further keys are those of the target, such as
/// `routing_key`, as the message has filled them in. What is not given is not compared.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expectation")]
pub(super) struct ExpectationKeys {
    /// The adapter that it goes to.
    #[schemars(with = "String", required)]
    to: Option<Spanned<String>>,
    /// The route that sends it.
    #[schemars(with = "Option<String>")]
    route: Option<Spanned<String>>,
    /// The address of the message.
    address: Option<String>,
    /// The payload, compared byte for byte.
    payload: Option<String>,
    /// The payload as JSON, compared by its value.
    json: Option<Json>,
    /// The payload in base64.
    payload_base64: Option<String>,
    /// Some of its headers; an empty list stands for a header that is not there.
    headers: Option<Map<String, Json>>,
    /// Some of its properties.
    properties: Option<Map<String, Json>>,
}

/// The keys of an expectation that are not those of a target.
const EXPECTATION_KEYS: [&str; 8] =
    ["to", "route", "address", "payload", "json", "payload_base64", "headers", "properties"];

/// The keys under which a payload may stand.
const PAYLOAD_KEYS: [&str; 3] = ["payload", "json", "payload_base64"];

impl<'a> Check<'a> {
    /// Reads the tests of one file. `routes` are the names of all routes.
    pub(super) fn rule_tests(
        &mut self,
        file: FileId,
        value: Value<'a>,
        adapters: &Adapters<'a>,
        routes: &HashMap<String, Place>,
        into: &mut Vec<RuleTest>,
    ) {
        let span = value.span();
        let DeValue::Array(list) = value.into_inner() else {
            let message = "expected an array of tables";
            let help = "write `[[test]]`, in double brackets".to_owned();
            self.report(Finding::error(Place { file, span }, message).with_help(help));
            return;
        };
        for value in list {
            match tree::into_table(value) {
                Ok(table) => into.extend(self.rule_test(file, table, adapters, routes)),
                Err(value) => {
                    let message = format!("expected a table, found {}", value.get_ref().type_str());
                    self.report(Finding::error(Place { file, span: value.span() }, message));
                }
            }
        }
    }

    fn rule_test(
        &mut self,
        file: FileId,
        mut table: Table<'a>,
        adapters: &Adapters<'a>,
        routes: &HashMap<String, Place>,
    ) -> Option<RuleTest> {
        let whole = Place { file, span: table.span() };
        let expect = table.get_mut().remove("expect");
        let mut recovered = recover::read(&mut table, &["expect"], |table| {
            TestKeys::deserialize(Deserializer::from(table.clone()))
        });
        let faults = std::mem::take(&mut recovered.faults);
        self.report_faults(file, faults, "this test");
        let keys = recovered.value?;
        self.one_payload(file, &table);
        let message = self.test_message(file, &table);
        for (key, given) in [("from", keys.from.is_some()), ("address", keys.address.is_some())] {
            if !given {
                let message = format!("the key `{key}` is missing in this test");
                self.report_missing(Finding::error(whole.clone(), message));
            }
        }
        let from = keys.from?;
        self.test_source(file, &from, adapters);
        if expect.is_none() && keys.dead_letter.is_none() {
            let help = "write `expect = [{ to = \"NAME\", … }]`, or `expect = []` for a message \
                        that goes nowhere"
                .to_owned();
            let finding = Finding::error(whole.clone(), "this test expects nothing");
            self.report_missing(finding.with_help(help));
        }
        let expect = match expect {
            Some(expect) => self.expectations(file, expect, adapters, routes)?,
            None => Vec::new(),
        };
        let message = message?;
        let source = self.sources.get(file)?;
        Some(RuleTest {
            name: keys.name.unwrap_or_else(|| format!("{} {}", from.get_ref(), message.address)),
            file: source.path.display().to_string(),
            line: source.position(whole.in_file().span.start).line,
            message,
            expect,
            dead_letter: keys.dead_letter,
        })
    }

    fn test_source(&mut self, file: FileId, from: &Spanned<String>, adapters: &Adapters<'a>) {
        let place = Place { file, span: from.span() };
        let name = from.get_ref();
        let Some(number) = adapters.find(name) else {
            self.unknown_adapter(place, name, adapters);
            return;
        };
        let prepared = adapters.get(number).and_then(|adapter| adapter.prepared.as_ref());
        if prepared.is_some_and(|prepared| !prepared.source().receives) {
            let message = format!("adapter `{name}` takes no messages in");
            self.report(Finding::error(place, message));
        }
    }

    /// A payload stands in one way only.
    fn one_payload(&mut self, file: FileId, table: &Table<'_>) {
        let given: Vec<_> =
            PAYLOAD_KEYS.iter().filter_map(|key| tree::key_span(table.get_ref(), key)).collect();
        if let [first, second, ..] = given.as_slice() {
            let message = "the payload is given twice";
            let finding = Finding::error(Place { file, span: second.clone() }, message);
            let other = Place { file, span: first.clone() };
            self.report(finding.with_related(other, "the other one"));
        }
    }

    /// The message of a test, from all keys that are not about the test.
    fn test_message(&mut self, file: FileId, table: &Table<'_>) -> Option<Message> {
        let keys = table
            .get_ref()
            .iter()
            .filter(|(key, _)| !["name", "dead_letter"].contains(&key.get_ref().as_ref()));
        let object = keys.map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
        match Message::from_json(&object.collect()) {
            Ok(message) => Some(message),
            Err(fault) => {
                self.message_fault(file, table, &fault);
                None
            }
        }
    }

    fn message_fault(&mut self, file: FileId, table: &Table<'_>, fault: &MessageFault) {
        let inner = format!("properties.{}", fault.key);
        let path = if table.get_ref().contains_key(&*fault.key) { &fault.key } else { &inner };
        let place = Place { file, span: tree::place(table, path) };
        self.report(Finding::error(place, format!("`{}`: {}", fault.key, fault.reason)));
    }

    fn expectations(
        &mut self,
        file: FileId,
        value: Value<'a>,
        adapters: &Adapters<'a>,
        routes: &HashMap<String, Place>,
    ) -> Option<Vec<Expectation>> {
        let list: Vec<Value<'a>> = match value {
            value if value.get_ref().is_table() => vec![value],
            value => {
                let place = Place { file, span: value.span() };
                let DeValue::Array(list) = value.into_inner() else {
                    let message = "expected an array of tables";
                    let help = "write `expect = [{ to = \"NAME\", … }]`".to_owned();
                    self.report(Finding::error(place, message).with_help(help));
                    return None;
                };
                list.into_iter().collect()
            }
        };
        let expectations: Vec<_> =
            list.into_iter().map(|value| self.expectation(file, value, adapters, routes)).collect();
        expectations.into_iter().collect()
    }

    fn expectation(
        &mut self,
        file: FileId,
        value: Value<'a>,
        adapters: &Adapters<'a>,
        routes: &HashMap<String, Place>,
    ) -> Option<Expectation> {
        let mut table = match tree::into_table(value) {
            Ok(table) => table,
            Err(value) => {
                let message = format!("expected a table, found {}", value.get_ref().type_str());
                self.report(Finding::error(Place { file, span: value.span() }, message));
                return None;
            }
        };
        let whole = Place { file, span: table.span() };
        let targets_own = take_others(table.get_mut());
        let mut recovered = recover::read(&mut table, &[], |table| {
            ExpectationKeys::deserialize(Deserializer::from(table.clone()))
        });
        let faults = std::mem::take(&mut recovered.faults);
        self.report_faults(file, faults, "this expectation");
        let keys = recovered.value?;
        self.one_payload(file, &table);
        let Some(to) = &keys.to else {
            let message = "the key `to` is missing in this expectation";
            self.report_missing(Finding::error(whole, message));
            return None;
        };
        let place = Place { file, span: to.span() };
        let Some(number) = adapters.find(to.get_ref()) else {
            self.unknown_adapter(place, to.get_ref(), adapters);
            return None;
        };
        if let Some(route) = &keys.route
            && !routes.contains_key(route.get_ref())
        {
            let place = Place { file, span: route.span() };
            let names: Vec<_> = routes.keys().map(String::as_str).collect();
            let help = suggest::closest(route.get_ref(), names.iter().copied())
                .map(|name| format!("did you mean `{name}`?"));
            let message = format!("there is no route named `{}`", route.get_ref());
            self.report(Finding::error(place, message).with_help(help));
        }
        let target_keys = self.target_keys(file, number, targets_own, adapters);
        let payload = self.expected_payload(file, &table, &keys);
        let properties = self.expected_properties(file, &table, keys.properties)?;
        Some(Expectation {
            to: number,
            route: keys.route.map(Spanned::into_inner),
            address: keys.address,
            payload,
            headers: keys.headers.unwrap_or_default(),
            properties,
            keys: target_keys,
        })
    }

    /// The keys that are those of the target; each must be one that targets of the adapter have.
    fn target_keys(
        &mut self,
        file: FileId,
        adapter: usize,
        table: DeTable<'a>,
        adapters: &Adapters<'a>,
    ) -> Map<String, Json> {
        let mut keys = Map::new();
        let Some(RoleOf(kind)) = adapters.get(adapter).and_then(|adapter| adapter.kind) else {
            return keys;
        };
        let schemas = self.schemas(kind);
        for (key, value) in table {
            let name = key.get_ref();
            if schemas.target().property(name).is_some() {
                keys.insert(name.to_string(), json(value.get_ref()));
                continue;
            }
            let mut known = schemas.target().names();
            known.extend(EXPECTATION_KEYS);
            let help = suggest::help(name, &known, "the keys here are");
            let place = Place { file, span: key.span() };
            self.report(Finding::error(place, format!("unknown key `{name}`")).with_help(help));
        }
        keys
    }

    fn expected_payload(
        &mut self,
        file: FileId,
        table: &Table<'_>,
        keys: &ExpectationKeys,
    ) -> Option<ExpectedPayload> {
        if let Some(json) = &keys.json {
            return Some(ExpectedPayload::Json(json.clone()));
        }
        if let Some(text) = &keys.payload {
            return Some(ExpectedPayload::Bytes(text.clone().into()));
        }
        let text = keys.payload_base64.as_ref()?;
        let object = [("payload_base64".to_owned(), Json::from(text.as_str()))];
        match Message::from_json(&object.into_iter().collect()) {
            Ok(message) => Some(ExpectedPayload::Bytes(message.payload)),
            Err(fault) => {
                self.message_fault(file, table, &fault);
                None
            }
        }
    }

    /// The properties in the form in which they are compared.
    fn expected_properties(
        &mut self,
        file: FileId,
        table: &Table<'_>,
        given: Option<Map<String, Json>>,
    ) -> Option<Map<String, Json>> {
        let mut properties = Properties::NONE;
        let mut names = Vec::new();
        for (name, given) in given.unwrap_or_default() {
            if let Err(fault) = message::property(&mut properties, &name, &given) {
                self.message_fault(file, table, &fault);
                return None;
            }
            names.push(name);
        }
        let envelope = Envelope::new(Origin::new("", "", ""), "").with_properties(properties);
        let view = message::properties(&envelope);
        let value = |name: String| {
            // `retain = false` is shown by its absence.
            let value = view.get(&name).cloned().unwrap_or(Json::Null);
            (name, value)
        };
        Some(names.into_iter().map(value).collect())
    }
}

/// Takes the keys out of a table that are not those of an expectation.
fn take_others<'a>(table: &mut DeTable<'a>) -> DeTable<'a> {
    let names: Vec<_> = table.keys().map(|key| key.get_ref().to_string()).collect();
    let mut others = DeTable::new();
    for name in names {
        if !EXPECTATION_KEYS.contains(&name.as_str())
            && let Some((key, value)) = table.remove_entry(name.as_str())
        {
            others.insert(key, value);
        }
    }
    others
}
