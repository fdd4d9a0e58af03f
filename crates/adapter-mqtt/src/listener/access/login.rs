use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use transload_envelope::Text;

use super::users::Users;

/// How long a login may wait for its check before the client is told to come back.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proved,
    Wrong,
    /// As many wait as may.
    Busy,
}

/// Checks passwords, a few at a time, away from the threads that serve devices.
#[derive(Debug)]
pub(super) struct Logins {
    checking: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
    tasks: TaskTracker,
}

/// A place among those that wait.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Logins {
    pub(super) fn new(waiting_max: usize, tasks: TaskTracker) -> Self {
        // Half of the machine at most: the other half is for those that are let in already.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            checking: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Arc::default(),
            waiting_max,
            tasks,
        }
    }

    /// Checks a password. One that was found right before is right at once.
    pub(super) async fn check(&self, users: Arc<Users>, name: &Text, password: Bytes) -> Verdict {
        if users.remembers(name, &password) {
            return Verdict::Proved;
        }
        let Some(_place) = self.place() else { return Verdict::Busy };
        let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.checking).acquire_owned());
        let Ok(Ok(permit)) = permit.await else { return Verdict::Busy };
        let name = name.clone();
        let checked = self.tasks.spawn_blocking(move || {
            let right = users.verify(&name, &password);
            drop(permit);
            right
        });
        match checked.await {
            Ok(true) => Verdict::Proved,
            Ok(false) | Err(_) => Verdict::Wrong,
        }
    }

    fn place(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.waiting));
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.waiting_max).then_some(place)
    }
}
