//! The life of the gateway: build, start, run, drain, stop.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use transload_adapter::{ConnectError, Interest, store::Store};
use transload_delivery::{
    dead_letters::DeadLetters,
    worker::{Link, LinkSender, WorkerStop, link},
};
use transload_envelope::Text;
use transload_routing::{Rule, RuleSet, TargetRule};

use crate::{
    admin,
    config::{Configuration, Route},
    destination::{self, Built},
    dispatch::{Dispatcher, Shared},
    metrics::Metrics,
    status::{Stage, Status},
    storage::{self, Storage},
    supervisor::{self, Supervisor},
};

/// How many dead letters each route keeps.
const DEAD_LETTERS_MAX: u64 = 100_000;

/// How many bytes of dead letters each route keeps.
const DEAD_LETTER_BYTES_MAX: u64 = 256 << 20;

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
    Queue(#[from] transload_adapter::store::StoreError),
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

    let store = storage.store();
    let dead_letters =
        DeadLetters::new(Arc::clone(&store), DEAD_LETTERS_MAX, DEAD_LETTER_BYTES_MAX);
    let (senders, links): (Vec<LinkSender>, Vec<Link>) =
        configuration.adapters.iter().map(|_| link()).unzip();
    let Built { destinations, workers } = destination::build(
        &configuration,
        &*store,
        &dead_letters,
        &links,
        &signals.workers,
        &metrics,
    )?;
    let shared = Arc::new(Shared {
        rules: rules(&configuration.routes),
        destinations,
        store: Arc::clone(&store),
        dead_letters,
    });
    if let Some(address) = settings.admin {
        let state = admin::State {
            status: status.clone(),
            metrics: metrics.clone(),
            shared: Arc::clone(&shared),
            storage: storage.clone(),
        };
        admin::serve(address, state, &tasks.admin, signals.close.clone())
            .await
            .map_err(RunError::Admin)?;
    }
    for worker in workers {
        tasks.workers.spawn(worker.run());
    }
    let supervisors =
        supervisors(configuration, senders, &shared, &store, &status, &metrics, &signals, &tasks);
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
    workers: TaskTracker,
    supervisors: TaskTracker,
    admin: TaskTracker,
}

fn rules(routes: &[Route]) -> RuleSet {
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
            .map(|(to, destination)| TargetRule { destination, templates: to.templates.clone() })
            .collect(),
    });
    RuleSet::new(rules.collect())
}

#[expect(clippy::too_many_arguments, reason = "the parts that a supervisor is made of")]
fn supervisors(
    configuration: Configuration,
    senders: Vec<LinkSender>,
    shared: &Arc<Shared>,
    store: &Arc<dyn Store>,
    status: &Status,
    metrics: &Metrics,
    signals: &Signals,
    tasks: &Tasks,
) -> Vec<Supervisor> {
    let interests: Vec<_> = (0..configuration.adapters.len())
        .map(|place| interest(&configuration.routes, place))
        .collect();
    let adapters = configuration.adapters.into_iter().zip(senders).zip(interests).enumerate();
    adapters
        .map(|(place, ((adapter, link), interest))| {
            let figures = metrics.adapter(&adapter.name);
            Supervisor {
                context: supervisor::context(
                    adapter.name.clone(),
                    adapter.credits,
                    signals.intake.child_token(),
                    interest,
                    Arc::clone(store),
                    Arc::new(figures.clone()),
                ),
                link,
                dispatcher: Dispatcher {
                    adapter: place,
                    adapter_name: adapter.name.clone(),
                    source_refuses: adapter.prepared.source().refuses,
                    shared: Arc::clone(shared),
                    metrics: figures.clone(),
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
    tasks.workers.close();
    let drained = async {
        tasks.intake.wait().await;
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
