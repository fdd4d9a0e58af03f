use proptest::prelude::*;
use transload_envelope::Origin;

use super::*;

fn empty() -> Envelope {
    Envelope::new(Origin::new("web", "http", "a"), "").with_id(MessageId::from_source("ours"))
}

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

fn read(pairs: &[(&'static str, &'static str)]) -> Envelope {
    let mut envelope = empty();
    read_headers(&fields(pairs), &mut envelope);
    envelope
}

fn written(envelope: &Envelope) -> HeaderMap {
    let mut into = HeaderMap::new();
    write_request_headers(envelope, &mut into);
    into
}

#[test]
fn credentials_and_the_hop_stay_behind() {
    let envelope = read(&[
        ("host", "example.com"),
        ("authorization", "Bearer x"),
        ("proxy-authorization", "Basic x"),
        ("cookie", "a=b"),
        ("connection", "keep-alive, x-secret"),
        ("x-secret", "1"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("expect", "100-continue"),
        ("x-b", "2"),
        ("x-a", "1"),
        ("x-b", "3"),
    ]);
    let kept: Vec<_> =
        envelope.headers.iter().map(|header| (&*header.name, header.value.clone())).collect();
    assert_eq!(kept, [("x-b", "2".into()), ("x-b", "3".into()), ("x-a", "1".into())]);
}

#[test]
fn the_senders_id_is_taken_over() {
    for (pairs, expected) in [
        (&[][..], "ours"),
        (&[("idempotency-key", "k-1")], "k-1"),
        (&[("idempotency-key", "\"k-1\"")], "k-1"),
        (&[("idempotency-key", "k"), ("webhook-id", "msg_1")], "msg_1"),
        (&[("x-github-delivery", "72d3162e")], "72d3162e"),
        (&[("webhook-id", "")], "ours"),
    ] {
        assert_eq!(read(pairs).id.as_str(), expected, "{pairs:?}");
    }
    let mut long = HeaderMap::new();
    long.insert("webhook-id", "x".repeat(256).parse().unwrap());
    let mut envelope = empty();
    read_headers(&long, &mut envelope);
    assert_eq!(envelope.id.as_str(), "ours");
    assert_eq!(envelope.headers.len(), 1, "the header itself is kept");
}

#[test]
fn properties_have_their_own_fields() {
    let envelope = read(&[
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("x-correlation-id", "c-1"),
        ("transload-type", "reading"),
        ("transload-priority", "7"),
        ("transload-timestamp", "1700000000000"),
        ("transload-hops", "3"),
    ]);
    let expected = Properties {
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        correlation: Some(Bytes::from_static(b"c-1")),
        kind: Some("reading".into()),
        priority: Some(7),
        timestamp: Some(Timestamp { unix_ms: 1_700_000_000_000 }),
        ..Properties::NONE
    };
    assert_eq!((envelope.properties(), envelope.hops), (&expected, 3));
    assert!(envelope.headers.is_empty());
    // What is not understood stays a header.
    assert_eq!(read(&[("transload-priority", "high")]).headers.len(), 1);
}

#[test]
fn no_header_of_a_message_can_inject_or_impersonate() {
    let mut envelope = empty();
    for (name, value) in [
        ("Authorization", "Bearer stolen"),
        ("Host", "evil"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("a: b\r\nX-Evil", "1"),
        ("x-value", "a\r\nx-evil: 1"),
        ("", "nameless"),
        ("webhook-id", "theirs"),
    ] {
        envelope.headers.push(name, value);
    }
    let fields = written(&envelope);
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["idempotency-key", "transload-header", "webhook-id"]);
    let carried: Vec<_> = fields.get_all("transload-header").iter().collect();
    assert_eq!(
        carried,
        ["a%3A%20b%0D%0AX%2DEvil=1", "x%2Dvalue=a%0D%0Ax%2Devil%3A%201", "=nameless"]
    );
    assert_eq!(fields["webhook-id"], "theirs");
    assert_eq!(fields["idempotency-key"], "ours");
}

#[test]
fn typed_values_become_text() {
    for (value, expected) in [
        (Value::Null, ""),
        (Value::Bool(true), "true"),
        (Value::Int(-5), "-5"),
        (Value::Float(1.5), "1.5"),
        (Value::from(" padded "), " padded "),
        (Value::Timestamp(Timestamp { unix_ms: 12 }), "12"),
        (Value::List(vec![Value::Int(1), "a".into()]), "[1,\"a\"]"),
        (Value::Map(vec![("k".into(), Value::Null)]), "{\"k\":null}"),
    ] {
        assert_eq!(write_value(&value), expected, "{value:?}");
    }
}

#[test]
fn fields_of_the_configuration_win() {
    let mut envelope = empty();
    envelope.headers.push("x-api-key", "theirs");
    let mut into = fields(&[("x-api-key", "ours")]);
    write_request_headers(&envelope, &mut into);
    assert_eq!(into.get_all("x-api-key").iter().count(), 1);
    assert_eq!(into["x-api-key"], "ours");
}

#[test]
fn waits_are_seconds_or_dates() {
    let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
    for (text, expected) in [
        ("120", Some(120)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("999999999999", Some(86_400)),
        ("soon", None),
        ("-1", None),
    ] {
        let wait = read_retry_after(&fields(&[("retry-after", text)]), now);
        assert_eq!(wait, expected.map(Duration::from_secs), "{text}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        any::<f64>().prop_map(Value::Float),
        any::<i64>().prop_map(Value::Int),
    ]
}

proptest! {
    #[test]
    fn any_message_becomes_valid_fields(
        headers in proptest::collection::vec((any::<String>(), value()), 0..8),
        id in any::<String>(),
        correlation in any::<Option<Vec<u8>>>(),
        content_type in any::<Option<String>>(),
    ) {
        let mut envelope = empty().with_id(MessageId::from_source(id)).with_properties(Properties {
            correlation: correlation.clone().map(Bytes::from),
            content_type: content_type.map(Text::from),
            ..Properties::NONE
        });
        for (name, value) in headers {
            envelope.headers.push(name, value);
        }
        let fields = written(&envelope);
        for value in fields.values() {
            let forbidden = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            prop_assert!(!value.as_bytes().iter().any(forbidden));
        }
        let mut back = empty();
        read_headers(&fields, &mut back);
        if let Some(correlation) = correlation
            && !envelope.headers.iter().any(|header| header.name.contains("correlation"))
        {
            prop_assert_eq!(back.properties().correlation.as_deref(), Some(&*correlation));
        }
    }

    #[test]
    fn what_came_over_http_leaves_over_http_unchanged(
        pairs in proptest::collection::vec(("x-[a-z0-9]{1,6}", "[!-~]([ -~]{0,10}[!-~])?"), 0..8),
        content_type in "[a-z]{1,8}/[a-z]{1,8}",
        id in "[!#-~]{1,40}",
    ) {
        let mut fields = HeaderMap::new();
        for (name, value) in &pairs {
            fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        fields.insert(CONTENT_TYPE, content_type.parse().unwrap());
        fields.insert(WEBHOOK_ID, id.parse().unwrap());
        fields.insert(IDEMPOTENCY_KEY, id.parse().unwrap());
        let mut envelope = empty();
        read_headers(&fields, &mut envelope);
        prop_assert_eq!(envelope.id.as_str(), id);
        prop_assert_eq!(written(&envelope), fields);
    }
}

/// The example of the HTTP binding of `CloudEvents` 1.0.2, section 3.1.3.2.
#[test]
fn attributes_of_events_are_percent_encoded() {
    let envelope = read(&[
        ("ce-specversion", "1.0"),
        ("ce-id", "A234-1234-1234"),
        ("ce-source", "/mycontext"),
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-broken", "100% %ff"),
        ("x-other", "a%20b"),
    ]);
    let text = |name: &str| envelope.headers.get(name).unwrap().as_text().unwrap().to_string();
    assert_eq!(text("ce-subject"), "Euro € 😀");
    assert_eq!((text("ce-broken"), text("x-other")), ("100% %ff".into(), "a%20b".into()));
    assert_eq!(envelope.id.as_str(), "/mycontext A234-1234-1234");
    let fields = written(&envelope);
    assert_eq!(fields["ce-subject"], "Euro%20%E2%82%AC%20%F0%9F%98%80");
    assert_eq!(fields["ce-broken"], "100%25%20%25ff");
    assert_eq!(fields["x-other"], "a%20b");
    let own =
        read(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("webhook-id", "w")]);
    assert_eq!(own.id.as_str(), "w");
    // Without a version it is no event, and one event's id says nothing of another's.
    assert_eq!(read(&[("ce-id", "1"), ("ce-source", "s")]).id.as_str(), "ours");
}
