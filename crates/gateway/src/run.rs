//! The life of the gateway: build, start, run, drain, stop.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use transload_adapter::{
    ConnectError, Interest,
    store::{Store, StoreError},
};
use transload_delivery::{
    dead_letters::DeadLetters,
    worker::{Link, LinkSender, ORDERED_BY, Worker, WorkerStop, link},
};
use transload_envelope::Text;
use transload_routing::{Rule, RuleSet, TargetRule, Template};

use crate::{
    admin,
    config::{AdapterInstance, Configuration, Route, RouteTarget},
    deduplication::{Deduplication, Recorder},
    destination::{self, Built},
    dispatch::{Dispatcher, Shared},
    letters::Letters,
    metrics::Metrics,
    requests::Requests,
    status::{Stage, Status},
    storage::{self, Storage},
    supervisor::{self, Supervisor},
};

/// How long connections may take to close after the last message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error("the data directory cannot be used: {0}")]
    Data(String),
    /// The store refused a queue.
    #[error("a queue cannot be opened: {0}")]
    Queue(#[from] StoreError),
    /// An adapter can never work with these settings on this machine.
    #[error("adapter `{name}`: {reason}")]
    Adapter {
        /// The adapter's name.
        name: Text,
        /// What is wrong and how to cure it.
        reason: String,
    },
    /// The admin address cannot be served.
    #[error("[gateway] admin: {0}")]
    Admin(String),
}

/// What was left when the gateway stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages that wait on disk for the next start.
    pub waiting: u64,
    /// Messages that were in memory only and had not been delivered.
    pub lost: u64,
}

/// The signals by which the stages of a stop are told.
#[derive(Debug, Default)]
struct Signals {
    /// Nothing more is taken in.
    intake: CancellationToken,
    /// Workers finish or abort.
    workers: WorkerStop,
    /// Connections are closed.
    close: CancellationToken,
}

/// Runs a gateway until `stop` fires, and then lets what is in flight finish.
pub async fn run(
    configuration: Configuration,
    stop: CancellationToken,
) -> Result<Summary, RunError> {
    let settings = configuration.gateway.clone();
    let storage =
        Storage::open(&settings).await.map_err(|error| RunError::Data(storage::explain(&error)))?;
    let metrics = Metrics::new();
    let status = Status::new(configuration.adapters.iter().map(|adapter| adapter.name.clone()));
    let signals = Signals::default();
    let tasks = Tasks::default();

    let (senders, links): (Vec<LinkSender>, Vec<Link>) =
        configuration.adapters.iter().map(|_| link()).unzip();
    let (shared, workers) = assemble(&configuration, &storage, &links, &signals.workers, &metrics)?;
    let state = admin::State::new(
        &configuration,
        status.clone(),
        metrics.clone(),
        storage.clone(),
        Letters::new(
            Arc::clone(&shared),
            storage.clone(),
            tasks.admin.clone(),
            signals.close.clone(),
        ),
        Arc::clone(&shared),
    );
    state.queues.warn_of_orphans();
    let repeats = repeats(&configuration, &*shared.store, &metrics)?;
    if let Some(address) = settings.admin {
        admin::serve(address, state, &tasks.admin, signals.close.clone())
            .await
            .map_err(RunError::Admin)?;
    }
    let mut deduplications = Vec::new();
    for (deduplication, recorder) in repeats {
        if let Some(recorder) = recorder {
            tasks.admin.spawn(recorder.run(signals.close.clone()));
        }
        deduplications.push(deduplication);
    }
    for worker in workers {
        tasks.workers.spawn(worker.run());
    }
    let sources = configuration.adapters.into_iter().zip(senders).zip(deduplications);
    let supervisors = supervisors(
        sources,
        &links,
        &configuration.routes,
        &shared,
        &status,
        &metrics,
        &signals,
        &tasks,
    );
    let started = start(supervisors, &tasks).await;
    if let Err(error) = started {
        shut_down(&signals, &tasks, Duration::ZERO).await;
        storage.close().await;
        return Err(error);
    }
    status.set_stage(Stage::Running);
    info!("The gateway is running.");
    stop.cancelled().await;

    status.set_stage(Stage::Stopping);
    info!("The gateway is stopping, what is in flight may finish.");
    shut_down(&signals, &tasks, settings.drain_timeout).await;
    let summary = summarize(&shared);
    storage.close().await;
    Ok(summary)
}

