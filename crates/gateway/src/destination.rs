//! The destinations of all routes: each has a queue, and a worker that serves it.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use transload_adapter::store::{Queue, SettleOn, Storage, Store, StoreError};
use transload_delivery::{
    backoff::Backoff,
    dead_letters::DeadLetters,
    worker::{
        BatchFormat, BatchSettings, Circuit, DeliveryObserver, LaneSettings, Link, Worker,
        WorkerSettings, WorkerStop,
    },
};
use transload_envelope::Text;

use crate::{
    config::{self, Configuration, Fingerprint, Guarantee, Route, RouteTarget, WhenFull},
    metrics::{DestinationMetrics, Metrics},
    requests::{Asking, Responder},
    telemetry::{Telemetry, Traced},
};

/// The most messages that are sent in one batch.
const BATCH_MESSAGES_MAX: usize = 256;

/// The most bytes that are sent in one batch, unless a single message is larger.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The ceilings of the wait between attempts.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// One target of one route, as the dispatcher sees it.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Its name.
    pub(crate) name: Text,
    /// The route that it belongs to.
    pub(crate) route: Text,
    /// What waits for it.
    pub(crate) queue: Arc<dyn Queue>,
    /// Whether what waits there ends with the process.
    pub(crate) in_memory: bool,
    /// When the source's receipt is settled.
    pub(crate) settle_on: SettleOn,
    /// What happens when the queue is full.
    pub(crate) when_full: WhenFull,
    /// Whether its target takes messages.
    pub(crate) circuit: Circuit,
    /// Its figures.
    pub(crate) metrics: DestinationMetrics,
    /// Counts what its route takes.
    pub(crate) routed: prometheus_client::metrics::counter::Counter,
    /// It is asked for replies, and its queue is never used.
    pub(crate) responder: Option<Responder>,
}

/// All destinations, in the order in which the rules number them, and their workers, which do not
/// run yet.
pub(crate) struct Built {
    pub(crate) destinations: Vec<Destination>,
    pub(crate) workers: Vec<Ready>,
}

/// How workers reach an adapter.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) link: Link,
    /// Another number for each instance, also for one of the same name.
    pub(crate) instance: u64,
    /// The requests that are under way there.
    pub(crate) asked: TaskTracker,
}

/// A worker that does not run yet.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) mark: Mark,
    pub(crate) worker: Worker,
}

/// By what a worker differs from another one of the same destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    instance: u64,
    target: Fingerprint,
    settings: WorkerSettings,
}

/// Opens the queue of every target of every route.
pub(crate) fn build(
    configuration: &Configuration,
    store: &dyn Store,
    dead_letters: &DeadLetters,
    ways: &[Way],
    metrics: &Metrics,
    telemetry: &Telemetry,
) -> Result<Built, StoreError> {
    let mut built = Built { destinations: Vec::new(), workers: Vec::new() };
    for route in &configuration.routes {
        let asking = route
            .reply
            .map(|reply| Asking::new(reply, route.name.clone(), metrics.requests(&route.name)));
        for to in &route.to {
            let queue = store.queue(&to.destination, route.queue)?;
            let figures = metrics.destination(&to.destination);
            let backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            let circuit = Circuit::new(to.destination.clone(), backoff);
            let way = ways.get(to.adapter);
            if let (Some(Way { link, instance, .. }), None) = (way, &asking) {
                let settings = worker_settings(route, to);
                let (instance, target) = (*instance, to.fingerprint);
                let mark = Mark { instance, target, settings: settings.clone() };
                let worker = Worker {
                    settings,
                    queue: Arc::clone(&queue),
                    target: to.target.target.clone(),
                    link: link.clone(),
                    dead_letters: dead_letters.clone(),
                    observer: observer(&to.destination, &figures, telemetry),
                    circuit: circuit.clone(),
                    // Whoever starts it says how it is stopped.
                    stop: WorkerStop::default(),
                };
                built.workers.push(Ready { mark, worker });
            }
            built.destinations.push(Destination {
                name: to.destination.clone(),
                route: route.name.clone(),
                queue,
                in_memory: route.queue.storage == Storage::Memory,
                settle_on: settle_on(route.guarantee),
                when_full: route.when_full,
                circuit,
                metrics: figures,
                routed: metrics.routed(&route.name),
                responder: asking.as_ref().zip(way).map(|(asking, way)| Responder {
                    asking: Arc::clone(asking),
                    name: to.destination.clone(),
                    target: to.target.target.clone(),
                    link: way.link.clone(),
                    asked: way.asked.clone(),
                }),
            });
        }
    }
    Ok(built)
}

impl Mark {
    /// The instance that the worker sends through.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }
}

/// Who watches a worker; spans cost something only where there is a collector.
fn observer(
    destination: &Text,
    figures: &DestinationMetrics,
    telemetry: &Telemetry,
) -> Arc<dyn DeliveryObserver> {
    if !telemetry.is_on() {
        return Arc::new(figures.clone());
    }
    Arc::new(Traced {
        telemetry: telemetry.clone(),
        destination: destination.clone(),
        metrics: figures.clone(),
    })
}

fn worker_settings(route: &Route, to: &RouteTarget) -> WorkerSettings {
    WorkerSettings {
        name: to.destination.clone(),
        route: route.name.clone(),
        batch_messages_max: BATCH_MESSAGES_MAX,
        batch_bytes_max: BATCH_BYTES_MAX,
        attempts_max: route.attempts_max,
        expires: route.expires,
        retry_first: RETRY_FIRST,
        retry_max: RETRY_MAX,
        empty_before_finish: route.queue.storage == Storage::Memory,
        lanes: lanes(route, to),
    }
}

fn lanes(route: &Route, to: &RouteTarget) -> Option<LaneSettings> {
    if route.ordered_by.is_none() && route.batch.is_none() {
        return None;
    }
    let batch = route.batch.as_ref().map(|batch| BatchSettings {
        messages_max: batch.messages_max,
        bytes_max: batch.bytes_max,
        wait_max: batch.wait_max,
        format: match batch.format {
            config::BatchFormat::Json => BatchFormat::Json,
            config::BatchFormat::Lines => BatchFormat::Lines,
        },
        by_address: to.target.follows_address,
    });
    // Without keys there is one order, and one message or batch under way.
    Some(LaneSettings { lanes: if route.ordered_by.is_some() { route.lanes } else { 1 }, batch })
}

fn settle_on(guarantee: Guarantee) -> SettleOn {
    match guarantee {
        Guarantee::Delivered => SettleOn::Delivered,
        // A best-effort message is accepted as soon as its queue in memory has it.
        Guarantee::Stored | Guarantee::BestEffort => SettleOn::Stored,
    }
}
