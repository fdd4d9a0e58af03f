//! The life of the gateway: build, start, run, change, drain, stop.

mod crew;
mod instance;
mod plant;
mod reload;
mod supervisor;
mod until;
mod watch;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use transload_adapter::store::{Storage as Kept, StoreError};
use transload_delivery::{dead_letters::DeadLetters, worker::WorkerStop};
use transload_envelope::Text;

pub(crate) use self::reload::{Outcome, Requests};
pub use self::reload::{Reload, Reloader};
use self::{
    instance::Fresh,
    plant::{Changed, Plant},
};
use crate::{
    admin,
    config::Configuration,
    destination::{self, Built},
    letters::Letters,
    limits::Holder,
    metrics::Metrics,
    queues::{Owner, owner},
    recent::Recent,
    routing::{Routing, Shared},
    status::{Stage, Status},
    storage::{self, Storage},
    telemetry::{self, Telemetry},
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
    /// Spans cannot be sent from this machine.
    #[error("[telemetry] {0}")]
    Telemetry(String),
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
#[derive(Clone, Debug, Default)]
struct Signals {
    /// Nothing more is taken in.
    intake: CancellationToken,
    /// Workers finish or abort.
    workers: WorkerStop,
    /// Nobody hands over messages to be held back any more.
    held: CancellationToken,
    /// Connections are closed.
    close: CancellationToken,
    /// No more spans come.
    telemetry: CancellationToken,
}

/// Everything that runs, by the order in which it ends.
#[derive(Clone, Debug, Default)]
struct Tasks {
    /// Requests that wait for their replies.
    requests: TaskTracker,
    workers: TaskTracker,
    /// What holds messages back for throttles.
    holder: TaskTracker,
    supervisors: TaskTracker,
    /// Pages, and what works in the background.
    admin: TaskTracker,
    /// What sends spans to the collector.
    telemetry: TaskTracker,
}

/// What everything that runs shares.
#[derive(Clone, Debug)]
struct Site {
    shared: Arc<Shared>,
    storage: Storage,
    status: Status,
    metrics: Metrics,
    telemetry: Telemetry,
    signals: Signals,
    tasks: Tasks,
}

/// Runs a gateway until `stop` fires, and then lets what is in flight finish.
pub async fn run(
    configuration: Configuration,
    stop: CancellationToken,
) -> Result<Summary, RunError> {
    run_reloading(configuration, Reload::never(), stop).await
}

/// The same, with a configuration that can be read anew meanwhile.
pub async fn run_reloading(
    configuration: Configuration,
    reload: Reload,
    stop: CancellationToken,
) -> Result<Summary, RunError> {
    let settings = configuration.gateway.clone();
    let storage =
        Storage::open(&settings).await.map_err(|error| RunError::Data(storage::explain(&error)))?;
    let site = Site::new(&configuration, storage)?;
    let fresh = plant::fresh(&configuration, &site);
    let ways: Vec<_> = fresh.iter().map(Fresh::way).collect();
    let shared = &site.shared;
    let Built { destinations, workers } = destination::build(
        &configuration,
        &*shared.store,
        &shared.dead_letters,
        &ways,
        &site.metrics,
        &site.telemetry,
    )?;
    let routing = Routing::new(&configuration, destinations, &site.metrics);
    let routing = routing.limited(&configuration, &shared.routing(), &site.metrics);
    drop(shared.replace(routing));
    site.hold()?;
    let letters = Letters::new(
        Arc::clone(shared),
        site.storage.clone(),
        site.tasks.admin.clone(),
        site.signals.close.clone(),
    );
    let state = admin::State::new(
        site.status.clone(),
        site.metrics.clone(),
        site.storage.clone(),
        letters,
        Arc::clone(shared),
    );
    let state = admin::State { reload: reload.requests(), ..state };
    state.token.replace(settings.admin_token.clone());
    let token = state.token.clone();
    let queues = Arc::clone(&state.queues);
    queues.warn_of_orphans();
    if let Some(address) = settings.admin {
        admin::serve(address, state, &site.tasks.admin, site.signals.close.clone())
            .await
            .map_err(RunError::Admin)?;
    }
    // A large one takes more than all that runs because of it.
    drop(configuration);
    let built = Built { destinations: Vec::new(), workers };
    let (plant, started) = Plant::start(built, fresh, &site).await;
    if let Err(error) = started {
        site.shut_down(&plant, Duration::ZERO).await;
        site.storage.close().await;
        return Err(error);
    }
    site.status.set_stage(Stage::Running);
    info!("The gateway is running.");
    reload.is_ready();
    let running = reload::Running { settings, plant, site: &site, queues: &queues, token };
    let (plant, settings) = Box::pin(running.until(reload, &stop)).await;

    site.status.set_stage(Stage::Stopping);
    info!("The gateway is stopping, what is in flight may finish.");
    site.shut_down(&plant, settings.drain_timeout).await;
    let summary = site.summary();
    site.storage.close().await;
    Ok(summary)
}

/// Opens what dispatchers and pages share, with rules that route nothing.
pub(crate) fn open(configuration: &Configuration, storage: &Storage) -> Result<Shared, StoreError> {
    let store = storage.store();
    let dead_letters = DeadLetters::new(Arc::clone(&store), configuration.gateway.dead_letters);
    for route in dead_letters.routes() {
        // A queue that was found on disk has no bounds until it is opened.
        dead_letters.queue(&route)?;
    }
    let recent = Recent::new(configuration.gateway.recent_bytes_max);
    Ok(Shared::new(Routing::nothing(), store, dead_letters, recent))
}

impl Site {
    fn new(configuration: &Configuration, storage: Storage) -> Result<Self, RunError> {
        let shared = Arc::new(open(configuration, &storage)?);
        let (metrics, signals, tasks) = (Metrics::new(), Signals::default(), Tasks::default());
        let telemetry = match &configuration.gateway.telemetry {
            None => Telemetry::default(),
            Some(settings) => {
                let stop = signals.telemetry.clone();
                telemetry::start(settings, metrics.telemetry(), &tasks.telemetry, stop)
                    .map_err(RunError::Telemetry)?
            }
        };
        let status = Status::new(configuration);
        Ok(Self { shared, storage, status, metrics, telemetry, signals, tasks })
    }

    /// Starts what holds messages back for throttles.
    fn hold(&self) -> Result<(), StoreError> {
        if let Some(held) = self.shared.holding.receiver() {
            let holder = Holder::open(&*self.shared.store, Arc::clone(&self.shared), held)?;
            self.tasks.holder.spawn(holder.run(self.signals.held.clone()));
        }
        Ok(())
    }

    /// Stops in the order in which nothing is lost: no more in, what is in flight out, then close.
    async fn shut_down(&self, plant: &Plant, drain: Duration) {
        let Self { signals, tasks, .. } = self;
        let deadline = Instant::now() + drain;
        signals.intake.cancel();
        tasks.requests.close();
        tasks.workers.close();
        tasks.holder.close();
        let drained = async {
            plant.intake_ended().await;
            tasks.requests.wait().await;
            signals.held.cancel();
            tasks.holder.wait().await;
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
        signals.held.cancel();
        tasks.holder.wait().await;
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
        // The last spans are those of the stop itself.
        signals.telemetry.cancel();
        tasks.telemetry.close();
        tasks.telemetry.wait().await;
    }

    fn summary(&self) -> Summary {
        let routing = self.shared.routing();
        let mut summary = Summary::default();
        for (name, kept, depth) in self.storage.depths() {
            match (owner(&name), kept) {
                (Owner::Destination(_), Kept::Memory) => summary.lost += depth.messages,
                (Owner::Destination(name), Kept::Disk) if routing.destination(name).is_some() => {
                    summary.waiting += depth.messages;
                }
                (Owner::Destination(_) | Owner::DeadLetters(_) | Owner::Adapter(_), _) => {}
            }
        }
        summary
    }
}
