use proptest::prelude::*;
use transload_envelope::{Envelope, MessageId, Origin, Properties, Timestamp, Value};

use super::*;
use crate::{Captures, Facts, RenderError, Scope};

fn message() -> Envelope {
    let origin = Origin::new("devices", "mqtt", "dev/d7/up")
        .with("qos", 1_u64)
        .with("method", "POST")
        .with("peers", Value::List(vec![]));
    let mut envelope = Envelope::new(origin, "payload")
        .with_id(MessageId::from_source("m-1"))
        .with_properties(Properties {
            content_type: Some("text/plain".into()),
            kind: Some("reading".into()),
            priority: Some(4),
            durable: Some(true),
            timestamp: Some(Timestamp { unix_ms: 1_700_000_000_123 }),
            correlation: Some(vec![0xff, 0xfe].into()),
            reply_to: Some("answers/here".into()),
            ..Properties::NONE
        });
    envelope.headers.push("X-Tenant", "first");
    envelope.headers.push("X-Tenant", "second");
    envelope.headers.push("x-tenant", "lower");
    envelope.headers.push("number", -5_i64);
    envelope.headers.push("ratio", Value::Float(0.5));
    envelope.headers.push("null", Value::Null);
    envelope.headers.push("text bytes", Value::Bytes("täxt".into()));
    envelope.headers.push("bytes", Value::Bytes(vec![0xff].into()));
    envelope.headers.push("map", Value::Map(vec![]));
    envelope.headers.push("empty", "");
    envelope
}

fn render(template: &str) -> Result<String, RenderError> {
    let envelope = message();
    let pattern = Pattern::parse("dev/{device}/up/{rest...}").unwrap();
    let captures = pattern.matches(&envelope.address).unwrap();
    let facts = Facts::new(&envelope);
    let scope = Scope::new(&captures, &facts);
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    let mut text = "before:".to_owned();
    let result = template.render(&scope, &mut text);
    let shared = template.render_text(&scope, &mut "lost".to_owned());
    assert_eq!(shared, result.clone().map(|()| text["before:".len()..].into()), "{template:?}");
    assert!(result.is_ok() || text == "before:", "{text}");
    result.map(|()| text["before:".len()..].to_owned())
}

#[test]
fn references_are_filled_in() {
    for (template, text) in [
        ("", ""),
        ("plain", "plain"),
        ("devices.{device}.telemetry", "devices.d7.telemetry"),
        ("{device}", "d7"),
        ("{device}{device}", "d7d7"),
        ("<{rest}>", "<>"),
        ("<{rest|none}>", "<>"),
        ("{address} {message.address}", "dev/d7/up dev/d7/up"),
        ("{address}", "dev/d7/up"),
        ("{id}/{message.id}", "m-1/m-1"),
        ("{source}-{message.source}", "devices-devices"),
        ("{header.X-Tenant}", "first"),
        ("{header.x-tenant}", "lower"),
        ("{header.X-TENANT}", "first"),
        ("{header.number},{header.ratio}", "-5,0.5"),
        ("{header.text bytes}", "täxt"),
        ("<{header.empty|x}>", "<>"),
        ("{header.absent|some default: x|y}", "some default: x|y"),
        ("<{header.absent|}>", "<>"),
        ("<{header.null|nothing}>", "<nothing>"),
        ("{unknown|else}", "else"),
        ("{property.content_type}", "text/plain"),
        ("{property.kind}.{property.priority}", "reading.4"),
        ("{property.durable} {property.retain}", "true false"),
        ("{property.timestamp}", "1700000000123"),
        ("{property.reply_to}", "answers/here"),
        ("{property.app_id|-}{property.user_id|-}{property.expires_at|-}", "---"),
        ("{property.content_encoding|identity}", "identity"),
        ("{attribute.method} {attribute.qos}", "POST 1"),
        ("{attribute.absent|GET}", "GET"),
        ("{{{device}}}", "{d7}"),
        ("{{device}}", "{device}"),
        ("{{\"id\":\"{device}\"}}", "{\"id\":\"d7\"}"),
        ("ä{device}ö", "äd7ö"),
    ] {
        assert_eq!(render(template).as_deref(), Ok(text), "{template}");
    }
}

