//! Sends messages of different keys side by side, those of one key one after the other.
//!
//! Invariants:
//! - The order of one key is kept, also across retries, and no key waits for another one's retry.
//! - At most so many sends are under way as there are lanes; at most half of them, but one, are
//!   attempts to send again what has failed, each alone, so that messages which keep a target busy
//!   and fail cannot take all lanes.
//! - What is in hand is bounded; see `window`.

mod attempt;
mod window;

use std::{future::Future, panic::resume_unwind, pin::Pin, sync::Arc};

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::warn;
use transload_adapter::store::{Leased, Position, Resolution, StoreError};
use transload_envelope::Text;

use self::{
    attempt::{Attempt, Ended, Fate},
    window::{Unit, Window},
};
use super::{LaneSettings, ORDERED_BY, Worker, circuit::Admit};
use crate::backoff::Backoff;

type Lease = Pin<Box<dyn Future<Output = Result<Vec<Leased>, StoreError>> + Send>>;

/// The lanes of one destination.
pub(super) struct Lanes {
    worker: Arc<Worker>,
    window: Window,
    count: usize,
    /// The names of the lanes that have nothing to do.
    free: Vec<Text>,
    attempts: JoinSet<Ended>,
    /// How many of these send again what has failed.
    again: usize,
    lease: Option<Lease>,
    lease_messages_max: usize,
    lease_bytes_max: usize,
    /// When the target may be sent to again.
    closed_until: Option<Instant>,
    /// When the queue may be read again, after it could not be.
    unreadable_until: Option<Instant>,
    store_backoff: Backoff,
    finishing: bool,
    /// Nothing more comes from the queue.
    ended: bool,
}

/// What may happen.
enum Event {
    Abort,
    Finish,
    Ended(Result<Ended, JoinError>),
    Leased(Result<Vec<Leased>, StoreError>),
    Due,
}

impl Lanes {
    pub(super) fn new(worker: Arc<Worker>, settings: &LaneSettings) -> Self {
        let count = settings.lanes.max(1);
        let name = &worker.settings.name;
        // The first lane has the destination's own name, and is taken first.
        let others = (2..=count).rev().map(|number| format!("{name}~{number}").into());
        let backoff = Backoff::new(worker.settings.retry_first, worker.settings.retry_max);
        let batch = settings.batch.as_ref();
        Self {
            window: Window::new(batch, backoff.clone()),
            count,
            free: others.chain([name.clone()]).collect(),
            attempts: JoinSet::new(),
            again: 0,
            lease: None,
            lease_messages_max: batch
                .map_or(0, |batch| batch.messages_max)
                .max(worker.settings.batch_messages_max),
            lease_bytes_max: worker.settings.batch_bytes_max,
            closed_until: None,
            unreadable_until: None,
            store_backoff: backoff,
            finishing: false,
            ended: false,
            worker,
        }
    }

    /// Serves the destination until it is stopped. What is in hand then goes back to the queue.
    pub(super) async fn run(mut self) {
        loop {
            self.window.wake(Instant::now());
            if !self.window.has_room() && !self.window.has_ready() && self.attempts.is_empty() {
                self.window.flush();
            }
            self.begin();
            if self.is_done() {
                break;
            }
            self.look_for_more();
            match self.event().await {
                Event::Abort => break,
                Event::Finish => self.finish(),
                Event::Ended(ended) => self.ended(ended),
                Event::Leased(leased) => self.leased(leased),
                Event::Due => {}
            }
        }
        self.lease = None;
        // They are stopped by the same signals, and give back themselves what they have in hand.
        while let Some(ended) = self.attempts.join_next().await {
            self.ended(ended);
        }
        self.worker.queue.resolve(&self.window.positions(), Resolution::Released);
    }

