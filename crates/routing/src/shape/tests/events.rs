//! Events: the examples of «JSON Event Format for `CloudEvents`» 1.0.2, and what is made of messages.

use serde_json::{Value as Json, json};
use transload_envelope::{Envelope, Properties, Timestamp, Value};

use super::{apply, constant, fails, message, one, text};
use crate::shape::{Computed, Form, Step, Unwrap, Wrap};

const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

fn typed(payload: &str, content_type: &str) -> Envelope {
    let mut envelope = message(payload.to_owned());
    envelope.headers = [].into_iter().collect();
    envelope.properties_mut().content_type = Some(content_type.into());
    envelope.properties_mut().kind = None;
    envelope
}

fn wrap(form: Form, attributes: &[(&'static str, Json)]) -> Step {
    let attributes = attributes.iter();
    let attributes =
        attributes.map(|(name, value)| ((*name).into(), Computed::Constant(value.clone())));
    Step::Wrap(Wrap { form, attributes: attributes.collect() })
}

fn header<'a>(envelope: &'a Envelope, name: &str) -> Option<&'a Value> {
    envelope.headers.get(name)
}

fn json_of(envelope: &Envelope) -> Json {
    serde_json::from_slice(&envelope.payload).unwrap()
}

const BINARY: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "A234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/vnd.apache.thrift.binary",
    "data_base64" : "AAEC/w=="
}"#;

const XML: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "B234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "unsetextension": null,
    "datacontenttype" : "application/xml",
    "data" : "<much wow=\"xml\"/>"
}"#;

const JSON: &str = r#"{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "C234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/json",
    "data" : {
        "appinfoA" : "abc",
        "appinfoB" : 123,
        "appinfoC" : true
    }
}"#;

#[test]
fn the_examples_of_the_specification_are_read() {
    let made = one(vec![Step::Unwrap(Unwrap)], &typed(BINARY, EVENT));
    assert_eq!(&*made.payload, [0, 1, 2, 255]);
    let media_type = made.properties().content_type.as_deref();
    assert_eq!(media_type, Some("application/vnd.apache.thrift.binary"));
    assert_eq!(header(&made, "ce-comexampleextension1"), Some(&"value".into()));
    assert_eq!(header(&made, "ce-comexampleothervalue"), Some(&Value::Int(5)));
    assert_eq!(header(&made, "ce-source"), Some(&"/mycontext".into()));
    assert_eq!(made.id.as_str(), "/mycontext A234-1234-1234");

    let made = one(vec![Step::Unwrap(Unwrap)], &typed(XML, "Application/CloudEvents+JSON; a=b"));
    assert_eq!(text(&made), "<much wow=\"xml\"/>");
    assert_eq!(header(&made, "ce-subject"), None);
    assert_eq!(header(&made, "ce-unsetextension"), None);

    let made = one(vec![Step::Unwrap(Unwrap)], &typed(JSON, EVENT));
    assert_eq!(json_of(&made), json!({ "appinfoA": "abc", "appinfoB": 123, "appinfoC": true }));
    assert!(text(&made).contains("\n        \"appinfoA\" : \"abc\""), "as it was written");
    assert_eq!(made.properties().content_type.as_deref(), Some("application/json"));
}

#[test]
fn the_examples_of_the_specification_come_back() {
    for example in [BINARY, XML, JSON] {
        let steps = vec![Step::Unwrap(Unwrap), wrap(Form::Structured, &[])];
        let made = one(steps, &typed(example, EVENT));
        let mut expected: Json = serde_json::from_str(example).unwrap();
        expected.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(json_of(&made), expected);
        assert_eq!(made.properties().content_type.as_deref(), Some(EVENT));
        assert!(made.headers.is_empty());
    }
}

#[test]
fn a_batch_is_a_message_for_each_event() {
    let batch = format!("[{BINARY},{JSON}]");
    let made = apply(vec![Step::Unwrap(Unwrap)], &typed(&batch, BATCH)).unwrap();
    let ids: Vec<_> = made
        .iter()
        .map(|one| {
            (one.id.to_string(), header(one, "ce-id").unwrap().as_text().unwrap().to_string())
        })
        .collect();
    let expected = ["A234-1234-1234", "C234-1234-1234"];
    assert_eq!(ids, expected.map(|id| (format!("/mycontext {id}"), id.to_owned())));
    assert!(apply(vec![Step::Unwrap(Unwrap)], &typed("[]", BATCH)).unwrap().is_empty());
    let faulty = format!("[{BINARY},{{}}]");
    let error = fails(vec![Step::Unwrap(Unwrap)], &typed(&faulty, BATCH));
    assert!(error.contains("event 2: it is no event"), "{error}");
}

