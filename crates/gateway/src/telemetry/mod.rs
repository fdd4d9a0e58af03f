//! Spans of the gateway's own work, for a collector that speaks OTLP.
//!
//! Invariants:
//! - Without a collector nothing is measured and nothing is kept.
//! - Only messages whose trace is sampled have spans: as their sender has decided, or for a trace
//!   that begins here as the configuration says.
//! - What waits for the collector is bounded. A span for which there is no room is dropped and
//!   counted; nothing ever waits for the collector.

mod deliver;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod otlp;
mod passing;
mod span;
#[cfg(test)]
#[cfg(feature = "otlp")]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_envelope::{Envelope, Outgoing};

pub(crate) use self::{
    deliver::Traced,
    passing::Passing,
    span::{Kind, Span},
};
use crate::{
    config::TelemetrySettings,
    metrics::TelemetryMetrics,
    trace::{self, Trace},
};

/// Where spans go; nowhere when there is no collector. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    spans: mpsc::Sender<Span>,
    sample_ratio: f64,
    metrics: TelemetryMetrics,
}

/// Starts to send spans to the collector of the settings, until `stop` fires and a little longer
/// for what is left.
#[cfg(feature = "otlp")]
pub(crate) fn start(
    settings: &TelemetrySettings,
    metrics: &TelemetryMetrics,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<Telemetry, String> {
    let (telemetry, waiting) = Telemetry::open(settings, metrics.clone());
    let exporter = export::Exporter::new(settings, waiting, metrics.clone())?;
    tasks.spawn(exporter.run(stop));
    Ok(telemetry)
}

/// There is nothing that speaks to a collector; the configuration has been refused before.
#[cfg(not(feature = "otlp"))]
pub(crate) fn start(
    _: &TelemetrySettings,
    _: &TelemetryMetrics,
    _: &TaskTracker,
    _: CancellationToken,
) -> Result<Telemetry, String> {
    Err("this program was built without the feature `otlp`".to_owned())
}

impl Telemetry {
    /// Spans wait at the other end, up to the bound of the settings.
    pub(crate) fn open(
        settings: &TelemetrySettings,
        metrics: TelemetryMetrics,
    ) -> (Self, mpsc::Receiver<Span>) {
        let (spans, waiting) = mpsc::channel(settings.queue_spans_max);
        let sample_ratio = settings.sample_ratio;
        (Self(Some(Arc::new(Inner { spans, sample_ratio, metrics }))), waiting)
    }

    /// Whether there is a collector.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace that begins here is sampled.
    pub(crate) fn samples(&self, trace_id: impl FnOnce() -> u64) -> bool {
        /// The randomness that a trace id promises (Trace Context level 2, section 3.2.2.3.2).
        const RANDOM_BITS: u32 = 56;
        let Some(inner) = &self.0 else { return false };
        if inner.sample_ratio <= 0.0 || inner.sample_ratio >= 1.0 {
            return inner.sample_ratio >= 1.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "the lowest bits change the ratio by less than anybody can measure"
        )]
        let part = (trace_id() & ((1 << RANDOM_BITS) - 1)) as f64 / (1_u64 << RANDOM_BITS) as f64;
        part < inner.sample_ratio
    }

    /// Hands over a span that has ended.
    pub(crate) fn record(&self, span: Span) {
        if let Some(inner) = &self.0
            && inner.spans.try_send(span).is_err()
        {
            inner.metrics.dropped.inc();
        }
    }

    /// Begins the span of a message that came in, if it is to have one.
    pub(crate) fn receive(&self, trace: &Trace, envelope: &Envelope) -> Option<Span> {
        if !self.is_on() || !trace.sampled {
            return None;
        }
        let origin = &envelope.origin;
        let span =
            Span::begin(trace.clone(), Kind::Consumer, format!("receive {}", origin.adapter));
        Some(
            span.with("messaging.operation.type", "receive")
                .with("messaging.system", &*origin.protocol)
                .with("messaging.destination.name", &**origin.address.as_text())
                .with("transload.adapter", &*origin.adapter)
                .of_message(envelope),
        )
    }

    /// Begins the span of what is sent to a target, and writes it into the message, if it is to
    /// have one.
    pub(crate) fn send(
        &self,
        kind: Kind,
        operation: &str,
        destination: &str,
        outgoing: &mut Outgoing,
    ) -> Option<Span> {
        if !self.is_on() {
            return None;
        }
        let trace = trace::sampled(&outgoing.envelope.headers)?;
        trace.write(&mut outgoing.envelope.headers);
        let span = Span::begin(trace, kind, format!("{operation} {destination}"));
        Some(
            span.with("messaging.operation.type", "send")
                .with("transload.destination", destination)
                .of_message(&outgoing.envelope),
        )
    }
}

#[cfg(test)]
mod bounds {
    use super::*;
    use crate::metrics::Metrics;

    fn telemetry(sample_ratio: f64, queue_spans_max: usize) -> (Telemetry, mpsc::Receiver<Span>) {
        let settings =
            TelemetrySettings { sample_ratio, queue_spans_max, ..TelemetrySettings::default() };
        Telemetry::open(&settings, Metrics::new().telemetry().clone())
    }

    #[test]
    fn the_ratio_of_traces_that_begin_here_is_kept() {
        let half = telemetry(0.5, 1).0;
        assert!(half.samples(|| 0));
        assert!(half.samples(|| 1 << 54));
        assert!(!half.samples(|| 1 << 55));
        assert!(half.samples(|| 1 << 56), "only the random part of an id counts");
        let untouched = || -> u64 { panic!("no id is looked at") };
        assert!(telemetry(1.0, 1).0.samples(untouched));
        assert!(!telemetry(0.0, 1).0.samples(untouched));
        assert!(!Telemetry::default().samples(untouched));
    }

    #[test]
    fn beyond_the_bound_spans_are_dropped_and_counted() {
        let (telemetry, mut waiting) = telemetry(1.0, 2);
        for _ in 0..5 {
            let trace = Trace::begin(&telemetry);
            telemetry.record(Span::begin(trace, Kind::Internal, "x".to_owned()));
        }
        let dropped = |telemetry: &Telemetry| telemetry.0.as_ref().unwrap().metrics.dropped.get();
        assert_eq!(dropped(&telemetry), 3);
        assert!(waiting.try_recv().is_ok() && waiting.try_recv().is_ok());
        assert!(waiting.try_recv().is_err());
    }
}
