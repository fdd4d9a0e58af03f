//! The spans of a batch on its way from a source to the queues.

use transload_adapter::store::StoreError;
use transload_envelope::Text;
use transload_routing::Plan;

use super::{Kind, Span, Telemetry};
use crate::routing::Routing;

/// The spans of one batch. Those of the messages last as long as the batch, since only then their
/// sources are told.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    /// Of messages that were decided on.
    received: Vec<(Span, &'static str)>,
    routed: Vec<Span>,
    /// Of the message that is being looked at: its own, and that of its routing.
    current: Option<(Span, Span)>,
}

impl Passing {
    /// The next message is looked at, and has no span so far.
    pub(crate) fn next(&mut self) {
        self.current = None;
    }

    /// The message has this span, if it has one.
    pub(crate) fn admitted(&mut self, span: Option<Span>) {
        self.current = span.map(|span| {
            let route = span.part(Kind::Internal, "route");
            (span, route)
        });
    }

    /// The message had been accepted before.
    pub(crate) fn repeated(&mut self) {
        if let Some((received, _)) = self.current.take() {
            self.received.push((received, "repeated"));
        }
    }

    /// It is known what becomes of the message.
    pub(crate) fn decided(&mut self, outcome: &'static str, routing: &Routing, plan: &Plan) {
        let Some((received, route)) = self.current.take() else { return };
        let numbers = plan.targets().iter().map(|target| target.destination);
        let failed = plan.failed().iter().map(|target| target.destination);
        let names = numbers
            .chain(failed)
            .filter_map(|number| Some(routing.destinations.get(number)?.name.clone()));
        let names: Vec<Text> = names.collect();
        let error = plan.failed().first().map(|failed| failed.reason.to_string());
        self.routed.push(route.with("transload.destinations", names).end(outcome, error));
        self.received.push((received, outcome));
    }

    /// The queues have the batch, or have not.
    pub(crate) fn end(self, telemetry: &Telemetry, error: Option<&StoreError>) {
        let undecided = self.current.map(|(received, _)| (received, "released"));
        for span in self.routed {
            telemetry.record(span);
        }
        for (span, outcome) in self.received.into_iter().chain(undecided) {
            let outcome = if error.is_some() { "released" } else { outcome };
            telemetry.record(span.end(outcome, error.map(ToString::to_string)));
        }
    }
}
