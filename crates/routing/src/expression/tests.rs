use bytes::Bytes;
use cel::parser::PrattParser;
use proptest::prelude::*;
use serde_json::json;
use transload_envelope::{Envelope, MessageId, Origin, Timestamp, Value};

use super::*;
use crate::{Captures, Facts, Pattern};

const PAYLOAD: &str = r#"{
    "temperature": 31.5, "whole": 20, "negative": -3, "big": 18446744073709551615, "zero": 0,
    "kind": "alarm", "text": "späte Ernte", "yes": true, "no": false, "none": null,
    "tags": ["a", "b"], "numbers": [1, 2.5, 3], "empty": [], "device": {"id": "d7", "x-y": 1},
    "items": [{"name": "bolt", "count": 4}, {"name": "nut", "count": 0}],
    "twice": 1, "twice": 2, "escaped": "a\"b\n"
}"#;

fn message(payload: impl Into<Bytes>) -> Envelope {
    let origin =
        Origin::new("devices", "mqtt", "dev/d7/up/x").with("qos", 1_i64).with("retain", true);
    let mut envelope = Envelope::new(origin, payload).with_id(MessageId::from_source("m-1"));
    envelope.headers.push("X-Tenant", "acme");
    envelope.headers.push("X-Tenant", "other");
    envelope.headers.push("x-count", 7_i64);
    envelope.headers.push("x-map", Value::Map(vec![("inner".into(), Value::Int(5))]));
    envelope.properties_mut().content_type = Some("application/json".into());
    envelope.properties_mut().priority = Some(4);
    envelope
}

