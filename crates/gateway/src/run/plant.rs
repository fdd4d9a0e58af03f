//! Everything that runs for one configuration, and how it becomes what runs for the next.
//!
//! Invariants:
//! - A change is prepared before anything is touched. What can fail fails there, and nothing has
//!   changed then.
//! - The rules are replaced at one moment. Only then are adapters and workers ended that the new
//!   rules do not need, so that what was accepted by the old rules is still delivered by them.
//! - Adapters whose settings are the same keep their connections.

use std::{collections::HashMap, sync::Weak};

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep_until};
use transload_adapter::{
    ConnectError, Interest,
    store::{Storage as Kept, StoreError},
};
use transload_envelope::Text;

use super::{
    RunError, Site,
    crew::{Crew, Leaving},
    instance::{First, Fresh, Instance},
    until::Until,
};
use crate::{
    config::{AdapterInstance, Configuration, Deduplicate},
    destination::{self, Built, Way},
    routing::{Routing, interest},
};

/// What runs.
#[derive(Debug)]
pub(super) struct Plant {
    instances: Vec<Instance>,
    crew: Crew,
}

/// What a change has done, by the names of the adapters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) kept: Vec<Text>,
    pub(crate) restarted: Vec<Text>,
    pub(crate) started: Vec<Text>,
    pub(crate) removed: Vec<Text>,
}

/// Why a change cannot be made. Nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unchanged {
    #[error(
        "the queue of `{0}` is in memory and cannot go to disk while the gateway runs: \
         start the gateway anew, or give the route another name"
    )]
    InMemory(Text),
    #[error("a queue cannot be opened: {0}")]
    Store(#[from] StoreError),
}

/// What is to become of an adapter.
enum Next {
    Keep(Box<Instance>, Interest),
    /// The instance of the same name that runs so far, if there is one.
    Start(Box<Fresh>, Option<Box<Instance>>, Option<Deduplicate>),
}

impl Plant {
    /// Starts everything, and waits until each adapter has tried to connect once, or is still
    /// trying.
    pub(super) async fn start(
        built: Built,
        fresh: Vec<Fresh>,
        site: &Site,
    ) -> (Self, Result<(), RunError>) {
        let mut crew = Crew::new(site.tasks.workers.clone(), site.signals.workers.clone());
        drop(crew.change(built.workers));
        let started: Vec<_> = fresh.into_iter().map(|fresh| fresh.start(site, None)).collect();
        let (instances, firsts): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        let names: Vec<_> = instances.iter().map(|instance| instance.name.clone()).collect();
        let plant = Self { instances, crew };
        let outcome = first_tries(names.into_iter().zip(firsts)).await;
        (plant, outcome)
    }

    /// Goes over to another configuration. The rules are in force at once; what ends has until
    /// then.
    pub(super) async fn change(
        &mut self,
        configuration: &Configuration,
        site: &Site,
        until: &Until,
    ) -> Result<Changed, Unchanged> {
        check(configuration, site)?;
        let (fresh, ways) = self.prepare(configuration, site);
        let shared = &site.shared;
        let mut built = destination::build(
            configuration,
            &*shared.store,
            &shared.dead_letters,
            &ways,
            &site.metrics,
            &site.telemetry,
        )?;

        self.crew.keep_circuits(&mut built);
        let routing = Routing::new(configuration, built.destinations, &site.metrics);
        let routing = routing.limited(configuration, &shared.routing(), &site.metrics);
        let old = shared.replace(routing);
        site.status.configured(configuration);
        let leaving = self.crew.change(built.workers);
        let (changed, next, gone) = self.sort(configuration, fresh);
        self.instances = Box::pin(transition(next, gone, leaving, old, site, until)).await;
        for name in &changed.removed {
            site.metrics.forget_adapter(name);
        }
        Ok(changed)
    }

    /// For each adapter what the routes want of it, a new instance where none can be kept, and how
    /// workers will reach it.
    fn prepare(
        &self,
        configuration: &Configuration,
        site: &Site,
    ) -> (Vec<(Interest, Option<Fresh>)>, Vec<Way>) {
        let adapters = configuration.adapters.iter().enumerate();
        adapters
            .map(|(place, adapter)| {
                let wanted = interest(&configuration.routes, place);
                if let Some(kept) = self.fitting(adapter, &wanted) {
                    return ((wanted, None), kept.way.clone());
                }
                let fresh = Fresh::new(adapter, wanted.clone(), site);
                let way = fresh.way();
                ((wanted, Some(fresh)), way)
            })
            .unzip()
    }

    /// The instance that can stay as it is.
    fn fitting(&self, adapter: &AdapterInstance, interest: &Interest) -> Option<&Instance> {
        let same = |instance: &&Instance| instance.name == adapter.name;
        self.instances.iter().find(same).filter(|instance| instance.fits(adapter, interest))
    }

