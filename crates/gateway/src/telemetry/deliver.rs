//! The spans of what workers send.

use transload_adapter::{SendError, Sent};
use transload_delivery::worker::{DeliveryObserver, Outcome, Sending};
use transload_envelope::{Outgoing, Text};

use super::{Kind, Span, Telemetry};
use crate::{metrics::DestinationMetrics, trace::is_sampled};

/// Watches one destination for a collector.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) telemetry: Telemetry,
    pub(crate) destination: Text,
    pub(crate) metrics: DestinationMetrics,
}

/// A batch that is under way. Each message of a sampled trace names the span of its own attempt.
#[derive(Debug)]
struct Batch {
    telemetry: Telemetry,
    outgoing: Vec<Outgoing>,
    /// By their places in the batch.
    spans: Vec<(usize, Span)>,
}

impl DeliveryObserver for Traced {
    fn count(&self, outcome: Outcome, by: u64) {
        self.metrics.count(outcome, by);
    }

    fn sending(&self, batch: &[Outgoing]) -> Option<Box<dyn Sending>> {
        let sampled = |outgoing: &Outgoing| is_sampled(&outgoing.envelope.headers);
        let first = batch.iter().position(sampled)?;
        let mut outgoing = batch.to_vec();
        let later = outgoing.iter_mut().enumerate().skip(first);
        let spans = later.filter_map(|(place, outgoing)| {
            let span = self.telemetry.send(Kind::Producer, "deliver", &self.destination, outgoing);
            Some((place, span?))
        });
        let spans = spans.collect();
        Some(Box::new(Batch { telemetry: self.telemetry.clone(), outgoing, spans }))
    }
}

impl Sending for Batch {
    fn batch(&self) -> &[Outgoing] {
        &self.outgoing
    }

    fn ended(self: Box<Self>, results: &[Result<Sent, SendError>]) {
        for (place, span) in self.spans {
            let (outcome, error) = match results.get(place) {
                Some(Ok(Sent::Confirmed | Sent::Unconfirmed)) => ("delivered", None),
                Some(Ok(Sent::NoReceiver)) => ("no_receiver", None),
                Some(Err(error)) => (name(error), Some(error.to_string())),
                None => ("disconnected", None),
            };
            self.telemetry.record(span.end(outcome, error));
        }
    }
}

fn name(error: &SendError) -> &'static str {
    match error {
        SendError::Busy { .. } => "busy",
        SendError::Disconnected(_) => "disconnected",
        SendError::Failed { .. } => "failed",
        SendError::Rejected { .. } => "rejected",
    }
}
