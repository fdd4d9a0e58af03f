//! The figures of the spans that go to a collector.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What became of spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpanLabel {
    outcome: String,
}

/// The figures of the spans that go to a collector. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TelemetryMetrics {
    /// Spans that the collector has.
    pub(crate) exported: Counter,
    /// Spans for which there was no room.
    pub(crate) dropped: Counter,
    /// Spans that the collector does not want.
    pub(crate) rejected: Counter,
    /// Whether the collector took the last batch.
    pub(crate) collector_up: Gauge,
}

impl TelemetryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let spans = Family::<SpanLabel, Counter>::default();
        registry.register("spans", "What became of spans for the collector", spans.clone());
        let outcome =
            |outcome: &str| spans.get_or_create_owned(&SpanLabel { outcome: outcome.to_owned() });
        let collector_up = Gauge::default();
        let help = "1 when the collector took the last batch of spans";
        registry.register("collector_up", help, collector_up.clone());
        Self {
            exported: outcome("exported"),
            dropped: outcome("dropped"),
            rejected: outcome("rejected"),
            collector_up,
        }
    }
}
