//! Spans as OTLP writes them in JSON (OpenTelemetry Protocol 1, `ExportTraceServiceRequest`;
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>): names in camel case,
//! identifiers in hexadecimal digits, 64-bit numbers as strings.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::span::{Attribute, Span};

/// The status of a span that failed (`Status.STATUS_CODE_ERROR`).
const STATUS_ERROR: u8 = 2;
/// The W3C flag of a trace that is sampled.
const SAMPLED: u8 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<SpanView<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanView<'a> {
    trace_id: &'a str,
    span_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<&'a str>,
    flags: u8,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<KeyValue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    message: &'a str,
}

#[derive(Serialize)]
struct KeyValue<'a> {
    key: &'a str,
    value: Value<'a>,
}

/// `AnyValue`.
#[derive(Serialize)]
enum Value<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Int(String),
    #[serde(rename = "arrayValue")]
    Array { values: Vec<Value<'a>> },
}

/// The body of one request with these spans.
pub(super) fn body(service_name: &str, spans: &[Span]) -> Result<Vec<u8>, serde_json::Error> {
    let version = env!("CARGO_PKG_VERSION");
    let text = |key, value| KeyValue { key, value: Value::Text(value) };
    let attributes = vec![text("service.name", service_name), text("service.version", version)];
    let scope = Scope { name: "transload", version };
    let scope_spans = [ScopeSpans { scope, spans: spans.iter().map(view).collect() }];
    let resource_spans = [ResourceSpans { resource: Resource { attributes }, scope_spans }];
    serde_json::to_vec(&Request { resource_spans })
}

fn view(span: &Span) -> SpanView<'_> {
    let attributes = span.attributes.iter();
    SpanView {
        trace_id: &span.trace.id,
        span_id: &span.trace.span_id,
        parent_span_id: span.trace.parent_id.as_deref(),
        flags: SAMPLED,
        name: &span.name,
        kind: span.kind as u8,
        start_time_unix_nano: unix_nanoseconds(span.started_at),
        end_time_unix_nano: unix_nanoseconds(span.ended_at),
        attributes: attributes.map(|(key, found)| KeyValue { key, value: value(found) }).collect(),
        status: span.error.as_deref().map(|message| Status { code: STATUS_ERROR, message }),
    }
}

fn value(attribute: &Attribute) -> Value<'_> {
    match attribute {
        Attribute::Text(text) => Value::Text(text),
        Attribute::Int(number) => Value::Int(number.to_string()),
        Attribute::Texts(texts) => {
            let values = texts.iter().map(|text| Value::Text(text)).collect();
            Value::Array { values }
        }
    }
}

fn unix_nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value as Json, json};
    use transload_envelope::Text;

    use super::*;
    use crate::{telemetry::Kind, trace::Trace};

    #[test]
    fn spans_are_written_as_the_protocol_wants_them() {
        let trace = Trace {
            id: "5b8efff798038103d269b633813fc60c".to_owned(),
            span_id: "eee19b7ec3c1b174".to_owned(),
            parent_id: Some("eee19b7ec3c1b173".to_owned()),
            sampled: true,
        };
        let mut span = Span::begin(trace, Kind::Consumer, "receive web".to_owned())
            .with("a", "x")
            .with("n", Attribute::Int(i64::MAX))
            .with("all", vec![Text::from_static("p"), Text::from_static("q")]);
        span.started_at = UNIX_EPOCH + Duration::from_nanos(1_544_712_660_000_000_001);
        span.ended_at = span.started_at + Duration::from_secs(1);
        span.error = Some("why".to_owned());
        let body: Json = serde_json::from_slice(&body("edge", &[span]).unwrap()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let expected = json!({ "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": "edge" } },
                { "key": "service.version", "value": { "stringValue": version } },
            ] },
            "scopeSpans": [{
                "scope": { "name": "transload", "version": version },
                "spans": [{
                    "traceId": "5b8efff798038103d269b633813fc60c",
                    "spanId": "eee19b7ec3c1b174",
                    "parentSpanId": "eee19b7ec3c1b173",
                    "flags": 1,
                    "name": "receive web",
                    "kind": 5,
                    "startTimeUnixNano": "1544712660000000001",
                    "endTimeUnixNano": "1544712661000000001",
                    "attributes": [
                        { "key": "a", "value": { "stringValue": "x" } },
                        { "key": "n", "value": { "intValue": "9223372036854775807" } },
                        { "key": "all", "value": { "arrayValue": { "values": [
                            { "stringValue": "p" }, { "stringValue": "q" },
                        ] } } },
                    ],
                    "status": { "code": 2, "message": "why" },
                }],
            }],
        }] });
        assert_eq!(body, expected);
    }
}
