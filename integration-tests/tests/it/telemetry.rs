//! Spans that reach a collector, here a foreign HTTP server that keeps what it is sent.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use transload_integration_tests::{HttpSink, Python, Transload, curl, free_port, wait::until};

use crate::support::{devices, route, web};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Waits until the collector has so many spans, and returns all of them.
async fn spans(collector: &mut HttpSink, count: usize) -> Vec<Value> {
    let requests = collector.requests();
    until(format!("{count} spans"), || {
        let spans: Vec<Value> = requests
            .all()
            .iter()
            .flat_map(|request| {
                assert_eq!(request.address, "/v1/traces");
                assert_eq!(request.header("content-type"), Some(&"application/json".into()));
                assert_eq!(request.header("x-api-key"), Some(&"from-a-file".into()));
                let body: Value = serde_json::from_slice(&request.payload).unwrap();
                let resource = &body["resourceSpans"][0];
                let service = &resource["resource"]["attributes"][0];
                assert_eq!(service["value"]["stringValue"], "edge", "{service}");
                resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
            })
            .collect();
        async move { (spans.len() >= count).then_some(spans) }
    })
    .await
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found = spans.iter().find(|span| span["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {spans:#?}"))
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("{key} in {span:#}"))["value"]
}

/// A gateway from HTTP to devices, with these keys of `[telemetry]`.
async fn gateway(collector: &HttpSink, keys: &str) -> (Transload, String, Python) {
    let (http, mqtt) = (free_port(), free_port());
    let to = r#"{ adapter = "devices", topic = "d/{name}" }"#;
    let telemetry = format!(
        "[telemetry]\nendpoint = \"{}\"\nservice_name = \"edge\"\ninterval = \"50ms\"\n\
         header_files = {{ X-Api-Key = \"key\" }}\n{keys}\n",
        collector.url()
    );
    let rest = [telemetry, web(http), devices(mqtt, ""), route("in", "web", "in/{name}", to, "")];
    let mut gateway = Transload::new(&rest.concat());
    let key = gateway.config().with_file_name("key");
    std::fs::write(key, "from-a-file\n").unwrap();
    gateway.run().await;
    let url = format!("http://127.0.0.1:{http}/in");
    (gateway, url, Python::mqtt(&format!("127.0.0.1:{mqtt}")))
}

