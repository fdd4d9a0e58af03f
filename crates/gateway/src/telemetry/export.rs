//! The way to the collector: OTLP over HTTP, in JSON.
//!
//! Invariants:
//! - A collector that is away is a state: its spans wait, up to the bound of the queue, and one log
//!   line tells of each change.
//! - A batch that the collector does not want for good is counted and not sent again.
//! - The end of the gateway waits for the collector for a short time only.

use std::time::Duration;

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect, retry,
};
use serde_json::Value as Json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transload_delivery::backoff::Backoff;

use super::{otlp, span::Span};
use crate::{config::TelemetrySettings, metrics::TelemetryMetrics};

/// How many spans are sent in one request.
const BATCH_SPANS_MAX: usize = 512;
/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest wait that a collector is granted.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
/// How long the last spans may take when the gateway stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends spans to the collector.
#[derive(Debug)]
pub(super) struct Exporter {
    client: Client,
    url: String,
    headers: HeaderMap,
    service_name: String,
    interval: Duration,
    waiting: mpsc::Receiver<Span>,
    metrics: TelemetryMetrics,
    /// Whether the collector took the last batch; not known before the first.
    up: Option<bool>,
}

/// Why a request was not taken.
enum Fault {
    /// It may be taken later.
    Later { after: Option<Duration>, reason: String },
    /// It never will be.
    Never { reason: String },
}

impl Exporter {
    /// Checks what can be checked without a connection.
    pub(super) fn new(
        settings: &TelemetrySettings,
        waiting: mpsc::Receiver<Span>,
        metrics: TelemetryMetrics,
    ) -> Result<Self, String> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err("no TLS provider was installed at the start".to_owned());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("transload/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy();
        if settings.endpoint.starts_with("http:") {
            // The system's certificates are not needed, and there may be none.
            builder = builder.tls_certs_only([]);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let parsed = (name.parse::<HeaderName>(), value.expose().parse::<HeaderValue>());
            let (Ok(name), Ok(mut value)) = parsed else {
                return Err(format!("`{name}` cannot be sent as a header field"));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self {
            client: builder.build().map_err(|error| error.to_string())?,
            url: format!("{}/v1/traces", settings.endpoint),
            headers,
            service_name: settings.service_name.clone(),
            interval: settings.interval,
            waiting,
            metrics,
            up: None,
        })
    }

    /// Sends until `stop` fires, and then what is left, for a short time.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.export(&mut batch) => {}
        }
        let end = Instant::now() + FLUSH_TIMEOUT;
        self.waiting.close();
        drop(timeout_at(end, self.flush(&mut batch)).await);
        let left = batch.len() + self.waiting.len();
        self.metrics.dropped.inc_by(left as u64);
    }

    /// Sends until no more spans can come. What is in hand stays in `batch`.
    async fn export(&mut self, batch: &mut Vec<Span>) {
        while self.gather(batch).await {
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            while let Err(after) = self.send(batch).await {
                let wait = backoff.next_wait();
                sleep(after.map_or(wait, |after| after.max(wait).min(RETRY_AFTER_MAX))).await;
            }
        }
    }

    /// Sends what is left, each batch once.
    async fn flush(&mut self, batch: &mut Vec<Span>) {
        while !batch.is_empty() || self.waiting.recv_many(batch, BATCH_SPANS_MAX).await > 0 {
            if self.send(batch).await.is_err() {
                return;
            }
        }
    }

    /// Waits for spans, and then a little for others; `false` when none can come any more.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        if batch.is_empty() && self.waiting.recv_many(batch, BATCH_SPANS_MAX).await == 0 {
            return false;
        }
        let end = Instant::now() + self.interval;
        while batch.len() < BATCH_SPANS_MAX {
            let room = BATCH_SPANS_MAX - batch.len();
            match timeout_at(end, self.waiting.recv_many(batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        true
    }

    /// Sends a batch and empties it, unless it is to be sent again, not before the time that the
    /// collector has asked for.
    async fn send(&mut self, batch: &mut Vec<Span>) -> Result<(), Option<Duration>> {
        let count = batch.len() as u64;
        match self.post(batch).await {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.metrics.exported.inc_by(count - rejected);
                self.metrics.rejected.inc_by(rejected);
                self.is_up();
            }
            Err(Fault::Never { reason }) => {
                self.metrics.rejected.inc_by(count);
                self.is_down(&reason);
            }
            Err(Fault::Later { after, reason }) => {
                self.is_down(&reason);
                return Err(after);
            }
        }
        batch.clear();
        Ok(())
    }

    /// Returns how many spans the collector took no interest in.
    async fn post(&self, batch: &[Span]) -> Result<u64, Fault> {
        let body = otlp::body(&self.service_name, batch)
            .map_err(|error| Fault::Never { reason: error.to_string() })?;
        let request = self.client.post(&self.url).headers(self.headers.clone()).body(body);
        let later = |error: reqwest::Error| Fault::Later { after: None, reason: causes(&error) };
        let response = request.send().await.map_err(later)?;
        let status = response.status();
        if status.is_success() {
            return Ok(rejected(response).await);
        }
        let reason = format!("the collector answered {status}");
        // These and no others are to be sent again (OTLP, «Retryable Response Codes»).
        let passes = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        if !passes.contains(&status) {
            return Err(Fault::Never { reason });
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        Err(Fault::Later { after, reason })
    }

    fn is_up(&mut self) {
        self.metrics.collector_up.set(1);
        if self.up.replace(true) != Some(true) {
            info!(at = %self.url, "The collector takes spans.");
        }
    }

    fn is_down(&mut self, reason: &str) {
        self.metrics.collector_up.set(0);
        if self.up.replace(false) != Some(false) {
            warn!(at = %self.url, %reason, "The collector does not take spans.");
        }
    }
}

/// How many spans a collector says that it did not want («Partial Success»).
async fn rejected(mut response: Response) -> u64 {
    let mut body = Vec::new();
    // What cannot be read says nothing about the spans, which were taken.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return 0;
        }
    }
    let answer: Json = serde_json::from_slice(&body).unwrap_or_default();
    let count = answer.pointer("/partialSuccess/rejectedSpans").unwrap_or(&Json::Null);
    // Numbers of 64 bits are strings in this encoding.
    count.as_str().and_then(|text| text.parse().ok()).or(count.as_u64()).unwrap_or(0)
}

/// An error with all its causes.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
