//! One adapter that runs: its supervisor, its dispatcher, and what recognizes repeats.
//!
//! It ends in the order in which nothing is lost: nothing more in, what is in flight out and
//! settled, then the connection is closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use transload_adapter::{
    ConnectError, Context, Interest, Prepared, UpdateSender, units::ByteSize, updates,
};
use transload_delivery::worker::{LinkSender, link};
use transload_envelope::Text;

use super::{CLOSE_TIMEOUT, Site, supervisor::Supervisor, until::Until};
use crate::{
    config::{AdapterInstance, Deduplicate, Fingerprint},
    deduplication::Deduplication,
    destination::Way,
    dispatch::Dispatcher,
    requests::Requests,
    unsettled,
};

/// How often is looked whether everything in flight is settled.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long callers may take to be told that they get no reply.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What hears of the first attempt to connect.
pub(super) type First = oneshot::Receiver<Result<(), ConnectError>>;

/// An adapter that runs, or is about to.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: Text,
    pub(super) way: Way,
    mark: Mark,
    interest: Arc<Interest>,
    updates: UpdateSender,
    /// One permit for each message that may be unsettled.
    credits: Arc<Semaphore>,
    /// Nothing more is taken in.
    stop: CancellationToken,
    /// Nothing waits any longer.
    abort: CancellationToken,
    /// Is empty when no dispatcher takes messages in any more.
    pub(super) intake: TaskTracker,
    close: CancellationToken,
    ended: CancellationToken,
    repeats: Option<Repeats>,
}

/// By what an adapter differs from another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    settings: Fingerprint,
    credits: usize,
    unsettled_bytes: ByteSize,
    deduplicate: Option<Deduplicate>,
}

/// What recognizes repeats, and writes them down.
#[derive(Debug)]
pub(super) struct Repeats {
    settings: Deduplicate,
    shared: Arc<Deduplication>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// An instance that does not run yet.
#[derive(Debug)]
pub(super) struct Fresh {
    prepared: Arc<dyn Prepared>,
    link: LinkSender,
    instance: Instance,
}

impl Fresh {
    /// Makes the parts of an instance. Nothing runs yet.
    pub(super) fn new(adapter: &AdapterInstance, interest: Interest, site: &Site) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let (sender, link) = link();
        let interest = Arc::new(interest);
        let instance = Instance {
            name: adapter.name.clone(),
            way: Way {
                link,
                instance: NUMBERS.fetch_add(1, Ordering::Relaxed),
                asked: TaskTracker::new(),
            },
            mark: Mark::of(adapter),
            updates: updates(interest.as_ref().clone()).0,
            interest,
            credits: Arc::new(Semaphore::new(adapter.credits)),
            stop: site.signals.intake.child_token(),
            abort: site.signals.workers.abort.child_token(),
            intake: TaskTracker::new(),
            close: site.signals.close.child_token(),
            ended: CancellationToken::new(),
            repeats: None,
        };
        Self { prepared: Arc::clone(&adapter.prepared), link: sender, instance }
    }

    pub(super) fn way(&self) -> Way {
        self.instance.way.clone()
    }

    /// Starts it in place of another one, which has ended.
    pub(super) fn start(self, site: &Site, before: Option<Repeats>) -> (Instance, First) {
        let Self { prepared, link, mut instance } = self;
        instance.repeats = repeats(&instance, before, site);
        let figures = site.metrics.adapter(&instance.name);
        let name = instance.name.clone();
        let supervisor = Supervisor {
            context: Context {
                name: name.clone(),
                credits: Arc::clone(&instance.credits),
                stop: instance.stop.clone(),
                tasks: TaskTracker::new(),
                interest: Arc::clone(&instance.interest),
                updates: instance.updates.subscribe(),
                store: Arc::clone(&site.shared.store),
                observer: Arc::new(figures.clone()),
            },
            link,
            dispatcher: Dispatcher {
                adapter_name: name.clone(),
                source_refuses: prepared.source().refuses,
                unsettled: unsettled::room(instance.mark.unsettled_bytes),
                shared: Arc::clone(&site.shared),
                metrics: figures.clone(),
                requests: Requests {
                    path: prepared.source().replies,
                    caller: instance.way.link.clone(),
                    tasks: site.tasks.requests.clone(),
                    abort: instance.abort.clone(),
                    telemetry: site.telemetry.clone(),
                },
                telemetry: site.telemetry.clone(),
                deduplication: instance.repeats.as_ref().map(|one| Arc::clone(&one.shared)),
                abort: instance.abort.clone(),
            },
            name,
            prepared,
            status: site.status.clone(),
            metrics: figures,
            intake: instance.intake.clone(),
            close: instance.close.clone(),
        };
        let (report, first) = oneshot::channel();
        let ended = instance.ended.clone().drop_guard();
        site.tasks.supervisors.spawn(async move {
            let _ended = ended;
            supervisor.run(report).await;
        });
        (instance, first)
    }
}

