//! Every metric of the gateway: names, labels and meaning stand here and nowhere else.
//!
//! Names and labels are an interface; the tests hold them.

mod handles;
#[cfg_attr(
    not(feature = "otlp"),
    allow(dead_code, reason = "without it there is nobody to send what is measured")
)]
mod telemetry;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use transload_adapter::Event;
use transload_delivery::{journal::Statistics, worker::Outcome};

use self::handles::{EVENTS, FAILURES, OUTCOMES, event_name, outcome_name};
pub(crate) use self::{
    handles::{
        AdapterMetrics, DeduplicationMetrics, DestinationMetrics, LimitMetrics, RequestMetrics,
    },
    telemetry::TelemetryMetrics,
};

/// The adapter that a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdapterLabel {
    adapter: String,
}

/// The route that a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// The route, and why its condition could not be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabel {
    route: String,
    reason: String,
}

/// The destination that a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabel {
    destination: String,
}

/// The route, its limit, and what became of messages there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    route: String,
    limit: String,
    outcome: String,
}

/// The adapter, and what happened in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    adapter: String,
    event: String,
}

/// The destination, and what became of messages there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    destination: String,
    outcome: String,
}

/// The route, and what became of requests there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: String,
    outcome: String,
}

/// What came of reading the configuration anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabel {
    outcome: String,
}

/// All metrics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    received: Family<AdapterLabel, Counter>,
    unrouted: Family<AdapterLabel, Counter>,
    refused: Family<AdapterLabel, Counter>,
    conditions: Family<ConditionLabel, Counter>,
    events: Family<EventLabel, Counter>,
    connected: Family<AdapterLabel, Gauge>,
    routed: Family<RouteLabel, Counter>,
    outcomes: Family<OutcomeLabel, Counter>,
    dropped: Family<DestinationLabel, Counter>,
    queue_messages: Family<DestinationLabel, Gauge>,
    queue_bytes: Family<DestinationLabel, Gauge>,
    queue_age: Family<DestinationLabel, Gauge>,
    circuit_open: Family<DestinationLabel, Gauge>,
    circuit_opened: Family<DestinationLabel, Counter>,
    dead_letters: Family<RouteLabel, Gauge>,
    limited: Family<LimitLabel, Counter>,
    duplicates: Family<AdapterLabel, Counter>,
    known_ids: Family<AdapterLabel, Gauge>,
    forgotten_ids: Family<AdapterLabel, Counter>,
    requests: Family<RequestLabel, Counter>,
    requests_in_flight: Family<RouteLabel, Gauge>,
    reloads: Family<ReloadLabel, Counter>,
    telemetry: TelemetryMetrics,
    store: StoreMetrics,
}

/// The figures of the journal.
#[derive(Debug, Default)]
struct StoreMetrics {
    disk_bytes: Gauge,
    live_bytes: Gauge,
    segments: Gauge,
    index_bytes: Gauge,
    failed: Gauge,
    full: Gauge,
    sync_seconds: Gauge<f64, AtomicU64>,
    syncs: Gauge,
}

impl StoreMetrics {
    fn register(registry: &mut Registry) -> Self {
        let figures = Self::default();
        let mut gauge = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("journal_disk_bytes", "Bytes that the journal takes on disk", &figures.disk_bytes);
        gauge("journal_live_bytes", "Bytes of the journal that still matter", &figures.live_bytes);
        gauge("journal_segments", "Files of the journal", &figures.segments);
        gauge("journal_index_bytes", "Memory of the queues' indexes", &figures.index_bytes);
        gauge("journal_failed", "1 when the journal takes nothing any more", &figures.failed);
        gauge("journal_full", "1 while there is no space for more messages", &figures.full);
        gauge("journal_syncs", "Syncs since the start", &figures.syncs);
        registry.register(
            "journal_last_sync_seconds",
            "How long the last sync took",
            figures.sync_seconds.clone(),
        );
        figures
    }
}