#[test]
fn what_cannot_be_filled_in_is_named() {
    for (template, message) in [
        ("x{header.absent}", "no `header.absent`"),
        ("x{header.null}", "no `header.null`"),
        ("{attribute.absent}", "no `attribute.absent`"),
        ("{property.user_id}", "no `property.user_id`"),
        ("{unknown}", "no `unknown`"),
        ("{header.bytes}", "`header.bytes` is bytes that are not UTF-8"),
        ("{header.bytes|x}", "`header.bytes` is bytes that are not UTF-8"),
        ("{header.map}", "`header.map` is a map"),
        ("{attribute.peers}", "`attribute.peers` is a list"),
        ("{property.correlation}", "`property.correlation` is bytes"),
    ] {
        let error = render(template).expect_err(template).to_string();
        assert!(error.contains(message), "{template}: {error}");
    }
}

#[test]
fn a_capture_goes_before_a_field_of_the_same_name() {
    let envelope = message();
    let pattern = Pattern::parse("dev/{id}/up").unwrap();
    let captures = pattern.matches(&envelope.address).unwrap();
    let facts = Facts::new(&envelope);
    let scope = Scope::new(&captures, &facts);
    let mut text = String::new();
    Template::parse("{id} {message.id}").unwrap().render(&scope, &mut text).unwrap();
    assert_eq!(text, "d7 m-1");
    let alone = Template::parse("{id}").unwrap();
    assert_eq!(alone.render_text(&scope, &mut text).unwrap(), "d7");
}

#[test]
fn long_constants_and_addresses_are_shared_and_not_copied() {
    let mut envelope = message();
    envelope.address = "plants/1/lines/7/robots/42/telemetry".into();
    let (captures, facts) = (Captures::default(), Facts::new(&envelope));
    let scope = Scope::new(&captures, &facts);
    let address = Template::parse("{address}").unwrap();
    let text = address.render_text(&scope, &mut String::new()).unwrap();
    assert_eq!(text.as_ptr(), envelope.address.as_ptr());
    let constant = Template::parse("a{{b that is too long to stand in place").unwrap();
    let texts = [(); 2].map(|()| constant.render_text(&scope, &mut String::new()).unwrap());
    assert_eq!(texts[0], "a{b that is too long to stand in place");
    assert_eq!(texts[0].as_ptr(), texts[1].as_ptr());
}

#[test]
fn bounds_are_held_and_named() {
    let bound = "x".repeat(RENDERED_BYTES_MAX);
    for (address, template, fits) in [
        (&*bound, "{address}", true),
        (&bound, "{address}{header.absent|}", true),
        (&bound, "{address}.", false),
        (&bound, ".{address}", false),
        (&format!("{bound}x"), "{address}", false),
    ] {
        let envelope = Envelope::new(Origin::new("a", "mqtt", address), "");
        let (captures, facts) = (Captures::default(), Facts::new(&envelope));
        let scope = Scope::new(&captures, &facts);
        let mut text = String::new();
        let result = Template::parse(template).unwrap().render_text(&scope, &mut text);
        let too_long = Err(RenderError::TooLong { bytes_max: RENDERED_BYTES_MAX });
        assert!(if fits { result.is_ok() } else { result == too_long }, "{template}");
    }
    assert!(Template::parse(&"x".repeat(TEMPLATE_BYTES_MAX)).is_ok());
    let error = Template::parse(&"x".repeat(TEMPLATE_BYTES_MAX + 1)).unwrap_err();
    assert!(error.message.contains("65536 bytes"), "{error}");
}

#[test]
fn faults_are_named_with_their_place() {
    for (marked, message, help) in [
        ("a«{»b", "not closed", "`{{`"),
        ("«{»a{b}", "not closed", "`{{`"),
        ("a«}»b", "closes nothing", "`}}`"),
        ("x«{}»", "no name", "`{name}`"),
        ("x«{|y}»", "no name", "`{name}`"),
        ("{«1»}", "not a name", "in the pattern"),
        ("{«device-id»}", "not a name", "a letter or `_`"),
        ("{ «a»}", "nothing named `a`", "payload"),
        ("a.{«path...»}", "belong to the pattern", "`{path}`"),
        ("{«header.»}", "lacks a name", ""),
        ("{property.«colour»}", "no property `colour`", "content_type, content_encoding"),
        ("{message.«payload»|x}", "no field `payload`", "address, id and source"),
        ("é{«heders».x}", "nothing named `heders`", "headers"),
        ("a«{»payload.x", "not closed", "`{{`"),
        ("a«{»payload.x == 'b}", "not closed", "`{{`"),
        ("é{payload.x.«foo»()|x}", "no function `foo`", "startsWith"),
    ] {
        let text = marked.replace(['«', '»'], "");
        let start = marked.find('«').unwrap();
        let end = marked.find('»').unwrap() - '«'.len_utf8();
        let error = Template::parse(&text).expect_err(&text);
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.range, start..end, "{text}: {error}");
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {error:?}");
    }
}

