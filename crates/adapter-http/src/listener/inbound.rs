//! From a request to the gateway and back.
//!
//! Invariants:
//! - A message handed over holds a credit and its share of the buffered bytes until it is settled,
//!   whether or not its sender still waits.
//! - Input ends when every request that began before the stop has handed over its message.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
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
    pub(super) fn open(context: &Context) -> (Self, mpsc::Receiver<Delivery>) {
        let (deliveries, receiver) = mpsc::channel(DELIVERIES_MAX);
        let (settle, settlements) = settlement_channel();
        let unsettled = Arc::new(Unsettled::default());
        context.tasks.spawn(apply_settlements(settlements, Arc::clone(&unsettled)));
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
    ) -> oneshot::Receiver<Settlement> {
        let (verdict, waiting) = oneshot::channel();
        let tag = self.unsettled.add(Waiting { verdict, _buffered: buffered });
        place.send(Delivery { envelope, receipt: Receipt::new(tag, credit, self.settle.clone()) });
        waiting
    }
}

#[derive(Debug)]
struct Waiting {
    verdict: oneshot::Sender<Settlement>,
    _buffered: OwnedSemaphorePermit,
}

/// The requests whose messages the gateway has.
#[derive(Debug, Default)]
struct Unsettled(Mutex<Slab<Waiting>>);

impl Unsettled {
    fn add(&self, waiting: Waiting) -> Tag {
        let mut slab = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Tag(slab.insert(waiting) as u64)
    }

    fn settle(&self, settled: &mut Settled) {
        let mut slab = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = usize::try_from(settled.tag.0).ok().and_then(|key| slab.try_remove(key));
        drop(slab);
        if let Some(waiting) = waiting {
            let settlement = mem::replace(&mut settled.settlement, Settlement::Accepted);
            // The sender may be gone; then nobody is left to be told.
            drop(waiting.verdict.send(settlement));
        }
    }
}

async fn apply_settlements(mut queue: SettlementQueue, unsettled: Arc<Unsettled>) {
    let mut run = Vec::with_capacity(RUN_MAX);
    while queue.recv_many(&mut run, RUN_MAX).await > 0 {
        for mut settled in run.drain(..) {
            unsettled.settle(&mut settled);
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