/// Takes over what recognizes repeats where its settings are the same, and otherwise opens it.
fn repeats(instance: &Instance, before: Option<Repeats>, site: &Site) -> Option<Repeats> {
    let settings = instance.mark.deduplicate.clone()?;
    if let Some(same) = before.filter(|before| before.settings == settings) {
        return Some(same);
    }
    let figures = site.metrics.deduplication(&instance.name);
    let opened = Deduplication::open(&*site.shared.store, &instance.name, &settings, figures);
    let (shared, recorder) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            error!(adapter = %instance.name, %error, "Repeated messages are not recognized.");
            return None;
        }
    };
    let stop = site.signals.close.child_token();
    let ended = CancellationToken::new();
    let (stopped, guard) = (stop.clone(), ended.clone().drop_guard());
    site.tasks.admin.spawn(async move {
        let _ended = guard;
        recorder.run(stopped).await;
    });
    Some(Repeats { settings, shared, stop, ended })
}

impl Mark {
    fn of(adapter: &AdapterInstance) -> Self {
        Self {
            settings: adapter.fingerprint,
            credits: adapter.credits,
            unsettled_bytes: adapter.unsettled_bytes,
            deduplicate: adapter.deduplicate.clone(),
        }
    }
}

impl Instance {
    /// Whether it can stay as it is for these settings.
    pub(super) fn fits(&self, adapter: &AdapterInstance, interest: &Interest) -> bool {
        self.mark == Mark::of(adapter) && !adapter.prepared.reconnects(&self.interest, interest)
    }

    /// Tells it that the configuration was read anew and that it stays.
    pub(super) fn update(&mut self, interest: Interest) {
        self.interest = Arc::new(interest);
        self.updates.send(Arc::clone(&self.interest));
    }

    /// Ends it, once the workers that use its connection have ended, and the requests under way
    /// over it have their replies.
    pub(super) async fn end(
        self,
        workers: Vec<CancellationToken>,
        until: &Until,
    ) -> Option<Repeats> {
        self.stop.cancel();
        self.intake.close();
        if until.wait(self.intake.wait()).await.is_none() {
            self.abort.cancel();
        }
        for worker in workers {
            // Who sees to the workers aborts them when the time is up.
            worker.cancelled().await;
        }
        self.way.asked.close();
        let finished = async { tokio::join!(self.settled(), self.way.asked.wait()) };
        if until.wait(finished).await.is_none() && !until.is_stopped() {
            warn!(adapter = %self.name, "What was not settled in time goes back to its source.");
            // Whoever waits for a reply is told first that none will come.
            self.abort.cancel();
            drop(timeout(TELL_TIMEOUT, self.settled()).await);
        }
        self.close.cancel();
        if timeout(CLOSE_TIMEOUT, self.ended.cancelled()).await.is_err() {
            warn!(adapter = %self.name, "The adapter did not close in time.");
        } else {
            info!(adapter = %self.name, "The adapter is closed.");
        }
        self.repeats
    }

    /// Waits until every message that came in is settled.
    async fn settled(&self) {
        while self.credits.available_permits() < self.mark.credits {
            sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Repeats {
    /// Ends it, unless it is to be taken over with these settings.
    pub(super) async fn unless_kept(self, wanted: Option<&Deduplicate>) -> Option<Self> {
        if wanted == Some(&self.settings) {
            return Some(self);
        }
        self.stop.cancel();
        self.ended.cancelled().await;
        None
    }
}
