//! From a request to the gateway and back.
//!
//! Invariants:
//! - A message handed over holds a credit and its share of the buffered bytes until it is settled,
//!   whether or not its sender still waits.
//! - A request whose message is not settled in time is told so: soon after the time, and before an
//!   eighth more of it has passed.
//! - Input ends when every request that began before the stop has handed over its message.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use slab::Slab;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::DropGuard;
use transload_adapter::{
    Context, Delivery, Inbound, Receipt, ReceiveError, Settled, Settlement, SettlementQueue,
    SettlementSender, Tag, settlement_channel,
};
use transload_envelope::Envelope;

/// Deliveries between the requests and the gateway; the credits are the real bound.
const DELIVERIES_MAX: usize = 256;
/// Settlements that are applied in one run.
const RUN_MAX: usize = 256;
/// How many turns of the clock a request waits. One clock for all costs less than one for each.
const TURNS: u32 = 8;

/// The requests' end: what a request needs to hand over its message.
#[derive(Debug)]
pub(super) struct Intake {
    deliveries: mpsc::Sender<Delivery>,
    settle: SettlementSender,
    unsettled: Arc<Unsettled>,
    credits: Arc<Semaphore>,
}

/// Room for one message on its way to the gateway.
#[derive(Debug)]
pub(super) struct Place<'a>(mpsc::Permit<'a, Delivery>);

/// The gateway takes nothing more.
#[derive(Debug)]
pub(super) struct Closed;

impl Intake {
    pub(super) fn open(
        context: &Context,
        response_timeout: Duration,
    ) -> (Self, mpsc::Receiver<Delivery>) {
        let (deliveries, receiver) = mpsc::channel(DELIVERIES_MAX);
        let (settle, settlements) = settlement_channel();
        let unsettled = Arc::new(Unsettled::default());
        let turn = (response_timeout / TURNS).max(Duration::from_millis(1));
        context.tasks.spawn(apply_settlements(settlements, Arc::clone(&unsettled), turn));
        let credits = Arc::clone(&context.credits);
        (Self { deliveries, settle, unsettled, credits }, receiver)
    }

    /// A credit, if there is one without waiting.
    pub(super) fn credit_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.credits).try_acquire_owned().ok()
    }

    /// Waits for a credit. Cancel-safe.
    pub(super) async fn credit(&self) -> Result<OwnedSemaphorePermit, Closed> {
        Arc::clone(&self.credits).acquire_owned().await.map_err(|_| Closed)
    }

    /// Room for one message on its way to the gateway, if there is some without waiting.
    pub(super) fn place_now(&self) -> Option<Place<'_>> {
        self.deliveries.try_reserve().ok().map(Place)
    }

    /// Waits for room. Cancel-safe.
    pub(super) async fn place(&self) -> Result<Place<'_>, Closed> {
        self.deliveries.reserve().await.map(Place).map_err(|_| Closed)
    }

    /// When a request that begins now is late.
    pub(super) fn deadline(&self) -> Deadline {
        // The present turn has begun already, and does not count.
        Deadline(self.unsettled.turn.load(Ordering::Relaxed) + u64::from(TURNS) + 1)
    }

    /// Hands a message over; the verdict comes through what is returned.
    pub(super) fn hand_over(
        &self,
        Place(place): Place<'_>,
        envelope: Envelope,
        buffered: OwnedSemaphorePermit,
        credit: OwnedSemaphorePermit,
        deadline: Deadline,
    ) -> oneshot::Receiver<Verdict> {
        let (verdict, waiting) = oneshot::channel();
        let verdict = Some(verdict);
        let tag = self.unsettled.add(Waiting { verdict, deadline, _buffered: buffered });
        place.send(Delivery { envelope, receipt: Receipt::new(tag, credit, self.settle.clone()) });
        waiting
    }
}

/// What a request is told of its message.
#[derive(Debug)]
pub(super) enum Verdict {
    Settled(Settlement),
    /// It was not settled in time, and may still be.
    Late,
}

/// The turn of the clock at which a request is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline(u64);

#[derive(Debug)]
struct Waiting {
    /// None when the request has been told that it is late.
    verdict: Option<oneshot::Sender<Verdict>>,
    deadline: Deadline,
    _buffered: OwnedSemaphorePermit,
}

/// The requests whose messages the gateway has.
#[derive(Debug, Default)]
struct Unsettled {
    waiting: Mutex<Slab<Waiting>>,
    /// How often the clock has turned.
    turn: AtomicU64,
}

impl Unsettled {
    fn lock(&self) -> MutexGuard<'_, Slab<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, waiting: Waiting) -> Tag {
        Tag(self.lock().insert(waiting) as u64)
    }

    fn settle(&self, settled: &mut Settled) {
        let key = usize::try_from(settled.tag.0).ok();
        let waiting = key.and_then(|key| self.lock().try_remove(key));
        if let Some(verdict) = waiting.and_then(|waiting| waiting.verdict) {
            let settlement = mem::replace(&mut settled.settlement, Settlement::Accepted);
            // The sender may be gone; then nobody is left to be told.
            drop(verdict.send(Verdict::Settled(settlement)));
        }
    }

    /// Turns the clock, and tells those that are late.
    fn turn(&self) {
        let now = Deadline(self.turn.fetch_add(1, Ordering::Relaxed) + 1);
        for (_, waiting) in &mut *self.lock() {
            if waiting.deadline <= now
                && let Some(verdict) = waiting.verdict.take()
            {
                drop(verdict.send(Verdict::Late));
            }
        }
    }
}

async fn apply_settlements(mut queue: SettlementQueue, unsettled: Arc<Unsettled>, turn: Duration) {
    let mut run = Vec::with_capacity(RUN_MAX);
    let mut clock = interval(turn);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            settled = queue.recv_many(&mut run, RUN_MAX) => {
                if settled == 0 {
                    return;
                }
                for mut settled in run.drain(..) {
                    unsettled.settle(&mut settled);
                }
            }
            _ = clock.tick() => unsettled.turn(),
        }
    }
}

/// The gateway's end.
pub(super) struct HttpInbound {
    deliveries: mpsc::Receiver<Delivery>,
    _open: Arc<DropGuard>,
}

impl HttpInbound {
    pub(super) fn new(deliveries: mpsc::Receiver<Delivery>, open: Arc<DropGuard>) -> Self {
        Self { deliveries, _open: open }
    }
}

#[async_trait]
impl Inbound for HttpInbound {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        match self.deliveries.recv_many(into, limit).await {
            0 if limit > 0 => Err(ReceiveError::Ended),
            received => Ok(received),
        }
    }
}