impl Metrics {
    /// Registers every metric.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("transload");
        let store = StoreMetrics::register(&mut registry);
        let telemetry = TelemetryMetrics::register(&mut registry);
        macro_rules! family {
            ($name:literal, $help:literal) => {{
                let family = Family::default();
                registry.register($name, $help, family.clone());
                family
            }};
        }
        let received = family!("messages_received", "Messages that an adapter handed over");
        let unrouted = family!("messages_unrouted", "Messages that no route wanted");
        let refused = family!("messages_refused", "Messages that were refused or sent back");
        let conditions =
            family!("conditions_unknown", "Messages for which `when` of a route cannot be told");
        let events = family!("adapter_events", "What happened inside an adapter");
        let connected = family!("adapter_connected", "1 while an adapter is connected");
        let routed = family!("messages_routed", "Messages that a route took, once per target");
        let outcomes = family!("messages_finished", "What became of messages at a destination");
        let dropped = family!("messages_dropped", "Oldest messages dropped to make room");
        let queue_messages = family!("queue_messages", "Messages that wait for a destination");
        let queue_bytes = family!("queue_bytes", "Bytes that wait for a destination");
        let queue_age = family!("queue_oldest_seconds", "Age of the oldest waiting message");
        let circuit_open = family!("circuit_open", "1 while a destination takes no messages");
        let circuit_opened =
            family!("circuit_opened", "How often a destination stopped taking messages");
        let dead_letters = family!("dead_letters", "Messages among the dead letters of a route");
        let limited = family!("messages_limited", "Messages that a limit of a route was about");
        let duplicates = family!("messages_duplicate", "Messages that had been accepted before");
        let known_ids = family!("deduplication_ids", "Ids by which repeats are recognized");
        let forgotten_ids =
            family!("deduplication_forgotten", "Ids forgotten before their window had passed");
        let requests = family!("requests", "What became of requests of a route with a reply");
        let requests_in_flight = family!("requests_in_flight", "Requests that wait for a reply");
        let reloads = family!("reloads", "How often the configuration was read anew");
        Self(Arc::new(Families {
            registry,
            received,
            unrouted,
            refused,
            conditions,
            events,
            connected,
            routed,
            outcomes,
            dropped,
            queue_messages,
            queue_bytes,
            queue_age,
            circuit_open,
            circuit_opened,
            dead_letters,
            limited,
            duplicates,
            known_ids,
            forgotten_ids,
            requests,
            requests_in_flight,
            reloads,
            telemetry,
            store,
        }))
    }

    /// The figures of one adapter.
    pub(crate) fn adapter(&self, name: &str) -> AdapterMetrics {
        let label = AdapterLabel { adapter: name.to_owned() };
        let event = |event: Event| {
            let label = EventLabel { adapter: name.to_owned(), event: event_name(event).into() };
            self.0.events.get_or_create_owned(&label)
        };
        AdapterMetrics {
            received: self.0.received.get_or_create_owned(&label),
            unrouted: self.0.unrouted.get_or_create_owned(&label),
            refused: self.0.refused.get_or_create_owned(&label),
            connected: self.0.connected.get_or_create_owned(&label),
            events: EVENTS.map(|known| (known, event(known))),
        }
    }

    /// The figures of one route.
    pub(crate) fn routed(&self, route: &str) -> Counter {
        self.0.routed.get_or_create_owned(&RouteLabel { route: route.to_owned() })
    }

    /// The figures of the condition of one route: what it asked for was absent, and it failed.
    pub(crate) fn condition(&self, route: &str) -> [Counter; 2] {
        ["absent", "failed"].map(|reason| {
            let label = ConditionLabel { route: route.to_owned(), reason: reason.to_owned() };
            self.0.conditions.get_or_create_owned(&label)
        })
    }

    /// The figures of the limits of one route.
    pub(crate) fn limits(&self, route: &str) -> LimitMetrics {
        let figure = |limit: &str, outcome: &str| {
            self.0.limited.get_or_create_owned(&LimitLabel {
                route: route.to_owned(),
                limit: limit.to_owned(),
                outcome: outcome.to_owned(),
            })
        };
        LimitMetrics {
            payload: figure("max_payload", "over"),
            sampled_out: figure("sample", "dropped"),
            rate_dropped: figure("rate", "dropped"),
            rate_refused: figure("rate", "refused"),
            rate_waited: figure("rate", "waited"),
            throttle_held: figure("throttle", "held"),
            throttle_superseded: figure("throttle", "superseded"),
            throttle_passed: figure("throttle", "passed"),
        }
    }

    /// Takes over how many dead letters a route has.
    pub(crate) fn dead_letters(&self, route: &str, messages: u64) {
        let gauge =
            self.0.dead_letters.get_or_create_owned(&RouteLabel { route: route.to_owned() });
        gauge.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// The figures of one adapter that recognizes repeats.
    pub(crate) fn deduplication(&self, adapter: &str) -> DeduplicationMetrics {
        let label = AdapterLabel { adapter: adapter.to_owned() };
        DeduplicationMetrics {
            duplicates: self.0.duplicates.get_or_create_owned(&label),
            known: self.0.known_ids.get_or_create_owned(&label),
            forgotten: self.0.forgotten_ids.get_or_create_owned(&label),
        }
    }

    /// The figures of one route with a reply.
    pub(crate) fn requests(&self, route: &str) -> RequestMetrics {
        let outcome = |outcome: &str| {
            let label = RequestLabel { route: route.to_owned(), outcome: outcome.to_owned() };
            self.0.requests.get_or_create_owned(&label)
        };
        let label = RouteLabel { route: route.to_owned() };
        RequestMetrics {
            in_flight: self.0.requests_in_flight.get_or_create_owned(&label),
            replied: outcome("replied"),
            unwanted: outcome("unwanted"),
            failures: FAILURES.map(|kind| (kind, outcome(kind.name()))),
        }
    }

    /// The figures of the spans.
    pub(crate) fn telemetry(&self) -> &TelemetryMetrics {
        &self.0.telemetry
    }

    /// The figures of one destination.
    pub(crate) fn destination(&self, name: &str) -> DestinationMetrics {
        let label = DestinationLabel { destination: name.to_owned() };
        let outcome = |outcome: Outcome| {
            self.0.outcomes.get_or_create_owned(&OutcomeLabel {
                destination: name.to_owned(),
                outcome: outcome_name(outcome).into(),
            })
        };
        DestinationMetrics {
            outcomes: OUTCOMES.map(|known| (known, outcome(known))),
            dropped: self.0.dropped.get_or_create_owned(&label),
            queue_messages: self.0.queue_messages.get_or_create_owned(&label),
            queue_bytes: self.0.queue_bytes.get_or_create_owned(&label),
            queue_age: self.0.queue_age.get_or_create_owned(&label),
            circuit_open: self.0.circuit_open.get_or_create_owned(&label),
            circuit_opened: self.0.circuit_opened.get_or_create_owned(&label),
        }
    }

    /// Counts that the configuration was read anew.
    pub(crate) fn reloaded(&self, applied: bool) {
        let outcome = if applied { "applied" } else { "refused" };
        self.0.reloads.get_or_create_owned(&ReloadLabel { outcome: outcome.to_owned() }).inc();
    }

    /// Shows no longer what waits for a destination that is gone.
    pub(crate) fn forget_queue(&self, destination: &str) {
        let label = DestinationLabel { destination: destination.to_owned() };
        for family in [&self.0.queue_messages, &self.0.queue_bytes, &self.0.queue_age] {
            family.remove(&label);
        }
    }

    /// Shows no longer whether an adapter that is gone is connected.
    pub(crate) fn forget_adapter(&self, name: &str) {
        self.0.connected.remove(&AdapterLabel { adapter: name.to_owned() });
    }

    /// Takes over the figures of the journal.
    pub(crate) fn store(&self, found: &Statistics) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let figures = &self.0.store;
        figures.disk_bytes.set(gauge(found.disk_bytes));
        figures.live_bytes.set(gauge(found.live_bytes));
        figures.segments.set(gauge(found.segments));
        figures.index_bytes.set(gauge(found.index_bytes));
        figures.failed.set(i64::from(found.poisoned));
        figures.full.set(i64::from(found.full));
        figures.syncs.set(gauge(found.syncs));
        figures.sync_seconds.set(found.last_sync.as_secs_f64());
    }

    /// All figures in the OpenMetrics text format.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
