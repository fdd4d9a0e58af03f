//! The exporter against a collector of few words.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use serde_json::Value as Json;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::testing::within;

use super::{Kind, Span, Telemetry, start};
use crate::{
    config::TelemetrySettings,
    metrics::{Metrics, TelemetryMetrics},
    sync::lock,
    trace::Trace,
};

/// A status, `Retry-After` if it is one, and the body.
type Answer = (u16, &'static str, &'static str);

/// Answers as it is told, then 200, and keeps how many spans each request had.
#[derive(Clone, Default)]
struct Collector {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    counts: Arc<Mutex<Vec<usize>>>,
}

async fn take(
    State(collector): State<Collector>,
    body: Bytes,
) -> (axum::http::StatusCode, HeaderMap, &'static str) {
    let body: Json = serde_json::from_slice(&body).unwrap();
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len();
    lock(&collector.counts).push(spans);
    let (status, after, body) = lock(&collector.answers).pop_front().unwrap_or((200, "", "{}"));
    let mut headers = HeaderMap::new();
    if !after.is_empty() {
        headers.insert("retry-after", after.parse().unwrap());
    }
    (status.try_into().unwrap(), headers, body)
}

struct Rig {
    collector: Collector,
    telemetry: Telemetry,
    metrics: TelemetryMetrics,
    tasks: TaskTracker,
    stop: CancellationToken,
    _server: JoinSet<()>,
}

impl Rig {
    async fn new(answers: &[Answer]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Collector::default();
        lock(&collector.answers).extend(answers);
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self::to(address, collector, server)
    }

    fn to(address: SocketAddr, collector: Collector, server: JoinSet<()>) -> Self {
        // Another test may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let settings = TelemetrySettings {
            endpoint: format!("http://{address}"),
            interval: Duration::from_millis(10),
            queue_spans_max: 4,
            ..TelemetrySettings::default()
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Metrics::new().telemetry().clone();
        let telemetry = start(&settings, &metrics, &tasks, stop.clone()).unwrap();
        Self { collector, telemetry, metrics, tasks, stop, _server: server }
    }

    fn record(&self, count: usize) {
        for _ in 0..count {
            let trace = Trace::begin(&self.telemetry);
            self.telemetry.record(Span::begin(trace, Kind::Internal, "x".to_owned()));
        }
    }

    /// Waits until so many spans have been exported, dropped and rejected.
    async fn until(&self, expected: [u64; 3]) {
        let figures = || {
            let TelemetryMetrics { exported, dropped, rejected, .. } = &self.metrics;
            [exported.get(), dropped.get(), rejected.get()]
        };
        let looking = async {
            while figures() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the figures of the spans", looking).await;
    }

    async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        within("the end of the exporter", self.tasks.wait()).await;
    }
}

#[tokio::test]
async fn what_a_collector_may_take_later_is_sent_again() {
    let rig = Rig::new(&[(503, "1", ""), (429, "", "")]).await;
    rig.record(3);
    rig.until([3, 0, 0]).await;
    assert_eq!(*lock(&rig.collector.counts), [3, 3, 3]);
    assert_eq!(rig.metrics.collector_up.get(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn what_a_collector_never_takes_is_counted_and_not_sent_again() {
    let partial = r#"{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}"#;
    let rig = Rig::new(&[(400, "", ""), (200, "", partial)]).await;
    rig.record(2);
    rig.until([0, 0, 2]).await;
    assert_eq!(rig.metrics.collector_up.get(), 0);
    rig.record(3);
    rig.until([2, 0, 3]).await;
    assert_eq!(*lock(&rig.collector.counts), [2, 3]);
    rig.stop().await;
}

#[tokio::test]
async fn the_last_spans_are_sent_when_the_gateway_stops() {
    let rig = Rig::new(&[]).await;
    rig.record(2);
    rig.stop().await;
    rig.until([2, 0, 0]).await;
}

/// A port at which something listens and never answers.
#[tokio::test]
async fn the_end_does_not_wait_for_a_collector_that_hangs() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::to(address, Collector::default(), JoinSet::new());
    rig.record(2);
    rig.stop().await;
    rig.until([0, 2, 0]).await;
    drop(listener);
}
