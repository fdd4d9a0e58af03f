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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

    /// Hands a message over; the verdict comes through what is returned.
    pub(super) fn hand_over(
        &self,
        Place(place): Place<'_>,
        envelope: Envelope,
        buffered: OwnedSemaphorePermit,
        credit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Verdict> {
        let (verdict, waiting) = oneshot::channel();
        let tag = self.unsettled.add(verdict, buffered);
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

#[derive(Debug)]
struct Waiting {
    /// None when the request has been told that it is late.
    verdict: Option<oneshot::Sender<Verdict>>,
    /// The turn at which it is late.
    late_at: u64,
    _buffered: OwnedSemaphorePermit,
}

/// The requests whose messages the gateway has.
#[derive(Debug, Default)]
struct Unsettled(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    waiting: Slab<Waiting>,
    /// How often the clock has turned.
    turn: u64,
}

impl Unsettled {
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, verdict: oneshot::Sender<Verdict>, buffered: OwnedSemaphorePermit) -> Tag {
        let mut requests = self.lock();
        // The present turn has begun already, and does not count.
        let late_at = requests.turn + u64::from(TURNS) + 1;
        let waiting = Waiting { verdict: Some(verdict), late_at, _buffered: buffered };
        Tag(requests.waiting.insert(waiting) as u64)
    }

    fn settle(&self, settled: &mut Settled) {
        let key = usize::try_from(settled.tag.0).ok();
        let waiting = key.and_then(|key| self.lock().waiting.try_remove(key));
        if let Some(verdict) = waiting.and_then(|waiting| waiting.verdict) {
            let settlement = mem::replace(&mut settled.settlement, Settlement::Accepted);
            // The sender may be gone; then nobody is left to be told.
            drop(verdict.send(Verdict::Settled(settlement)));
        }
    }

    /// Turns the clock, and tells those that are late.
    fn turn(&self) {
        let mut requests = self.lock();
        requests.turn += 1;
        let turn = requests.turn;
        for (_, waiting) in &mut requests.waiting {
            if waiting.late_at <= turn
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
