//! Messages from NATS.
//!
//! Invariants:
//! - Tasks of the adapter read from the client all the time; `receive` only takes from bounded
//!   queues, and settlements are applied by a task of their own.
//! - A core message that finds its queue full is dropped and counted: NATS does not wait. A stream's
//!   messages are asked for only when there is room for them.
//! - A message of a stream is acknowledged when, and only when, its receipt says so; one that is
//!   held for long is reported as in progress.

mod core;
mod ledger;
mod stream;

use std::sync::{Arc, atomic::AtomicUsize};

use async_nats::{Client, jetstream};
use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use transload_adapter::{
    ConnectError, Context, Delivery, Inbound, Receipt, ReceiveError, SettlementSender, Tag,
    settlement_channel,
};
use transload_envelope::Envelope;

#[cfg(feature = "testing")]
pub(crate) use self::core::envelope as core_envelope;
use self::ledger::Ledger;
use crate::{config::NatsConfig, link::Link};

/// The attribute of a message's origin that holds the subject for its answer, as it came in.
pub(crate) const REPLY_ATTRIBUTE: &str = "reply";

/// A message on its way from a reading task to `receive`.
#[derive(Debug)]
struct Arrival {
    tag: Tag,
    envelope: Envelope,
    /// What it takes of the bytes that may wait to be received; nothing if it is small.
    _room: Option<OwnedSemaphorePermit>,
}

/// What all tasks of one connection share.
#[derive(Clone, Debug)]
struct Shared {
    config: Arc<NatsConfig>,
    context: Context,
    client: Client,
    link: Arc<Link>,
    ledger: Arc<Ledger>,
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
    let jetstream = jetstream::new(client.clone());
    let mut consumers = Vec::with_capacity(config.consume.len());
    for consume in &config.consume {
        consumers.push(stream::Puller::new(&shared, &jetstream, consume).await?);
    }
    let core = core::Pump::new(&shared, subscriptions).await?;

    let waiting = Arc::new(AtomicUsize::new(0));
    let (core_sender, core_queue) = mpsc::channel(config.buffer_messages.max(1));
    context.tasks.spawn(core.run(shared.clone(), core_sender, Arc::clone(&waiting)));
    let room = consumers.iter().map(stream::Puller::room).sum::<usize>().max(1);
    let (stream_sender, stream_queue) = mpsc::channel(room);
    for consumer in consumers {
        context.tasks.spawn(consumer.run(shared.clone(), stream_sender.clone()));
    }
    let (settle, settlements) = settlement_channel();
    context.tasks.spawn(ledger::settle(shared.clone(), settlements));
    Ok(Some(Box::new(NatsInbound {
        shared,
        core: core_queue,
        waiting,
        streams: stream_queue,
        settle,
        pending: None,
    })))
}

struct NatsInbound {
    shared: Shared,
    core: mpsc::Receiver<Arrival>,
    /// Bytes of the messages in `core`.
    waiting: Arc<AtomicUsize>,
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
            Some(arrival) = self.core.recv() => {
                core::left(&self.waiting, &arrival);
                Some(arrival)
            }
            Some(arrival) = self.streams.recv() => Some(arrival),
            else => None,
        };
        match arrival {
            Some(arrival) => Ok(arrival),
            None if self.shared.link.is_lost() => {
                Err(ReceiveError::Disconnected(self.shared.link.reason()))
            }
            None => Err(ReceiveError::Ended),
        }
    }

    fn try_next(&mut self) -> Option<Arrival> {
        if let Ok(arrival) = self.core.try_recv() {
            core::left(&self.waiting, &arrival);
            return Some(arrival);
        }
        self.streams.try_recv().ok()
    }

    fn delivery(&self, arrival: Arrival, credit: OwnedSemaphorePermit) -> Delivery {
        Delivery {
            envelope: arrival.envelope,
            receipt: Receipt::new(arrival.tag, credit, self.settle.clone()),
        }
    }
}