    async fn event(&mut self) -> Event {
        let due = [self.window.next_due(), self.closed_until, self.unreadable_until];
        let due = due.into_iter().flatten().min();
        let Self { worker, attempts, lease, finishing, .. } = self;
        tokio::select! {
            biased;
            () = worker.stop.abort.cancelled() => Event::Abort,
            // What is on its way comes to its end, as after every stop.
            () = worker.stop.leave.cancelled() => Event::Abort,
            () = worker.stop.finish.cancelled(), if !*finishing => Event::Finish,
            Some(ended) = attempts.join_next() => Event::Ended(ended),
            leased = wait_for(lease) => Event::Leased(leased),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    /// Whether everything that is still to be done has been done.
    fn is_done(&self) -> bool {
        let emptied =
            !self.finishing || !self.worker.settings.empty_before_finish || self.window.is_empty();
        (self.ended || self.finishing)
            && self.attempts.is_empty()
            && self.lease.is_none()
            && emptied
    }

    fn finish(&mut self) {
        self.finishing = true;
        self.window.hurry();
        self.lease = None;
        // A queue that survives the process keeps the rest.
        self.ended |= !self.worker.settings.empty_before_finish;
    }

    /// Begins to lease when there is room for more.
    fn look_for_more(&mut self) {
        let now = Instant::now();
        if self.unreadable_until.is_some_and(|until| until <= now) {
            self.unreadable_until = None;
        }
        let waits = self.lease.is_some() || self.unreadable_until.is_some();
        if waits || self.ended || !self.window.has_room() {
            return;
        }
        let queue = Arc::clone(&self.worker.queue);
        let (messages, bytes) = (self.lease_messages_max, self.lease_bytes_max);
        let finishing = self.finishing;
        self.lease = Some(Box::pin(async move {
            if finishing {
                queue.try_lease(messages, bytes).await
            } else {
                queue.lease(messages, bytes).await
            }
        }));
    }

    fn leased(&mut self, leased: Result<Vec<Leased>, StoreError>) {
        match leased {
            Ok(leased) if leased.is_empty() => self.ended = true,
            Ok(leased) => {
                self.store_backoff.reset();
                let (hand, outgoing) = self.worker.take_in_hand(leased);
                for (message, outgoing) in hand.into_iter().zip(outgoing) {
                    let key = outgoing.arguments.get(ORDERED_BY).cloned().unwrap_or_default();
                    self.window.push(&key, message, outgoing);
                }
            }
            Err(StoreError::Closed) => self.ended = true,
            Err(error) => {
                let destination = &self.worker.settings.name;
                if self.store_backoff.failures() == 0 {
                    warn!(%destination, %error, "The queue of the destination cannot be read.");
                }
                self.unreadable_until = Instant::now().checked_add(self.store_backoff.next_wait());
            }
        }
    }

    /// Sends what may be sent, as long as lanes are free.
    fn begin(&mut self) {
        self.closed_until = None;
        let keeps = self.finishing && !self.worker.settings.empty_before_finish;
        while !keeps && !self.free.is_empty() && self.window.has_ready() {
            match self.worker.circuit.admit() {
                Admit::All => {
                    let again = self.again < (self.count / 2).max(1);
                    if let Some(unit) = again.then(|| self.window.next(true)).flatten() {
                        self.send(vec![unit], false);
                        continue;
                    }
                    let units = self.share();
                    if units.is_empty() {
                        return;
                    }
                    self.send(units, false);
                }
                Admit::Probe => match self.window.next(false).or_else(|| self.window.next(true)) {
                    Some(unit) => self.send(vec![unit], true),
                    None => return self.worker.circuit.undecided(),
                },
                Admit::NotBefore(until) => {
                    self.closed_until = Some(until);
                    return;
                }
                Admit::Probing => return,
            }
        }
    }

    /// The share of one free lane in what may be sent.
    fn share(&mut self) -> Vec<Unit> {
        let settings = &self.worker.settings;
        let count = self.window.ready().div_ceil(self.free.len().max(1));
        let mut units = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        while units.len() < count
            && messages < settings.batch_messages_max
            && bytes < settings.batch_bytes_max
            && let Some(unit) = self.window.next(false)
        {
            messages += unit.members.len();
            bytes += unit.size();
            units.push(unit);
        }
        units
    }

    fn send(&mut self, units: Vec<Unit>, probing: bool) {
        let Some(lane) = self.free.pop() else { return };
        let again = units.iter().any(|unit| unit.failed);
        self.again += usize::from(again);
        let attempt = Attempt { worker: Arc::clone(&self.worker), lane, units, again, probing };
        self.attempts.spawn(attempt.run());
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // Nobody cancels them.
            Err(_) => return,
        };
        self.free.push(ended.lane);
        self.again -= usize::from(ended.again);
        for (unit, fate) in ended.units {
            match fate {
                Fate::Finished => self.window.finished(unit.key),
                Fate::PutBack => self.window.put_back(unit),
                Fate::Retry => self.window.retry(unit),
            }
        }
    }
}

async fn wait_for(lease: &mut Option<Lease>) -> Result<Vec<Leased>, StoreError> {
    match lease {
        Some(future) => {
            let leased = future.await;
            *lease = None;
            leased
        }
        None => std::future::pending().await,
    }
}

/// The positions of a unit.
fn positions(unit: &Unit) -> Vec<Position> {
    unit.members.iter().map(|held| held.message.position).collect()
}