/// Everything that runs, by the order in which it ends.
#[derive(Debug, Default)]
struct Tasks {
    /// Tokens of dispatchers that take messages in.
    intake: TaskTracker,
    /// Requests that wait for their replies.
    requests: TaskTracker,
    workers: TaskTracker,
    supervisors: TaskTracker,
    /// Pages, and what works in the background.
    admin: TaskTracker,
}

/// Puts together what dispatchers and workers share, and the workers, which do not run yet.
pub(crate) fn assemble(
    configuration: &Configuration,
    storage: &Storage,
    links: &[Link],
    stop: &WorkerStop,
    metrics: &Metrics,
) -> Result<(Arc<Shared>, Vec<Worker>), StoreError> {
    let store = storage.store();
    let dead_letters = DeadLetters::new(Arc::clone(&store), configuration.gateway.dead_letters);
    for route in dead_letters.routes() {
        // A queue that was found on disk has no bounds until it is opened.
        dead_letters.queue(&route)?;
    }
    let Built { destinations, workers } =
        destination::build(configuration, &*store, &dead_letters, links, stop, metrics)?;
    let rules = rules(&configuration.routes);
    Ok((Arc::new(Shared { rules, destinations, store, dead_letters }), workers))
}

type Repeats = (Option<Arc<Deduplication>>, Option<Recorder>);

/// What recognizes repeats, for each adapter in the order of the file.
fn repeats(
    configuration: &Configuration,
    store: &dyn Store,
    metrics: &Metrics,
) -> Result<Vec<Repeats>, StoreError> {
    let adapters = configuration.adapters.iter();
    adapters
        .map(|adapter| {
            let Some(settings) = &adapter.deduplicate else { return Ok((None, None)) };
            let figures = metrics.deduplication(&adapter.name);
            let (one, recorder) = Deduplication::open(store, &adapter.name, settings, figures)?;
            Ok((Some(one), Some(recorder)))
        })
        .collect()
}

/// The rules in the order of the routes; their destinations are numbered from route to route.
pub(crate) fn rules(routes: &[Route]) -> RuleSet {
    let mut numbers = 0..;
    let rules = routes.iter().map(|route| Rule {
        name: route.name.clone(),
        from: route.from.clone(),
        patterns: route.patterns.clone(),
        fallback: route.fallback,
        stop: route.stop,
        targets: route
            .to
            .iter()
            .zip(&mut numbers)
            .map(|(to, destination)| TargetRule { destination, templates: templates(route, to) })
            .collect(),
    });
    RuleSet::new(rules.collect())
}

/// What a message fills in for a target: the target's own keys, and the key of its order.
fn templates(route: &Route, to: &RouteTarget) -> Vec<(Text, Template)> {
    let key = route.ordered_by.iter().map(|key| (Text::from_static(ORDERED_BY), key.clone()));
    to.templates.iter().cloned().chain(key).collect()
}

type Source = ((AdapterInstance, LinkSender), Option<Arc<Deduplication>>);

