//! What counts, for whoever has something to count: one for each adapter, route or destination.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use transload_adapter::{Event, Observer};
use transload_delivery::worker::{DeliveryObserver, Outcome};

use crate::requests::Kind;

/// The figures of one adapter.
#[derive(Clone, Debug)]
pub(crate) struct AdapterMetrics {
    /// Messages that the adapter handed over.
    pub(crate) received: Counter,
    /// Messages that no route wanted.
    pub(crate) unrouted: Counter,
    /// Messages that were refused or sent back.
    pub(crate) refused: Counter,
    /// Whether it is connected.
    pub(crate) connected: Gauge,
    pub(super) events: [(Event, Counter); EVENTS.len()],
}

impl Observer for AdapterMetrics {
    fn count(&self, event: Event, by: u64) {
        if let Some((_, counter)) = self.events.iter().find(|(known, _)| *known == event) {
            counter.inc_by(by);
        }
    }
}

/// The figures of one adapter that recognizes repeats.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeduplicationMetrics {
    /// Messages that had been accepted before.
    pub(crate) duplicates: Counter,
    /// Ids by which repeats are recognized at present.
    pub(crate) known: Gauge,
    /// Ids that were forgotten before their window had passed.
    pub(crate) forgotten: Counter,
}

/// The figures of one route with a reply.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    /// Requests that wait.
    pub(crate) in_flight: Gauge,
    /// Requests that were answered.
    pub(crate) replied: Counter,
    /// Answers that nobody had asked for, or whose caller had gone.
    pub(crate) unwanted: Counter,
    pub(super) failures: [(Kind, Counter); FAILURES.len()],
}

impl RequestMetrics {
    /// Requests without a reply, by the kind of failure.
    pub(crate) fn failed(&self, kind: Kind) -> &Counter {
        let known = self.failures.iter().find(|(known, _)| *known == kind);
        known.map_or(&self.unwanted, |(_, counter)| counter)
    }
}

pub(super) const FAILURES: [Kind; 7] = [
    Kind::TimedOut,
    Kind::NoResponder,
    Kind::Busy,
    Kind::Disconnected,
    Kind::Failed,
    Kind::Rejected,
    Kind::Stopping,
];

/// The figures of the limits of one route.
#[derive(Clone, Debug)]
pub(crate) struct LimitMetrics {
    /// Messages whose payload was too large.
    pub(crate) payload: Counter,
    /// Messages that were not in the sample.
    pub(crate) sampled_out: Counter,
    /// Messages that came too soon and were dropped.
    pub(crate) rate_dropped: Counter,
    /// Messages that came too soon and were refused.
    pub(crate) rate_refused: Counter,
    /// Messages that came too soon and had to wait, or to come again.
    pub(crate) rate_waited: Counter,
    /// Messages that were held back.
    pub(crate) throttle_held: Counter,
    /// Held messages that a newer one took the place of.
    pub(crate) throttle_superseded: Counter,
    /// Messages that passed since a bound was reached or their key was not known.
    pub(crate) throttle_passed: Counter,
}

/// The figures of one destination.
#[derive(Clone, Debug)]
pub(crate) struct DestinationMetrics {
    pub(super) outcomes: [(Outcome, Counter); OUTCOMES.len()],
    /// Oldest messages dropped to make room.
    pub(crate) dropped: Counter,
    /// Messages that wait.
    pub(crate) queue_messages: Gauge,
    /// Bytes that wait.
    pub(crate) queue_bytes: Gauge,
    /// Age of the oldest waiting message, in seconds.
    pub(crate) queue_age: Gauge,
    /// Whether it takes no messages.
    pub(crate) circuit_open: Gauge,
    /// How often it has stopped taking messages.
    pub(crate) circuit_opened: Counter,
}

impl DeliveryObserver for DestinationMetrics {
    fn count(&self, outcome: Outcome, by: u64) {
        if let Some((_, counter)) = self.outcomes.iter().find(|(known, _)| *known == outcome) {
            counter.inc_by(by);
        }
    }
}

pub(super) const EVENTS: [Event; 11] = [
    Event::ConnectionOpened,
    Event::ConnectionClosed,
    Event::ConnectionRefused,
    Event::SubscriptionRefused,
    Event::ProtocolError,
    Event::AccessDenied,
    Event::MessageRefused,
    Event::MessageDropped,
    Event::MessageExpired,
    Event::MessageLocal,
    Event::ReplyLate,
];

pub(super) fn event_name(event: Event) -> &'static str {
    match event {
        Event::ConnectionOpened => "connection_opened",
        Event::ConnectionClosed => "connection_closed",
        Event::ConnectionRefused => "connection_refused",
        Event::SubscriptionRefused => "subscription_refused",
        Event::ProtocolError => "protocol_error",
        Event::AccessDenied => "access_denied",
        Event::MessageRefused => "message_refused",
        Event::MessageDropped => "message_dropped",
        Event::MessageExpired => "message_expired",
        Event::MessageLocal => "message_local",
        Event::ReplyLate => "reply_late",
    }
}

pub(super) const OUTCOMES: [Outcome; 5] = [
    Outcome::Delivered,
    Outcome::NoReceiver,
    Outcome::Retried,
    Outcome::Expired,
    Outcome::DeadLettered,
];

pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::NoReceiver => "no_receiver",
        Outcome::Retried => "retried",
        Outcome::Expired => "expired",
        Outcome::DeadLettered => "dead_lettered",
    }
}
