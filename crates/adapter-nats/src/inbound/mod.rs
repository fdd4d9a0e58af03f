//! Messages from NATS.
//!
//! Invariants:
//! - The connection's task hands over what comes in at once; `receive` only takes from bounded
//!   queues, and settlements are applied by a task of their own.
//! - A core message that finds its queue full is dropped and counted: NATS does not wait. A stream's
//!   messages are asked for only when there is room for them.
//! - A message of a stream is acknowledged when, and only when, its receipt says so; one that is
//!   held for long is reported as in progress.

mod consumer;
mod core;
mod ledger;
mod questions;
mod room;
mod stream;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use transload_adapter::{
    ConnectError, Context, Delivery, Inbound, Receipt, ReceiveError, SettlementSender, Tag,
    settlement_channel,
};
use transload_envelope::Envelope;

#[cfg(feature = "testing")]
pub(crate) use self::core::envelope as core_envelope;
use self::{ledger::Ledger, room::Room};
use crate::{client::Client, config::NatsConfig, link::Link};

/// The attribute of a message's origin that holds the subject for its answer, as it came in.
pub(crate) const REPLY_ATTRIBUTE: &str = "reply";

/// A message on its way from a reading task to `receive`.
#[derive(Debug)]
struct Arrival {
    tag: Tag,
    envelope: Envelope,
    /// What it takes of the room.
    bytes: usize,
    /// Whose room it is.
    place: usize,
}

/// The place of the room of all core messages; those of the consumers follow.
const CORE_PLACE: usize = 0;

/// What all tasks of one connection share.
#[derive(Clone, Debug)]
struct Shared {
    config: Arc<NatsConfig>,
    context: Context,
    client: Client,
    link: Arc<Link>,
    ledger: Arc<Ledger>,
}

impl Shared {
    /// The connection has ended while it was being set up.
    fn lost(&self) -> ConnectError {
        ConnectError::Refused { reason: self.link.reason().to_string().into() }
    }
}

/// Subscribes and consumes as the settings and the routes say; `None` when nothing is wanted.
pub(crate) async fn open(
    config: &Arc<NatsConfig>,
    context: &Context,
    client: &Client,
    link: &Arc<Link>,
) -> Result<Option<Box<dyn Inbound>>, ConnectError> {
    let subscriptions = core::wanted(config, context);
    if subscriptions.is_empty() && config.consume.is_empty() {
        return Ok(None);
    }
    let shared = Shared {
        config: Arc::clone(config),
        context: context.clone(),
        client: client.clone(),
        link: Arc::clone(link),
        ledger: Arc::default(),
    };
    // Everything that can be refused comes before anything is spawned.
    let mut consumers = Vec::with_capacity(config.consume.len());
    for consume in &config.consume {
        consumers.push(consumer::find(&shared, consume).await?);
    }
    let mut rooms = vec![Arc::<Room>::default()];
    let (core_sender, core_queue) = mpsc::channel(config.buffer_messages.max(1));
    let (stream_sender, stream_queue) = mpsc::channel(stream::room_of(&consumers));
    for consumer in consumers {
        let room = Arc::<Room>::default();
        stream::open(&shared, consumer, stream_sender.clone(), &room, rooms.len()).await?;
        rooms.push(room);
    }
    if let Some(room) = rooms.first() {
        core::open(&shared, subscriptions, core_sender, room).await?;
    }
    let (settle, settlements) = settlement_channel();
    context.tasks.spawn(ledger::settle(shared.clone(), settlements));
    Ok(Some(Box::new(NatsInbound {
        shared,
        core: core_queue,
        rooms,
        streams: stream_queue,
        settle,
        pending: None,
    })))
}

struct NatsInbound {
    shared: Shared,
    core: mpsc::Receiver<Arrival>,
    /// What waits in the queues, by the places of the arrivals.
    rooms: Vec<Arc<Room>>,
    streams: mpsc::Receiver<Arrival>,
    settle: SettlementSender,
    /// Taken from a queue and waiting for a credit, so that a dropped `receive` loses nothing.
    pending: Option<Arrival>,
}

#[async_trait]
impl Inbound for NatsInbound {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        if self.pending.is_none() {
            self.pending = Some(self.next().await?);
        }
        // Not bound to the stop signal: what has been read is still handed over.
        let credits = Arc::clone(&self.shared.context.credits);
        let credit = credits.acquire_owned().await.map_err(|_| ReceiveError::Ended)?;
        let mut count = 0;
        if let Some(arrival) = self.pending.take() {
            into.push(self.delivery(arrival, credit));
            count += 1;
        }
        while count < limit {
            let Some(credit) = self.shared.context.try_credit() else { break };
            let Some(arrival) = self.try_next() else { break };
            into.push(self.delivery(arrival, credit));
            count += 1;
        }
        Ok(count)
    }
}

impl NatsInbound {
    /// Waits for a message. Cancel-safe.
    async fn next(&mut self) -> Result<Arrival, ReceiveError> {
        let arrival = tokio::select! {
            Some(arrival) = self.core.recv() => Some(arrival),
            Some(arrival) = self.streams.recv() => Some(arrival),
            else => None,
        };
        match arrival {
            Some(arrival) => Ok(self.left(arrival)),
            None if self.shared.link.is_lost() => {
                Err(ReceiveError::Disconnected(self.shared.link.reason()))
            }
            None => Err(ReceiveError::Ended),
        }
    }

    fn try_next(&mut self) -> Option<Arrival> {
        let arrival = self.core.try_recv().or_else(|_| self.streams.try_recv()).ok()?;
        Some(self.left(arrival))
    }

    fn left(&self, arrival: Arrival) -> Arrival {
        if let Some(room) = self.rooms.get(arrival.place) {
            room.leave(arrival.bytes);
        }
        arrival
    }

    fn delivery(&self, arrival: Arrival, credit: OwnedSemaphorePermit) -> Delivery {
        Delivery {
            envelope: arrival.envelope,
            receipt: Receipt::new(arrival.tag, credit, self.settle.clone()),
        }
    }
}