#[expect(clippy::too_many_arguments, reason = "it puts all parts together")]
fn supervisors(
    sources: impl Iterator<Item = Source>,
    links: &[Link],
    routes: &[Route],
    shared: &Arc<Shared>,
    status: &Status,
    metrics: &Metrics,
    signals: &Signals,
    tasks: &Tasks,
) -> Vec<Supervisor> {
    sources
        .zip(links)
        .enumerate()
        .map(|(place, (((adapter, link), deduplication), caller))| {
            let figures = metrics.adapter(&adapter.name);
            Supervisor {
                context: supervisor::context(
                    adapter.name.clone(),
                    adapter.credits,
                    signals.intake.child_token(),
                    interest(routes, place),
                    Arc::clone(&shared.store),
                    Arc::new(figures.clone()),
                ),
                link,
                dispatcher: Dispatcher {
                    adapter: place,
                    adapter_name: adapter.name.clone(),
                    source_refuses: adapter.prepared.source().refuses,
                    shared: Arc::clone(shared),
                    metrics: figures.clone(),
                    requests: Requests {
                        path: adapter.prepared.source().replies,
                        caller: caller.clone(),
                        tasks: tasks.requests.clone(),
                        abort: signals.workers.abort.clone(),
                    },
                    deduplication,
                    abort: signals.workers.abort.clone(),
                },
                name: adapter.name,
                place,
                prepared: adapter.prepared,
                status: status.clone(),
                metrics: figures,
                intake: tasks.intake.clone(),
                close: signals.close.clone(),
            }
        })
        .collect()
}

fn interest(routes: &[Route], adapter: usize) -> Interest {
    let mut patterns: Vec<Text> = routes
        .iter()
        .filter(|route| route.from.contains(&adapter))
        .flat_map(|route| &route.patterns)
        .map(|pattern| Text::from(pattern.as_str()))
        .collect();
    patterns.sort_unstable();
    patterns.dedup();
    Interest { patterns }
}

/// Starts all supervisors and waits until each has tried to connect once, or is still trying.
async fn start(supervisors: Vec<Supervisor>, tasks: &Tasks) -> Result<(), RunError> {
    /// A listener is open well before; a broker may take longer to answer, and is not waited for.
    const FIRST_TRY: Duration = Duration::from_secs(2);
    let mut firsts = Vec::with_capacity(supervisors.len());
    for supervisor in supervisors {
        let (report, first) = oneshot::channel();
        firsts.push((supervisor.name.clone(), first));
        tasks.supervisors.spawn(supervisor.run(report));
    }
    let deadline = Instant::now() + FIRST_TRY;
    for (name, first) in firsts {
        let outcome = tokio::select! {
            outcome = first => outcome,
            () = sleep_until(deadline) => continue,
        };
        if let Ok(Err(ConnectError::Unusable { reason })) = outcome {
            return Err(RunError::Adapter { name, reason: reason.to_string() });
        }
    }
    Ok(())
}

/// Stops in the order in which nothing is lost: no more in, what is in flight out, then close.
async fn shut_down(signals: &Signals, tasks: &Tasks, drain: Duration) {
    let deadline = Instant::now() + drain;
    signals.intake.cancel();
    tasks.intake.close();
    tasks.requests.close();
    tasks.workers.close();
    let drained = async {
        tasks.intake.wait().await;
        tasks.requests.wait().await;
        signals.workers.finish.cancel();
        tasks.workers.wait().await;
    };
    tokio::select! {
        () = drained => {}
        () = sleep_until(deadline) => {
            if !drain.is_zero() {
                warn!("What is in flight did not finish in time and is put back.");
            }
        }
    }
    signals.workers.abort.cancel();
    // Callers that still wait are told that the gateway stops.
    if timeout(CLOSE_TIMEOUT, tasks.requests.wait()).await.is_err() {
        warn!("Some callers could not be told in time that the gateway stops.");
    }
    tasks.workers.wait().await;
    signals.close.cancel();
    tasks.supervisors.close();
    tasks.admin.close();
    let closed = async {
        tasks.supervisors.wait().await;
        tasks.admin.wait().await;
    };
    if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        warn!("Some connections did not close in time.");
    }
}

fn summarize(shared: &Shared) -> Summary {
    let mut summary = Summary::default();
    for destination in &shared.destinations {
        let messages = destination.queue.depth().messages;
        if destination.in_memory {
            summary.lost += messages;
        } else {
            summary.waiting += messages;
        }
    }
    summary
}