/// Calls the closure with the scope of a message with this payload.
fn within<T>(payload: impl Into<Bytes>, look: impl FnOnce(&Scope<'_>) -> T) -> T {
    let envelope = message(payload);
    let pattern = Pattern::parse("dev/{device}/up/{rest...}").unwrap();
    let captures = pattern.matches(&envelope.address).unwrap();
    let facts = Facts::new(&envelope).at(Timestamp { unix_ms: 1_700_000_000_000 });
    look(&Scope::new(&captures, &facts))
}

fn compile(text: &str) -> Expression {
    Expression::compile(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// The value, or `absent: …`, or `failed: …`.
fn evaluate(text: &str, payload: &str) -> Json {
    let expression = compile(text);
    within(payload.to_owned(), |scope| match expression.evaluate(scope) {
        Ok(value) => value,
        Err(EvalError::Absent { what }) => json!(format!("absent: {what}")),
        Err(EvalError::Failed { message, .. }) => json!(format!("failed: {message}")),
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn values_are_what_people_expect() {
    for (expression, expected) in [
        // Comparing: integers and decimals are numbers.
        ("payload.temperature > 30", json!(true)),
        ("payload.temperature > 30.0", json!(true)),
        ("payload.whole > 19.5", json!(true)),
        ("payload.whole == 20.0", json!(true)),
        ("20 == payload.whole", json!(true)),
        ("payload.whole >= 20 && payload.whole <= 20", json!(true)),
        ("payload.negative < 0", json!(true)),
        ("payload.negative == -3", json!(true)),
        ("payload.big > 5", json!(true)),
        ("payload.big > 1e30", json!(false)),
        ("payload.whole != 20", json!(false)),
        ("payload.kind == 'alarm'", json!(true)),
        ("payload.kind == \"alarm\"", json!(true)),
        ("payload.kind < 'b'", json!(true)),
        ("payload.kind == 5", json!(false)),
        ("payload.kind != 5", json!(true)),
        ("payload.yes == true", json!(true)),
        ("payload.none == null", json!(true)),
        ("payload.kind == null", json!(false)),
        ("payload.twice", json!(2)),
        ("payload.escaped == 'a\"b\\n'", json!(true)),
        ("payload.whole > payload.negative", json!(true)),
        ("payload.tags == ['a', 'b']", json!(true)),
        ("payload.tags == payload.tags", json!(true)),
        // Truth.
        ("payload.yes", json!(true)),
        ("!payload.no", json!(true)),
        ("payload.yes && !payload.no || payload.no", json!(true)),
        ("payload.no || payload.kind == 'alarm'", json!(true)),
        // Lists and texts.
        ("payload.kind in ['alarm', 'alert']", json!(true)),
        ("payload.whole in [1, 20]", json!(true)),
        ("payload.whole in [20.0]", json!(true)),
        ("'a' in payload.tags", json!(true)),
        ("'kind' in payload", json!(true)),
        ("payload.tags[1]", json!("b")),
        ("payload['kind']", json!("alarm")),
        ("payload.device['x-y']", json!(1)),
        ("size(payload.tags)", json!(2)),
        ("payload.tags.size() == 2", json!(true)),
        ("size(payload.text)", json!(11)),
        ("payload.kind.startsWith('al')", json!(true)),
        ("payload.kind.endsWith('rm')", json!(true)),
        ("payload.text.contains('te E')", json!(true)),
        ("payload.kind.matches('^a[a-z]+m$')", json!(true)),
        ("payload.kind.matches('x')", json!(false)),
        ("payload.kind.upperAscii() + '!'", json!("ALARM!")),
        ("payload.device.id.split('')[0]", json!("d")),
        ("payload.tags.join('-')", json!("a-b")),
        ("payload.items.exists(i, i.count == 0)", json!(true)),
        ("payload.items.all(i, i.count > 0)", json!(false)),
        ("payload.items.filter(i, i.count > 0).map(i, i.name)", json!(["bolt"])),
        ("payload.items.map(i, i.count * 2)", json!([8, 0])),
        ("payload.numbers.map(n, n * 2)", json!([2, 5.0, 6])),
        ("payload.items.exists_one(id, id.name == 'nut')", json!(true)),
        ("[1, 2].map(payload, payload + 1)", json!([2, 3])),
        // Calculating.
        ("payload.whole * 1.5", json!(30.0)),
        ("payload.temperature * 2", json!(63.0)),
        ("payload.whole * 1.8 + 32", json!(68.0)),
        ("payload.whole / 3", json!(6)),
        ("payload.whole / 8.0", json!(2.5)),
        ("payload.whole % 3", json!(2)),
        ("-payload.whole", json!(-20)),
        ("math.round(payload.temperature)", json!(32.0)),
        ("math.round(payload.whole)", json!(20)),
        ("payload.kind + '/' + payload.device.id", json!("alarm/d7")),
        ("payload.kind + string(payload.whole)", json!("alarm20")),
        ("int('5') + 1", json!(6)),
        ("payload.yes ? 'on' : 'off'", json!("on")),
        ("type(payload.whole) == int", json!(true)),
        ("base64.encode(b'ab')", json!("YWI=")),
        ("{'id': payload.device.id, 'ok': true}", json!({ "id": "d7", "ok": true })),
        ("payload.device", json!({ "id": "d7", "x-y": 1 })),
        // What is there.
        ("has(payload.kind)", json!(true)),
        ("has(payload.none)", json!(true)),
        ("has(payload.absent)", json!(false)),
        ("has(payload.absent.deeper)", json!(false)),
        ("has(payload.kind.deeper)", json!(false)),
        ("!has(payload.absent)", json!(true)),
        ("has(payload.absent) && payload.absent > 3", json!(false)),
        ("has(payload.absent) ? payload.absent : 'none'", json!("none")),
        ("has(headers.x)", json!(false)),
        // What is not there.
        ("payload.absent > 3", json!("absent: payload.absent")),
        ("payload.absent == null", json!("absent: payload.absent")),
        ("payload.kind.deeper", json!("absent: payload.kind.deeper")),
        ("payload.tags[2]", json!("absent: payload.tags[2]")),
        ("payload.none > 3", json!("absent: payload.none")),
        ("payload.none * 3", json!("absent: payload.none")),
        ("payload.absent > 3 || payload.yes", json!(true)),
        ("payload.yes || payload.absent > 3", json!(true)),
        ("payload.absent > 3 && payload.no", json!(false)),
        ("!(payload.absent > 3)", json!("absent: payload.absent")),
        // What is absent stands for false where the other side fails.
        ("payload.absent > 3 && payload.kind > 3", json!("absent: payload.absent")),
        ("payload.kind > 3 && payload.absent > 3", json!("absent: payload.absent")),
        ("payload.kind * 2 > 3 && payload.absent > 3", json!("absent: payload.absent")),
        (
            "payload.absent > 3 || payload.kind > 3",
            json!("failed: `>` cannot be used between a text and an integer"),
        ),
        (
            "payload.kind * 2 > 3 || payload.absent > 3",
            json!("failed: `*` cannot be used between a text and an integer"),
        ),
        ("payload.items.exists(i, i.price > 3)", json!("absent: price")),
        // Other parts of a message.
        ("address == 'dev/d7/up/x'", json!(true)),
        ("address.startsWith('dev/')", json!(true)),
        ("captures.device + captures.rest", json!("d7x")),
        ("headers['X-Tenant']", json!("acme")),
        ("headers['x-tenant'] == 'acme'", json!(true)),
        ("headers['x-count'] > 6.5", json!(true)),
        ("headers['x-map'].inner", json!(5)),
        ("headers.exists(name, name == 'X-Tenant')", json!(true)),
        ("properties.content_type", json!("application/json")),
        ("properties.priority > 3", json!(true)),
        ("properties.kind == 'x'", json!("absent: properties.kind")),
        ("source.name + source.kind", json!("devicesmqtt")),
        ("source.qos == 1 && source.retain", json!(true)),
        ("source.method == 'POST'", json!("absent: source.method")),
        ("now - 1000", json!(1_699_999_999_000_i64)),
        ("id", json!("m-1")),
        // What goes wrong.
        ("payload.kind > 3", json!("failed: `>` cannot be used between a text and an integer")),
        ("payload.device > 3", json!("failed: `>` cannot be used between a map and an integer")),
        ("payload.whole / payload.zero", json!("failed: division by zero")),
        ("payload.kind * 2", json!("failed: `*` cannot be used between a text and an integer")),
        ("!payload.kind", json!("failed: `!` cannot be used with a text")),
        (
            "payload.kind && true",
            json!("failed: `&&` cannot be used between a text and a truth value"),
        ),
        (
            "payload.whole.startsWith('a')",
            json!("failed: `startsWith` cannot be used with an integer and a text"),
        ),
        ("9223372036854775807 + payload.whole", json!("failed: the result is too large a number")),
        ("int(payload.kind)", json!("failed: ")),
    ] {
        let value = evaluate(expression, PAYLOAD);
        match (value.as_str(), expected.as_str()) {
            (Some(value), Some("failed: ")) => assert!(value.starts_with("failed: "), "{value}"),
            _ => assert_eq!(value, expected, "{expression}"),
        }
    }
}

#[test]
fn a_payload_that_is_no_object_is_read_too() {
    for (payload, expression, expected) in [
        ("23.5", "payload > 20", json!(true)),
        ("\"ON\"", "payload == 'ON'", json!(true)),
        ("[1, 2]", "payload[1]", json!(2)),
        ("23.5", "has(payload.x)", json!(false)),
        ("ON", "payload == 'ON'", json!("absent: payload")),
        ("", "payload.x > 1", json!("absent: payload.x")),
        ("{\"x\": 5} and more", "payload.x == 5", json!("absent: payload.x")),
        ("{\"x\": 5, \"y\": \"\\ud800\"}", "payload.x == 5", json!("absent: payload.x")),
        ("", "has(payload.x) || address != ''", json!(true)),
    ] {
        assert_eq!(evaluate(expression, payload), expected, "{expression} of {payload}");
    }
}

#[test]
fn faults_are_found_at_their_place() {
    for (expression, part, message) in [
        ("", "", "the expression is empty"),
        ("payload.x >", "", ""),
        ("payload.x = 5", "=", ""),
        ("(payload.x", "", ""),
        ("payload.x > 5)", ")", ""),
        ("paylod.x > 5", "paylod", "there is nothing named `paylod` here"),
        ("payload.x > 5 && kind == 1", "kind", "there is nothing named `kind` here"),
        ("payload.x.foo()", "foo", "there is no function `foo`"),
        ("foo(payload.x)", "foo", "there is no function `foo`"),
        ("startsWith(address, 'a')", "startsWith", "`startsWith` is called on a value"),
        ("has(payload)", "", "invalid argument to has() macro"),
        ("properties.knd == 'x'", "knd", "there is no property `knd`"),
        ("address.x == 'y'", "x", "`address` has no fields"),
        ("payload.x.matches('(')", "matches", "this is no regular expression: unclosed group"),
        ("Thing{a: 1}", "Thing{a: 1}", "messages of a named type are not known here"),
        ("lists.range(1000000)", "range", ""),
        ("payload.a.map(x, x.map(y, y.map(z, z)))", "", "at most 2 walks"),
        ("'a", "", ""),
    ] {
        let error = Expression::compile(expression).expect_err(expression);
        assert!(error.message.contains(message), "{expression}: {error:?}");
        let found = expression.get(error.range.clone()).expect(expression);
        assert!(found.contains(part), "{expression}: {error:?}");
        assert!(part.is_empty() || found.len() <= part.len() + 1, "{expression}: {error:?}");
    }
    let error = Predicate::compile("'text'").unwrap_err();
    assert!(error.message.contains("no condition"), "{error}");
}

#[test]
fn length_and_depth_have_bounds() {
    for text in [
        format!("{}1{}", "(".repeat(2000), ")".repeat(2000)),
        format!("{}1", "-".repeat(4000)),
        format!("{}1", "!".repeat(4001)),
        format!("1{}", "+1".repeat(2000)),
        format!("1{}", "*1".repeat(2000)),
        format!("true{}", " ? true : false".repeat(250)),
        format!("{}1{}", "[".repeat(2000), "]".repeat(2000)),
        format!("{}1{}", "{1:".repeat(1000), "}".repeat(1000)),
        format!("payload{}", ".a".repeat(2000)),
        format!("payload.x == '{}'", "a".repeat(EXPRESSION_BYTES_MAX)),
        format!("true{}", " && true".repeat(500)),
    ] {
        // No answer is wrong here, except for a crash.
        let compiled = Expression::compile(&text);
        if let Ok(expression) = compiled {
            within("{}", |scope| drop(expression.evaluate(scope)));
        }
    }
}

#[test]
fn an_error_tells_what_was_read() {
    let predicate = Predicate::compile("payload.kind > 3 && payload.whole > 1").unwrap();
    let error = within(PAYLOAD, |scope| predicate.test(scope)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`>` cannot be used between a text and an integer; payload.kind is \"alarm\", \
         payload.whole is 20"
    );
    let error = within("{}", |scope| predicate.test(scope)).unwrap_err();
    assert_eq!(error.to_string(), "payload.kind is absent");
}

#[test]
fn what_is_read_can_be_asked() {
    let expression = compile("captures.device == 'x' && headers['a-b'] == captures.other");
    let captures: Vec<_> = expression.captures().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(captures, ["device", "other"]);
    let (_, range) = expression.captures().nth(1).unwrap();
    assert_eq!(&expression.as_str()[range], "other");
    assert!(!expression.reads_payload() && !expression.is_constant());
    let values = within("", |scope| expression.values(scope));
    assert_eq!(
        values.to_string(),
        "; captures.device is \"d7\", headers[\"a-b\"] is absent, captures.other is absent"
    );
}

#[test]
fn an_unread_payload_is_not_parsed() {
    let predicate = Predicate::compile("address == 'x' && payload.x == 5").unwrap();
    let envelope = message(PAYLOAD);
    let (captures, facts) = (Captures::default(), Facts::new(&envelope));
    assert_eq!(predicate.test(&Scope::new(&captures, &facts)), Ok(false));
    assert!(!facts.is_read());
    assert_eq!(compile("payload.x").evaluate(&Scope::new(&captures, &facts)).ok(), None);
    assert!(facts.is_read());
}

/// What both ways of evaluating have in common.
#[derive(Debug, PartialEq)]
enum Seen {
    Is(bool),
    Absent,
    Failed,
}

fn seen(result: &Result<bool, Fault>) -> Seen {
    match result {
        Ok(truth) => Seen::Is(*truth),
        Err(fault) if fault.is_absent() => Seen::Absent,
        Err(_) => Seen::Failed,
    }
}

fn condition() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "payload.a",
        "payload.b",
        "payload.c",
        "payload.a.b",
        "payload['a'][0]",
        "headers['x-count']",
        "address",
        "captures.device",
        "source.qos",
        "payload",
    ]);
    let constant = prop::sample::select(vec![
        "1",
        "1.0",
        "-2",
        "0.5",
        "'x'",
        "'xy'",
        "true",
        "false",
        "null",
        "18446744073709551615u",
        "9007199254740993",
        "9007199254740992.0",
        "''",
    ]);
    let operand = || prop_oneof![3 => field.clone(), 1 => constant.clone()];
    let sign = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let function = prop::sample::select(vec!["startsWith", "endsWith", "contains", "matches"]);
    let leaf = prop_oneof![
        4 => (operand(), sign, operand()).prop_map(|(l, s, r)| format!("{l} {s} {r}")),
        1 => field.clone().prop_map(str::to_owned),
        1 => prop::sample::select(vec!["has(payload.a)", "has(payload.a.b)", "has(payload.b.c)"])
            .prop_map(str::to_owned),
        1 => (operand(), constant.clone(), constant.clone())
            .prop_map(|(item, a, b)| format!("{item} in [{a}, {b}]")),
        1 => (field.clone(), function, prop::sample::select(vec!["'x'", "'y'", "''", "5"]))
            .prop_map(|(on, function, part)| format!("{on}.{function}({part})")),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l}) && ({r})")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l}) || ({r})")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

fn payload() -> impl Strategy<Value = String> {
    let scalar = || {
        prop::sample::select(vec![
            "1",
            "1.0",
            "-2",
            "0.5",
            "\"x\"",
            "\"xy\"",
            "\"\"",
            "true",
            "false",
            "null",
            "[1]",
            "{}",
            "18446744073709551615",
            "9007199254740992",
            "9007199254740993",
            "{\"b\": 1}",
            "[\"x\"]",
        ])
    };
    let entry = (prop::sample::select(vec!["a", "b", "c", "d"]), scalar())
        .prop_map(|(key, value)| format!("\"{key}\": {value}"));
    prop_oneof![
        6 => prop::collection::vec(entry, 0..5).prop_map(|all| format!("{{{}}}", all.join(", "))),
        1 => scalar().prop_map(str::to_owned),
        1 => Just("no JSON".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn native_checks_say_what_the_library_says(text in condition(), payload in payload()) {
        let expression = compile(&text);
        if let Body::Check(check, tree) = &expression.0.body {
            within(payload, |scope| {
                let native = seen(&check.test(&expression.0, scope));
                let library = seen(&interpret::test(&expression.0, tree, scope));
                // Which of two errors counts is ours to say.
                if native == Seen::Is(true) || native == Seen::Is(false) || !text.contains(['&', '|']) {
                    prop_assert_eq!(native, library, "{}", text);
                } else {
                    prop_assert!(matches!(library, Seen::Absent | Seen::Failed), "{}", text);
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn no_text_makes_compiling_or_evaluating_panic(text in "[a-z.'\"(){}\\[\\]!<>=&|?:+*/%0-9, -]{0,60}") {
        if let Ok(expression) = Expression::compile(&text) {
            within(PAYLOAD, |scope| drop(expression.evaluate(scope)));
        }
    }
}

/// The parser that we use is the younger of the library's two.
#[test]
fn both_parsers_of_the_library_read_the_same() {
    for text in [
        "payload.a > 3.5 && payload['b'] in [1, -2u, 'x'] || !has(payload.c.d)",
        "payload.items.exists(i, i.a ? i.b : -i.c * 2 + 1 % 3 - 4 / 5 == 6)",
        "{'a': [1, {'b': null}], \"c\": r'\\d', 'd': b'x'}.a[0] != 0x1F",
        "size(payload.x) <= 1e3 && 'ab\\n\\u00e9'.startsWith(address)",
        "payload.a.b.filter(x, x > 1).map(y, y * 2).all(z, z >= 2) // done",
    ] {
        let (ours, other) =
            (PrattParser::new().parse(text), cel::parser::Parser::new().parse(text));
        assert_eq!(without_ids(&ours.unwrap()), without_ids(&other.unwrap()), "{text}");
    }
}

/// The shape of a tree.
fn without_ids(tree: &Tree) -> String {
    let text = format!("{tree:?}");
    let mut parts = text.split("id: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.trim_start_matches(|char: char| char.is_ascii_digit()))
}