#[test]
fn expressions_are_calculated() {
    for (template, text) in [
        ("{payload.id}", "d7"),
        ("a/{payload.id}/{device}", "a/d7/d7"),
        ("{payload.celsius * 1.8 + 32}°F", "68°F"),
        ("{payload.celsius}", "20"),
        ("{payload.ok}", "true"),
        ("{ payload.id + '}|' }.", "d7}|."),
        ("{({'a': payload.id}).a}", "d7"),
        ("{payload.celsius > 5 || payload.ok|x}", "true"),
        ("{payload.absent|none}", "none"),
        ("{payload.nothing|none}", "none"),
        ("{payload.absent|}", ""),
        ("{headers['x-text']}", "späte"),
        ("{header.x-text}", "späte"),
    ] {
        assert_eq!(render_json(template).as_deref(), Ok(text), "{template}");
    }
    for (template, error) in [
        ("{payload.absent}", "`payload.absent` has no value: payload.absent is absent"),
        ("{payload.list}", "`payload.list` is a list, which cannot stand in a text"),
        (
            "{payload.id * 2|x}",
            "`payload.id * 2` has no value: `*` cannot be used between a text and an integer; \
             payload.id is \"d7\"",
        ),
    ] {
        assert_eq!(render_json(template).unwrap_err().to_string(), error, "{template}");
    }
}

fn render_json(template: &str) -> Result<String, RenderError> {
    let payload = r#"{"id": "d7", "celsius": 20, "ok": true, "nothing": null, "list": [1]}"#;
    let mut envelope = Envelope::new(Origin::new("devices", "mqtt", "dev/d7/up"), payload);
    envelope.headers.push("x-text", "späte");
    let pattern = Pattern::parse("dev/{device}/up").unwrap();
    let captures = pattern.matches(&envelope.address).unwrap();
    let facts = Facts::new(&envelope);
    let scope = Scope::new(&captures, &facts);
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    template.render_text(&scope, &mut String::new()).map(|text| text.to_string())
}

#[test]
fn names_tell_what_a_check_needs() {
    let template = Template::parse("a{{{device}.{address}{header.x|d}{other|}").unwrap();
    let names: Vec<_> = template
        .names()
        .map(|reference| {
            (&template.as_str()[reference.range()], reference.name(), reference.default())
        })
        .collect();
    assert_eq!(
        names,
        [
            ("device", &Name::Capture("device".into()), None),
            ("address", &Name::Capture("address".into()), None),
            ("header.x", &Name::Header("x".into()), Some("d")),
            ("other", &Name::Capture("other".into()), Some("")),
        ]
    );
    let unknown = |pattern: &str| {
        let pattern = Pattern::parse(pattern).unwrap();
        let names =
            template.unknown(&pattern).map(|reference| &template.as_str()[reference.range()]);
        names.collect::<Vec<_>>()
    };
    assert_eq!(unknown("a/{device}/{other...}"), Vec::<&str>::new());
    assert_eq!(unknown("a/{device}"), ["other"]);
    assert_eq!(unknown("a/+"), ["device", "other"]);
}

#[test]
fn a_template_knows_whether_it_is_constant() {
    for (text, constant, verbatim) in [
        ("", true, true),
        ("plain", true, true),
        ("a{{b}}", true, false),
        ("{a}", false, false),
        ("x{a}", false, false),
    ] {
        let template: Template = text.parse().unwrap();
        assert_eq!((template.is_constant(), template.is_verbatim()), (constant, verbatim));
        assert_eq!(template.to_string(), text);
    }
}

#[test]
fn every_property_has_its_name() {
    for (name, property) in Property::ALL {
        let template = Template::parse(&format!("{{property.{name}}}")).unwrap();
        assert_eq!(template.names().next().unwrap().name(), &Name::Property(*property));
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_has_a_fault_inside_it(text in "[ab{}|.1 é]{0,12}") {
        match Template::parse(&text) {
            Ok(template) => for reference in template.names() {
                prop_assert!(text.get(reference.range()).is_some());
            },
            Err(error) => prop_assert!(text.get(error.range).is_some()),
        }
    }

    #[test]
    fn escaped_text_comes_back(text in "[ab{}|.é]{0,12}") {
        let escaped = text.replace('{', "{{").replace('}', "}}");
        prop_assert_eq!(render(&escaped), Ok(text));
    }
}
