mod events;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use transload_envelope::{MessageId, Origin, Properties, Value};

use super::*;
use crate::{Facts, Pattern, Property, Template};

fn message(payload: impl Into<bytes::Bytes>) -> Envelope {
    let origin = Origin::new("devices", "mqtt", "dev/d7/up");
    let mut envelope = Envelope::new(origin, payload)
        .with_id(MessageId::from_source("m-1"))
        .with_properties(Properties { kind: Some("reading".into()), ..Properties::NONE });
    envelope.headers.push("X-Site", "north");
    envelope.headers.push("x-debug-a", "1");
    envelope.headers.push("x-site", "south");
    envelope.headers.push("other", 5_i64);
    envelope
}

fn apply(steps: Vec<Step>, envelope: &Envelope) -> Result<Vec<Envelope>, ShapeError> {
    let pattern = Pattern::parse("dev/{device}/up").unwrap();
    let captures = pattern.matches(&envelope.origin.address).unwrap();
    let before = envelope.clone();
    let facts = Facts::new(envelope);
    let made = Shape::new(steps).apply(&Scope::new(&captures, &facts));
    assert_eq!(*envelope, before, "the original is never changed");
    made
}

fn one(steps: Vec<Step>, envelope: &Envelope) -> Envelope {
    let [made] = apply(steps, envelope).unwrap().try_into().unwrap();
    made
}

fn fails(steps: Vec<Step>, envelope: &Envelope) -> String {
    apply(steps, envelope).unwrap_err().to_string()
}

fn field(text: &str) -> Field {
    Field::parse(text).unwrap()
}

fn path(text: &str) -> Path {
    let Field::Payload(path) = field(text) else { panic!("{text}") };
    path
}

fn constant(name: &str, value: Json) -> Step {
    Step::Set(vec![(field(name), Computed::Constant(value))])
}

fn template(name: &str, text: &str) -> Step {
    Step::Set(vec![(field(name), Computed::Template(Template::parse(text).unwrap()))])
}

fn remove(name: &str) -> Step {
    Step::Remove(vec![field(name)])
}

fn member(from: &str, to: &str) -> Step {
    Step::Rename(vec![Rename::Member(path(from), path(to))])
}

fn text(envelope: &Envelope) -> &str {
    std::str::from_utf8(&envelope.payload).unwrap()
}