#[test]
fn a_message_becomes_an_event_with_sensible_defaults() {
    let mut envelope = typed("{\"t\":21.50}", "application/json");
    envelope.properties_mut().kind = Some("reading".into());
    envelope.properties_mut().timestamp = Some(Timestamp { unix_ms: 1_522_949_460_000 });
    let made = one(vec![wrap(Form::Structured, &[])], &envelope);
    assert_eq!(
        text(&made),
        "{\"specversion\":\"1.0\",\"id\":\"m-1\",\"source\":\"/devices\",\"type\":\"reading\",\
         \"subject\":\"dev/d7/up\",\"time\":\"2018-04-05T17:31:00Z\",\
         \"datacontenttype\":\"application/json\",\"data\":{\"t\":21.50}}"
    );
    let attributes = [("type", json!("com.x")), ("source", json!("/x")), ("n", json!(7))];
    let made = one(vec![wrap(Form::Binary, &attributes)], &envelope);
    let names: Vec<_> = made.headers.iter().map(|header| &*header.name).collect();
    let expected = ["specversion", "id", "source", "type", "subject", "time", "n"];
    assert_eq!(names, expected.map(|name| format!("ce-{name}")));
    assert_eq!(header(&made, "ce-type"), Some(&"com.x".into()));
    assert_eq!(header(&made, "ce-n"), Some(&Value::Int(7)));
    assert_eq!(made.payload, envelope.payload);
    let made = one(vec![wrap(Form::Batch, &[])], &envelope);
    assert_eq!(json_of(&made)[0]["id"], "m-1");
    assert_eq!(made.properties().content_type.as_deref(), Some(BATCH));
}

#[test]
fn data_of_every_kind_survives_an_event() {
    for (content_type, payload, member) in [
        (Some("application/json"), &b"{\"a\": 1.0}"[..], "data"),
        (Some("application/vnd.x+json; v=1"), b"[]", "data"),
        (Some("application/json"), b"\"a string\"", "data"),
        (Some("text/plain"), "täxt".as_bytes(), "data"),
        (Some("application/xml"), b"<a/>", "data"),
        (Some("text/plain"), b"\xff", "data_base64"),
        (Some("application/octet-stream"), b"text, but who knows", "data_base64"),
        (None, b"21.5", "data"),
        (None, b"not json", "data"),
        (None, b"\xff\x00", "data_base64"),
        (None, b"", "id"),
        (Some("application/json"), b"", "id"),
    ] {
        let mut envelope = typed("", "x/y").with_properties(Properties::NONE);
        envelope.properties_mut().content_type = content_type.map(Into::into);
        envelope.payload = payload.to_vec().into();
        let event = one(vec![wrap(Form::Structured, &[])], &envelope);
        assert!(json_of(&event).get(member).is_some(), "{content_type:?} {}", text(&event));
        let back = one(vec![Step::Unwrap(Unwrap)], &event);
        assert_eq!(&*back.payload, payload, "{content_type:?} {}", text(&event));
        if content_type.is_some() {
            assert_eq!(back.properties().content_type.as_deref(), content_type);
        }
    }
}

#[test]
fn an_event_in_binary_mode_stays_as_it_is() {
    let event = one(vec![wrap(Form::Binary, &[])], &typed("x", "text/plain"));
    assert_eq!(one(vec![Step::Unwrap(Unwrap)], &event), event);
    // An event that passes keeps its id and gets no further attributes.
    let mut passing = typed("x", "text/plain");
    for (name, value) in [("specversion", "1.0"), ("id", "e"), ("source", "s"), ("type", "t")] {
        passing.headers.push(format!("ce-{name}"), value);
    }
    let again = one(vec![wrap(Form::Structured, &[])], &passing);
    assert_eq!((&json_of(&again)["id"], json_of(&again).get("time")), (&json!("e"), None));
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    let event = |changes: Json| {
        let mut event: Json = serde_json::from_str(JSON).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            event[name] = value.clone();
        }
        event.to_string()
    };
    for (payload, content_type, reason) in [
        ("{}".to_owned(), "application/json", "its content type is `application/json`"),
        ("{}".to_owned(), "application/cloudevents+avro", "only JSON"),
        ("[]".to_owned(), EVENT, "an event is an object, this is an array"),
        ("5".to_owned(), EVENT, "an event is an object, this is a number"),
        (event(json!({ "specversion": "0.3" })), EVENT, "version 0.3 of the standard is not known"),
        (event(json!({ "id": null })), EVENT, "the event has no `id`"),
        (event(json!({ "Upper": "x" })), EVENT, "`Upper` cannot be the name of an attribute"),
        (event(json!({ "list": [1] })), EVENT, "attribute list is a list or a map"),
        (event(json!({ "data_base64": "AA==" })), EVENT, "both `data` and `data_base64`"),
        (event(json!({ "data": null, "data_base64": "*" })), EVENT, "data_base64: it is no base64"),
    ] {
        let error = fails(vec![Step::Unwrap(Unwrap)], &typed(&payload, content_type));
        assert!(error.contains(reason), "{payload}: {error}");
    }
    let mut zipped = typed("x", "text/plain");
    zipped.properties_mut().content_encoding = Some("gzip".into());
    let error = fails(vec![wrap(Form::Structured, &[])], &zipped);
    assert!(error.contains("decode the payload before"), "{error}");
    let steps = vec![constant("header.ce-x", json!([1])), wrap(Form::Structured, &[])];
    assert!(fails(steps, &typed("x", "text/plain")).contains("attribute x is a list or a map"));
    let error = fails(vec![wrap(Form::Structured, &[])], &typed("{", "application/json"));
    assert!(error.contains("though its content type says so"), "{error}");
}