    /// Sorts the adapters by what is to become of them.
    fn sort(
        &mut self,
        configuration: &Configuration,
        fresh: Vec<(Interest, Option<Fresh>)>,
    ) -> (Changed, Vec<Next>, Vec<Instance>) {
        let mut changed = Changed::default();
        let mut next = Vec::new();
        let mut before: HashMap<_, _> = std::mem::take(&mut self.instances)
            .into_iter()
            .map(|instance| (instance.name.clone(), instance))
            .collect();
        for (adapter, (interest, fresh)) in configuration.adapters.iter().zip(fresh) {
            let name = adapter.name.clone();
            match (before.remove(&name), fresh) {
                (Some(same), None) => {
                    changed.kept.push(name);
                    next.push(Next::Keep(Box::new(same), interest));
                }
                (other, Some(fresh)) => {
                    let list = match &other {
                        Some(_) => &mut changed.restarted,
                        None => &mut changed.started,
                    };
                    list.push(name);
                    let other = other.map(Box::new);
                    next.push(Next::Start(Box::new(fresh), other, adapter.deduplicate.clone()));
                }
                // There is a fresh one wherever none can be kept.
                (None, None) => {}
            }
        }
        let gone: Vec<_> = before.into_values().collect();
        changed.removed = gone.iter().map(|instance| instance.name.clone()).collect();
        changed.removed.sort();
        (changed, next, gone)
    }

    /// Waits until no dispatcher takes messages in any more.
    pub(super) async fn intake_ended(&self) {
        for instance in &self.instances {
            instance.intake.close();
        }
        join_all(self.instances.iter().map(|instance| instance.intake.wait())).await;
    }
}

/// A queue keeps its storage as long as it is open.
fn check(configuration: &Configuration, site: &Site) -> Result<(), Unchanged> {
    let open: HashMap<_, _> =
        (site.storage.depths().into_iter()).map(|(name, kept, _)| (name, kept)).collect();
    for route in &configuration.routes {
        let to_disk = route.queue.storage == Kept::Disk;
        let in_memory = |name: &Text| open.get(name) == Some(&Kept::Memory);
        let found = route.to.iter().find(|to| to_disk && in_memory(&to.destination));
        if let Some(to) = found {
            return Err(Unchanged::InMemory(to.destination.clone()));
        }
    }
    Ok(())
}

/// Ends what is not needed any more and starts what is new; returns the instances of the new
/// configuration.
async fn transition(
    next: Vec<Next>,
    gone: Vec<Instance>,
    leaving: Leaving,
    old: Weak<Routing>,
    site: &Site,
    until: &Until,
) -> Vec<Instance> {
    let ways: Vec<_> = gone
        .into_iter()
        .map(|instance| {
            let workers = leaving.of_instance(instance.way.instance);
            (instance, workers)
        })
        .collect();
    let next: Vec<_> = next
        .into_iter()
        .map(|next| match next {
            Next::Keep(..) | Next::Start(_, None, _) => (next, Vec::new()),
            Next::Start(_, Some(ref before), _) => {
                let workers = leaving.of_instance(before.way.instance);
                (next, workers)
            }
        })
        .collect();
    let ending = ways.into_iter().map(|(instance, workers)| async move {
        if let Some(repeats) = instance.end(workers, until).await {
            drop(repeats.unless_kept(None).await);
        }
    });
    let starting = next.into_iter().map(|(next, workers)| async move {
        match next {
            Next::Keep(mut instance, interest) => {
                instance.update(interest);
                *instance
            }
            Next::Start(fresh, before, deduplicate) => {
                let mut repeats = None;
                if let Some(before) = before
                    && let Some(found) = before.end(workers, until).await
                {
                    repeats = found.unless_kept(deduplicate.as_ref()).await;
                }
                fresh.start(site, repeats).0
            }
        }
    });
    let (instances, _, removed) =
        tokio::join!(join_all(starting), join_all(ending), leaving.end(&old, until));
    let routing = site.shared.routing();
    // One that answers requests now has no worker any more, but is still there.
    for destination in removed.into_iter().filter(|name| routing.destination(name).is_none()) {
        site.metrics.forget_queue(&destination);
        // Who still routes by the old rules may append to it.
        if old.strong_count() == 0 {
            forget(&destination, site).await;
        }
    }
    instances
}

/// A destination is gone. What is left in its queue stays there if it is on disk.
async fn forget(destination: &str, site: &Site) {
    let depths = site.storage.depths();
    let Some((_, kept, depth)) = depths.into_iter().find(|(name, ..)| **name == *destination)
    else {
        return;
    };
    // An empty queue is of no use to anybody; one in memory would be lost with the process anyway,
    // and by being removed gives back to their sources what waits for a confirmation.
    if depth.messages == 0 || kept == Kept::Memory {
        if depth.messages > 0 {
            tracing::warn!(
                %destination,
                messages = depth.messages,
                "Messages in memory were not delivered before their route was removed."
            );
        }
        if let Err(error) = site.shared.store.remove_queue(destination).await {
            tracing::warn!(%destination, %error, "The queue cannot be removed.");
        }
    }
}

/// Waits for the first attempts of listeners and brokers to connect.
async fn first_tries(firsts: impl Iterator<Item = (Text, First)>) -> Result<(), RunError> {
    /// A listener is open well before; a broker may take longer to answer, and is not waited for.
    const FIRST_TRY: Duration = Duration::from_secs(2);
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

/// The parts of the first configuration, of which nothing runs yet.
pub(super) fn fresh(configuration: &Configuration, site: &Site) -> Vec<Fresh> {
    let adapters = configuration.adapters.iter().enumerate();
    adapters
        .map(|(place, adapter)| Fresh::new(adapter, interest(&configuration.routes, place), site))
        .collect()
}