#[tokio::test]
async fn a_message_from_http_to_mqtt_is_one_trace() {
    let mut collector = HttpSink::start().await;
    let (_gateway, url, devices) = gateway(&collector, "").await;
    let mut device = devices.consume(&["consume", "d/#"]).await;
    let traceparent = format!("traceparent: 00-{TRACE_ID}-{CALLER}-01");
    let answer = curl::post(&format!("{url}/one"), &[&traceparent], b"1").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let heard = device.take(1).await.remove(0);
    let sent = heard.header("traceparent").unwrap().as_str().unwrap().to_owned();

    let spans_of_one = spans(&mut collector, 3).await;
    let receive = named(&spans_of_one, "receive web");
    let routing = named(&spans_of_one, "route");
    let deliver = named(&spans_of_one, "deliver in/devices");
    assert_eq!(receive["parentSpanId"], CALLER);
    assert_eq!(routing["parentSpanId"], receive["spanId"]);
    assert_eq!(deliver["parentSpanId"], receive["spanId"]);
    for span in &spans_of_one {
        assert_eq!(span["traceId"], TRACE_ID);
        assert_eq!(span.get("status"), None, "{span}");
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    }
    let delivering = deliver["spanId"].as_str().unwrap();
    assert_eq!(sent, format!("00-{TRACE_ID}-{delivering}-01"), "what goes out is what is exported");
    assert_eq!(attribute(deliver, "transload.outcome")["stringValue"], "delivered");
    let destinations = attribute(routing, "transload.destinations");
    assert_eq!(destinations["arrayValue"]["values"][0]["stringValue"], "in/devices");
    assert_eq!(attribute(receive, "messaging.destination.name")["stringValue"], "in/one");

    // One whose sender does not want it sampled is not, and one without a trace begins one.
    let unsampled = format!("traceparent: 00-{TRACE_ID}-{CALLER}-00");
    curl::post(&format!("{url}/two"), &[&unsampled], b"2").await;
    let heard = device.take(1).await.remove(0);
    assert!(heard.header("traceparent").unwrap().as_str().unwrap().ends_with("-00"));
    curl::post(&format!("{url}/three"), &[], b"3").await;
    let heard = device.take(1).await.remove(0);
    let begun = heard.header("traceparent").unwrap().as_str().unwrap().to_owned();
    let all = spans(&mut collector, 6).await;
    assert_eq!(all.len(), 6, "{all:#?}");
    assert_eq!(named(&all[3..], "receive web").get("parentSpanId"), None);
    let deliver = named(&all[3..], "deliver in/devices");
    let (trace_id, span_id) =
        (deliver["traceId"].as_str().unwrap(), deliver["spanId"].as_str().unwrap());
    assert_eq!(begun, format!("00-{trace_id}-{span_id}-01"));
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_nothing() {
    let mut collector = HttpSink::absent();
    let (mut gateway, url, devices) = gateway(&collector, "max_queue_spans = 4").await;
    let mut device = devices.consume(&["consume", "d/#"]).await;
    for number in 0..4 {
        assert_eq!(curl::post(&format!("{url}/{number}"), &[], b"x").await.status, 202);
    }
    device.take(4).await;
    // Three spans for each message. What is in the request under way does not count to the queue, and
    // how much that is, is a matter of time, so more are sent until there is no room.
    let posted = AtomicU32::new(4);
    until("spans to be dropped", || async {
        let number = posted.fetch_add(1, Ordering::Relaxed);
        curl::post(&format!("{url}/{number}"), &[], b"x").await;
        let dropped = gateway.metric("transload_spans_total", "dropped").await?;
        (dropped >= 1.0).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("transload_collector_up", "").await, Some(0.0));
    assert_eq!(gateway.admin("/readyz").await.unwrap().0, 200);
    collector.appear(&[]).await;
    let late = spans(&mut collector, 5).await;
    assert!(late.iter().any(|span| span["name"] == "receive web"), "{late:#?}");
    until("the collector to be up", || async {
        (gateway.metric("transload_collector_up", "").await? > 0.0).then_some(())
    })
    .await;
    let figure = async |outcome: &str| {
        gateway.metric("transload_spans_total", outcome).await.unwrap_or_default()
    };
    let (exported, dropped) = (figure("exported").await, figure("dropped").await);
    let made = 3.0 * f64::from(posted.into_inner());
    assert!(exported + dropped <= made, "{exported} {dropped} {made}");
    // The stop itself does not wait for a collector that is away again.
    collector.vanish();
    curl::post(&format!("{url}/last"), &[], b"x").await;
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn a_request_and_its_answer_are_one_trace() {
    let (mut collector, sink) = (HttpSink::start().await, HttpSink::start().await);
    let http = free_port();
    let gateway = Transload::start(&format!(
        "[telemetry]\nendpoint = \"{}\"\nservice_name = \"edge\"\ninterval = \"50ms\"\n\
         headers = {{ x-api-key = \"from-a-file\" }}\n{}\
         [adapters.service]\nkind = \"http\"\nurl = \"{}\"\n{}",
        collector.url(),
        web(http),
        sink.url(),
        route("ask", "web", "ask", r#""service""#, "reply = {}"),
    ))
    .await;
    let mut sink = sink;
    let traceparent = format!("traceparent: 00-{TRACE_ID}-{CALLER}-01");
    let url = format!("http://127.0.0.1:{http}/ask");
    let answer = curl::post(&url, &[&traceparent], b"?").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let asked = sink.requests().take(1).await.remove(0);
    let sent = asked.header("traceparent").unwrap().as_str().unwrap();
    let spans = spans(&mut collector, 3).await;
    let (receive, request) = (named(&spans, "receive web"), named(&spans, "request ask/service"));
    assert_eq!(request["parentSpanId"], receive["spanId"]);
    assert_eq!(sent, format!("00-{TRACE_ID}-{}-01", request["spanId"].as_str().unwrap()));
    assert_eq!(attribute(request, "transload.outcome")["stringValue"], "replied");
    drop(gateway);
}
