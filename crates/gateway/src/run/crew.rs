//! The workers that run, one for each destination.
//!
//! Invariants:
//! - A queue is served by one worker at a time: the next one begins when the one before has ended,
//!   and has put back what it had in hand, so that the order of the queue is kept.
//! - A worker of a destination that is gone delivers what was accepted while it was there, as long
//!   as it can and the time allows. What is left stays in the queue.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::store::Queue;
use transload_delivery::worker::{Circuit, Link, WorkerStop};
use transload_envelope::Text;

use super::until::Until;
use crate::{
    destination::{Built, Mark, Ready},
    routing::Routing,
};

/// How often is looked whether a queue is empty, or old rules are out of use.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// All workers.
#[derive(Debug)]
pub(super) struct Crew {
    running: HashMap<Text, Running>,
    tasks: TaskTracker,
    /// Stops all of them.
    stop: WorkerStop,
}

/// One worker.
#[derive(Debug)]
struct Running {
    mark: Mark,
    queue: Arc<dyn Queue>,
    link: Link,
    circuit: Circuit,
    stop: WorkerStop,
    ended: CancellationToken,
}

/// Workers that are about to end.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Others take their place.
    replaced: Vec<Running>,
    /// Their destinations are gone, by their names.
    removed: Vec<(Text, Running)>,
}

impl Crew {
    pub(super) fn new(tasks: TaskTracker, stop: WorkerStop) -> Self {
        Self { running: HashMap::new(), tasks, stop }
    }

    /// Goes over to these workers: those that are the same go on, the others start, those that
    /// they replace begin to leave. The rest is returned, and is to be seen to its end.
    pub(super) fn change(&mut self, wanted: Vec<Ready>) -> Leaving {
        let mut leaving = Leaving::default();
        let names: HashSet<_> =
            wanted.iter().map(|ready| ready.worker.settings.name.clone()).collect();
        for ready in wanted {
            let name = &ready.worker.settings.name;
            match self.running.remove(name) {
                Some(same) if same.mark == ready.mark => {
                    self.running.insert(name.clone(), same);
                }
                Some(other) => {
                    other.stop.leave.cancel();
                    self.start(ready, Some(other.ended.clone()));
                    leaving.replaced.push(other);
                }
                None => self.start(ready, None),
            }
        }
        let gone = self.running.extract_if(|name, _| !names.contains(name));
        leaving.removed.extend(gone);
        leaving
    }

    /// Gives destinations that have a worker the circuit of that worker: as it is where the worker
    /// stays, and closed where another one takes its place.
    pub(super) fn keep_circuits(&self, built: &mut Built) {
        let mut kept = HashMap::new();
        for Ready { mark, worker } in &mut built.workers {
            let Some(known) = self.running.get(&worker.settings.name) else { continue };
            if known.mark != *mark {
                known.circuit.close();
            }
            worker.circuit = known.circuit.clone();
            kept.insert(worker.settings.name.clone(), known.circuit.clone());
        }
        for destination in &mut built.destinations {
            if let Some(circuit) = kept.remove(&destination.name) {
                destination.circuit = circuit;
            }
        }
    }

    fn start(&mut self, ready: Ready, after: Option<CancellationToken>) {
        let Ready { mark, mut worker } = ready;
        let stop = WorkerStop {
            finish: self.stop.finish.child_token(),
            leave: self.stop.leave.child_token(),
            abort: self.stop.abort.child_token(),
        };
        worker.stop = stop.clone();
        let ended = CancellationToken::new();
        let running = Running {
            mark,
            queue: Arc::clone(&worker.queue),
            link: worker.link.clone(),
            circuit: worker.circuit.clone(),
            stop,
            ended: ended.clone(),
        };
        self.running.insert(worker.settings.name.clone(), running);
        // There may be very many, and a future has room for what it takes in twice.
        let run = Box::pin(worker.run());
        self.tasks.spawn(async move {
            let _ended = ended.drop_guard();
            if let Some(before) = after {
                before.cancelled().await;
            }
            run.await;
        });
    }
}

impl Leaving {
    /// Fires for each of the workers that serve this instance, once it has ended.
    pub(super) fn of_instance(&self, instance: u64) -> Vec<CancellationToken> {
        let removed = self.removed.iter().map(|(_, running)| running);
        let all = self.replaced.iter().chain(removed);
        let own = all.filter(|running| running.mark.instance() == instance);
        own.map(|running| running.ended.clone()).collect()
    }

    /// Waits until all of them have ended. `old` dies when nothing more comes for those whose
    /// destinations are gone. Returns the names of these.
    pub(super) async fn end(self, old: &Weak<Routing>, until: &Until) -> Vec<Text> {
        let replaced = self.replaced.iter().map(|running| running.end(until));
        let removed = self.removed.iter().map(|(_, running)| running.drain(old, until));
        tokio::join!(join_all(replaced), join_all(removed));
        self.removed.into_iter().map(|(name, _)| name).collect()
    }
}

impl Running {
    /// Lets it finish what is in hand, or puts that back when the time is up.
    async fn end(&self, until: &Until) {
        self.stop.leave.cancel();
        if until.wait(self.ended.cancelled()).await.is_none() {
            self.stop.abort.cancel();
            self.ended.cancelled().await;
        }
    }

    /// Lets it deliver what waits, as long as its target is there.
    async fn drain(&self, old: &Weak<Routing>, until: &Until) {
        let empty = async {
            while old.strong_count() > 0 {
                sleep(LOOK_INTERVAL).await;
            }
            while self.queue.depth().messages > 0 && self.link.is_connected() {
                sleep(LOOK_INTERVAL).await;
            }
        };
        let _in_time = until.wait(empty).await;
        self.end(until).await;
    }
}