/// What a step makes of a payload.
#[test]
fn payloads_are_changed_where_a_step_says() {
    let exact =
        r#"{"big":123456789012345678901234567890,"f":1.10,"e":1e400,"a":[1, 2],"s":"\u00e9"}"#;
    for (step, before, after) in [
        (constant("payload.x", json!(1)), "{}", r#"{"x":1}"#),
        (constant("payload.x", json!(1)), r#" { "a" : 2 } "#, r#"{"a":2,"x":1}"#),
        (constant("payload.x", json!(1)), r#"{"x":[0],"y":2}"#, r#"{"x":1,"y":2}"#),
        (constant("payload.x", json!(1)), r#"{"x":0,"y":2,"x":3}"#, r#"{"x":1,"y":2}"#),
        (constant("payload.a.b.c", json!({"d": null})), "{}", r#"{"a":{"b":{"c":{"d":null}}}}"#),
        (constant("payload.a.1", json!("z")), r#"{"a":[1,2,3]}"#, r#"{"a":[1,"z",3]}"#),
        (constant(r#"payload."a.b""#, json!(true)), r#"{"a":1}"#, r#"{"a":1,"a.b":true}"#),
        (
            constant("payload.b", json!(-0.5)),
            exact,
            &format!("{},\"b\":-0.5}}", &exact[..exact.len() - 1]),
        ),
        (template("payload.device", "<{device}>"), "{}", r#"{"device":"<d7>"}"#),
        (template("payload", "{device} {header.x-site}"), "anything", "d7 south"),
        (
            template("payload.f", "{payload.c * 1.8 + 32}"),
            r#"{"c":20.5}"#,
            r#"{"c":20.5,"f":68.9}"#,
        ),
        (
            template("payload.n", "{payload.items.size()}"),
            r#"{"items":[1,2]}"#,
            r#"{"items":[1,2],"n":2}"#,
        ),
        (template("payload.t", "{payload.c}°C"), r#"{"c":20}"#, r#"{"c":20,"t":"20°C"}"#),
        (template("payload.x", "{payload.none|-}"), "{}", r#"{"x":"-"}"#),
        (template("payload", "{payload.a}"), r#"{"a":{"b":[1]}}"#, r#"{"b":[1]}"#),
        (template("payload", "{payload.a}"), r#"{"a":"plain"}"#, "plain"),
        (constant("payload", json!({"a": [1]})), "anything", r#"{"a":[1]}"#),
        (constant("payload", json!("plain")), "anything", "plain"),
        (remove("payload.a"), r#"{"a":1,"b":2,"a":3}"#, r#"{"b":2}"#),
        (remove("payload.a.b"), r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"c":2}}"#),
        (remove("payload.a.0"), r#"{"a":[1,2]}"#, r#"{"a":[2]}"#),
        (remove("payload.a.b"), r#" {"a":1 }"#, r#" {"a":1 }"#),
        (remove("payload.none"), exact, exact),
        (remove("payload"), "anything", ""),
        (member("payload.a", "payload.z"), r#"{"a":1,"b":2}"#, r#"{"z":1,"b":2}"#),
        (member("payload.a", "payload.b"), r#"{"a":1,"b":2}"#, r#"{"b":1}"#),
        (member("payload.a", "payload.c.d"), r#"{"a":1.50,"b":2}"#, r#"{"b":2,"c":{"d":1.50}}"#),
        (member("payload.a.x", "payload.x"), r#"{"a":{"x":1}}"#, r#"{"a":{},"x":1}"#),
        (member("payload.none", "payload.x"), r#"{"a" : 1}"#, r#"{"a" : 1}"#),
    ] {
        let made = one(vec![step.clone()], &message(before.to_owned()));
        assert_eq!(text(&made), after, "{} of {before}", step.name());
    }
}

#[test]
fn what_cannot_be_done_is_said_with_the_step() {
    let schema = Schema::compile("s.json", &json!({ "required": ["t"] })).unwrap();
    let split = |at: &str, messages_max| Step::Split(Split { at: path(at), messages_max });
    for (step, payload, reason) in [
        (
            constant("payload.x", json!(1)),
            "no json",
            "`set payload.x` failed: payload.x: the payload is no JSON: expected",
        ),
        (constant("payload.x", json!(1)), "", "the payload is no JSON: EOF"),
        (
            constant("payload.x", json!(1)),
            "5",
            "`payload` is a number, which holds nothing by a name",
        ),
        (constant("payload.a.b.c", json!(1)), r#"{"a":{"b":"t"}}"#, "`payload.a.b` is a string"),
        (
            constant("payload.a.7", json!(1)),
            r#"{"a":[]}"#,
            "`payload.a` is an array of 0, without `7`",
        ),
        (
            template("payload.x", "{header.none}"),
            "{}",
            "payload.x: `{header.none}`: the message has no `header.none`",
        ),
        (
            template("property.priority", "{device}"),
            "{}",
            "property.priority: expected an integer, found \"d7\"",
        ),
        (template("address", "{header.none|}"), "{}", "address: an address cannot be empty"),
        (Step::Decode(Codec::Json), "{]", "`decode json` failed: the payload is no JSON: "),
        (Step::Decode(Codec::Gzip), "{]", "`decode gzip` failed: it is no gzip"),
        (Step::Decode(Codec::Base64), "*", "`decode base64` failed: it is no base64"),
        (Step::Decode(Codec::Cbor), "", "`decode cbor` failed: "),
        (Step::Decode(Codec::Msgpack), "\u{1}\u{1}", "1 bytes follow behind the value"),
        (
            Step::Encode(Codec::Cbor),
            "[12345678901234567890123]",
            "the integer 12345678901234567890123 does not fit 64 bits",
        ),
        (
            Step::Validate(schema),
            "{}",
            "`validate s.json` failed: the payload: \"t\" is a required property",
        ),
        (split("payload", 2), "[1,2,3]", "the array has 3 elements, and at most 2 are allowed"),
        (
            split("payload.items", 2),
            "{}",
            "`split payload.items` failed: there is no `payload.items`",
        ),
        (split("payload", 2), "{}", "`payload` is an object, no array"),
        (Step::Unwrap(Unwrap), "{}", "it is no event: it has no `specversion`"),
    ] {
        let error = fails(vec![step], &message(payload.to_owned()));
        assert!(error.contains(reason), "{payload}: {error}");
    }
}

#[test]
fn headers_properties_and_the_address_are_changed() {
    let steps = vec![
        constant("header.X-SITE", json!("west")),
        remove("header.x-debug-*"),
        Step::Rename(vec![Rename::Header("OTHER".into(), "n".into())]),
        constant("header.list", json!([1, "a", 2.5, u64::MAX])),
        constant("property.content_type", json!("text/plain")),
        template("property.priority", "7"),
        constant("property.retain", json!(true)),
        remove("property.kind"),
        template("address", "sites/{device}"),
        Step::Set(vec![(
            Field::Property(Property::ExpiresAt),
            Computed::FromNow(std::time::Duration::from_hours(1)),
        )]),
    ];
    let made = one(steps, &message("not json"));
    let headers: Vec<_> =
        made.headers.iter().map(|header| (&*header.name, header.value.clone())).collect();
    let list = vec![Value::Int(1), "a".into(), Value::Float(2.5), Value::UInt(u64::MAX)];
    assert_eq!(
        headers,
        [("X-SITE", "west".into()), ("n", Value::Int(5)), ("list", Value::List(list))]
    );
    let properties = made.properties();
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!((properties.priority, properties.retain), (Some(7), true));
    assert_eq!(properties.kind, None);
    let left = properties.expires_at.unwrap().remaining(transload_envelope::Timestamp::now());
    assert!(left.as_secs() > 3_500, "{left:?}");
    assert_eq!((&*made.address, text(&made)), ("sites/d7", "not json"));
}

#[test]
fn steps_see_what_the_steps_before_have_made() {
    let steps = vec![
        constant("header.site", json!("north")),
        template("payload", "{{\"site\":\"{header.site}\",\"n\":1.0}}"),
        constant("payload.x", json!(1)),
        template("payload.y", "{header.site}"),
    ];
    assert_eq!(text(&one(steps, &message(""))), r#"{"site":"north","n":1.0,"x":1,"y":"north"}"#);
    // The values of one step are of the message as it was before the step.
    let both = Step::Set(vec![
        (field("header.x-site"), Computed::Constant(json!("new"))),
        (field("payload.site"), Computed::Template(Template::parse("{header.x-site}").unwrap())),
    ]);
    assert_eq!(text(&one(vec![both], &message("{}"))), r#"{"site":"south"}"#);
}

#[test]
fn an_untouched_payload_is_not_copied() {
    let envelope = message("{ \"a\" : 1 }");
    for steps in [
        vec![constant("header.x", json!(1))],
        vec![Step::Decode(Codec::Json), remove("payload.b")],
        vec![Step::Encode(Codec::Json)],
    ] {
        let made = one(steps, &envelope);
        assert_eq!(made.payload.as_ptr(), envelope.payload.as_ptr());
        assert_eq!(made.payload.len(), envelope.payload.len());
    }
}

#[test]
fn an_array_is_split_into_messages_with_stable_ids() {
    let split = Step::Split(Split { at: path("payload.items"), messages_max: 3 });
    let envelope = message(r#"{"items":[{"n":1.10},"two",[3]],"rest":0}"#);
    let steps = vec![split, template("header.part", "{id}")];
    let made = apply(steps.clone(), &envelope).unwrap();
    let parts: Vec<_> = made.iter().map(|one| (one.id.as_str(), text(one))).collect();
    assert_eq!(parts, [("m-1-1", r#"{"n":1.10}"#), ("m-1-2", "\"two\""), ("m-1-3", "[3]")]);
    assert_eq!(made[2].headers.get("part"), Some(&"m-1-3".into()));
    assert_eq!(made[0].properties().content_type.as_deref(), Some("application/json"));
    assert_eq!(made, apply(steps, &envelope).unwrap(), "the same whenever it is done again");
    let twice = |text: &str| {
        let split = || Step::Split(Split { at: Path::default(), messages_max: MESSAGES_MAX });
        apply(vec![split(), split()], &message(text.to_owned()))
    };
    assert_eq!(twice("[[1,2],[3]]").unwrap().len(), 3);
    assert_eq!(twice("[]").unwrap().len(), 0);
    assert!(twice("[[1],2]").is_err(), "all or none");
    let many = format!("[{0},{0}]", format!("[{}0]", "0,".repeat(MESSAGES_MAX - 1)));
    assert!(twice(&many).unwrap_err().reason.contains("more than 10000 messages"));
}

#[test]
fn codecs_are_their_own_way_back() {
    let envelope = message(r#"{"a":[1,-2,18446744073709551615,0.1,null,true,"é"],"b":{}}"#);
    for codec in [Codec::Cbor, Codec::Msgpack, Codec::Gzip, Codec::Base64] {
        let encoded = one(vec![Step::Encode(codec)], &envelope);
        assert_ne!(encoded.payload, envelope.payload, "{codec:?}");
        let decoded = one(vec![Step::Decode(codec)], &encoded);
        assert_eq!(decoded.payload, envelope.payload, "{codec:?}");
    }
    let gzip = one(vec![Step::Encode(Codec::Gzip)], &envelope);
    assert_eq!(gzip.properties().content_encoding.as_deref(), Some("gzip"));
    let twice = one(vec![Step::Encode(Codec::Gzip)], &gzip);
    assert_eq!(twice.properties().content_encoding.as_deref(), Some("gzip, gzip"));
    let back = one(vec![Step::Decode(Codec::Gzip), Step::Decode(Codec::Gzip)], &twice);
    assert_eq!(back, envelope);
    let cbor = one(vec![Step::Encode(Codec::Cbor)], &envelope);
    assert_eq!(cbor.properties().content_type.as_deref(), Some("application/cbor"));
}

#[test]
fn codecs_read_what_others_write() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    for (codec, payload, expected) in [
        (Codec::Text, b"21.5 \xc2\xb0C".to_vec(), Ok("\"21.5 °C\"")),
        (Codec::Text, vec![0xff], Err("the payload is not UTF-8")),
        (Codec::Base64, b"aGk=".to_vec(), Ok("hi")),
        (Codec::Base64, b"aG\nk".to_vec(), Ok("hi")),
        (Codec::Base64, b"Pz8_".to_vec(), Ok("???")),
        // RFC 8949, appendix A.
        (Codec::Cbor, hex("a26161016162820203"), Ok(r#"{"a":1,"b":[2,3]}"#)),
        (Codec::Cbor, hex("4401020304"), Ok("\"AQIDBA\"")),
        (
            Codec::Cbor,
            hex("c074323031332d30332d32315432303a30343a30305a"),
            Ok("\"2013-03-21T20:04:00Z\""),
        ),
        (Codec::Cbor, hex("a201020304"), Ok(r#"{"1":2,"3":4}"#)),
        (Codec::Cbor, hex("f97e00"), Err("JSON has no number NaN")),
        (Codec::Cbor, hex("c249010000000000000000"), Err("does not fit")),
        (Codec::Cbor, hex("a2616101616102"), Err("the key `a` occurs twice")),
        (Codec::Cbor, vec![0x81; 10_000], Err("nested too deeply")),
        (
            Codec::Msgpack,
            hex("82a7636f6d70616374c3a6736368656d6100"),
            Ok(r#"{"compact":true,"schema":0}"#),
        ),
        (Codec::Msgpack, hex("c403010203"), Ok("\"AQID\"")),
        (Codec::Msgpack, hex("cfffffffffffffffff"), Ok("18446744073709551615")),
        (Codec::Msgpack, vec![0x91; 10_000], Err("depth limit")),
    ] {
        let made = apply(vec![Step::Decode(codec)], &message(payload.clone()));
        match (made, expected) {
            (Ok(made), Ok(expected)) => assert_eq!(text(&made[0]), expected, "{codec:?}"),
            (Err(error), Err(expected)) => {
                assert!(error.reason.contains(expected), "{codec:?}: {error}");
            }
            (made, _) => panic!("{codec:?} of {payload:?}: {made:?}"),
        }
    }
    let encode =
        |codec, payload: &str| one(vec![Step::Encode(codec)], &message(payload.to_owned()));
    assert_eq!(text(&encode(Codec::Json, "it's")), "\"it's\"");
    assert_eq!(text(&encode(Codec::Json, "5")), "5");
    assert_eq!(text(&encode(Codec::Text, "5")), "5");
    let word = one(vec![Step::Decode(Codec::Json), Step::Encode(Codec::Text)], &message("\"a b\""));
    assert_eq!(text(&word), "a b");
}

#[test]
fn a_payload_inflates_to_a_bound_only() {
    let bomb = one(vec![Step::Encode(Codec::Gzip)], &message(vec![0; 100_000]));
    assert!(bomb.payload.len() < 1_000);
    assert_eq!(codec::inflate(&bomb.payload, 100_000).unwrap().len(), 100_000);
    let error = codec::inflate(&bomb.payload, 99_999).unwrap_err();
    assert_eq!(error, "it inflates to more than 99999 bytes");
}

#[test]
fn a_schema_says_what_is_wrong_where() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "properties": { "t": { "type": "number", "maximum": 100 }, "id": { "pattern": "^d[0-9]+$" } },
    });
    let schema = Schema::compile("telemetry.json", &schema).unwrap();
    let validate = |payload: &str| {
        let steps = vec![Step::Validate(schema.clone())];
        apply(steps, &message(payload.to_owned())).map_err(|error| error.reason.to_string())
    };
    assert!(validate(r#"{"id":"d7","t":21.5}"#).is_ok());
    let error = validate(r#"{"id":"x","t":101}"#).unwrap_err();
    assert!(error.contains("/t: 101 is greater than the maximum of 100"), "{error}");
    assert!(error.contains("/id: "), "{error}");
    assert!(validate("21").is_err());
    for (schema, pointer) in [
        (json!({ "type": "nubmer" }), "/type"),
        (json!({ "$ref": "https://example.com/other.json" }), ""),
        (json!({ "properties": { "a": { "pattern": "(" } } }), "/properties/a/pattern"),
        (json!({ "pattern": "(?=look)" }), "/pattern"),
    ] {
        let error = Schema::compile("x", &schema).unwrap_err();
        assert_eq!(error.pointer, pointer, "{error}");
    }
}

#[test]
fn fields_are_read_and_written() {
    for text in [
        "payload",
        "payload.a",
        "payload.a.0.b",
        "payload.\"a.b\".c",
        "payload.\"\"",
        "header.X-a.b",
        "header.x-*",
        "property.kind",
        "address",
    ] {
        assert_eq!(Field::parse(text).unwrap().to_string(), text);
    }
    for (marked, message) in [
        ("«paylod».a", "`paylod` is no part of a message"),
        ("«headers».a", "`headers` is no part"),
        ("payload.a«».b", "a name is missing"),
        ("payload.«»", "a name is missing"),
        ("payload.«\"a»", "not closed"),
        ("payload.\"a\"«b»", "expected `.`"),
        ("«header.»", "lacks a name"),
        ("property.«colour»", "no property `colour`"),
    ] {
        let text = marked.replace(['«', '»'], "");
        let start = marked.find('«').unwrap();
        let end = marked.find('»').unwrap() - '«'.len_utf8();
        // Between the dots of `a..b`.
        let text = if marked.contains("a«».b") { "payload.a..b".to_owned() } else { text };
        let error = Field::parse(&text).expect_err(&text);
        assert!(error.message.contains(message), "{text}: {error}");
        if !marked.contains("a«».b") {
            assert_eq!(error.range, start..end, "{text}: {error}");
        }
    }
    assert!(Field::parse(&format!("payload{}", ".a".repeat(33))).is_err());
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Json::from),
        "\\PC{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn any_path() -> impl Strategy<Value = Path> {
    prop::collection::vec("[a-c]{1,2}|[0-2]", 1..4)
        .prop_map(|names| Path::new(names.into_iter().map(Text::from)))
}

/// What `set` must come to, on a plain value.
fn naive_set(value: &mut Json, names: &[Text], new: Json) -> Option<()> {
    let (first, rest) = names.split_first()?;
    let child = match value {
        Json::Object(members) => members.entry(first.to_string()).or_insert_with(|| json!({})),
        Json::Array(list) => list.get_mut(first.parse::<usize>().ok()?)?,
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => return None,
    };
    if rest.is_empty() {
        *child = new;
        return Some(());
    }
    naive_set(child, rest, new)
}

proptest! {
    #[test]
    fn setting_agrees_with_a_plain_value(before in any_json(), path in any_path(), new in any_json()) {
        let envelope = message(before.to_string());
        let step = Step::Set(vec![(Field::Payload(path.clone()), Computed::Constant(new.clone()))]);
        let mut expected = before.clone();
        let made = apply(vec![step], &envelope);
        if naive_set(&mut expected, path.names(), new).is_none() {
            prop_assert!(made.is_err());
        } else {
            let made = made.unwrap();
            prop_assert_eq!(text(&made[0]), expected.to_string());
        }
    }

    #[test]
    fn removing_what_was_added_gives_the_same_bytes(before in any_json(), new in any_json()) {
        let envelope = message(before.to_string());
        let path = Path::new([Text::from("added")]);
        let set = Step::Set(vec![(Field::Payload(path.clone()), Computed::Constant(new))]);
        let made = apply(vec![set, Step::Remove(vec![Field::Payload(path)])], &envelope);
        if before.is_object() {
            prop_assert_eq!(&made.unwrap()[0].payload, &envelope.payload);
        } else {
            prop_assert!(made.is_err());
        }
    }

    #[test]
    fn binary_formats_keep_every_value(value in any_json()) {
        for codec in [Codec::Cbor, Codec::Msgpack] {
            let steps = vec![Step::Encode(codec), Step::Decode(codec)];
            let made = one(steps, &message(value.to_string()));
            prop_assert_eq!(text(&made), value.to_string());
        }
    }

    #[test]
    fn no_bytes_make_a_step_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for (_, codec) in Codec::ALL {
            let _ = apply(vec![Step::Decode(*codec)], &message(bytes.clone()));
            let _ = apply(vec![Step::Encode(*codec)], &message(bytes.clone()));
        }
        let _ = apply(vec![Step::Unwrap(Unwrap)], &message(bytes));
    }
}
