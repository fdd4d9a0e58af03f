//! Tells the broker what became of the deliveries of one channel.
//!
//! Invariants:
//! - Settlements are applied whether or not anybody receives, in as few frames as order allows.
//! - A delivery that is to come again later is held here until then; its credit is held with it.
//! - After the channel has ended nothing is sent: its tags died with it, and the broker delivers
//!   again whatever it had not heard of.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amq_protocol::{
    protocol::{
        AMQPClass,
        basic::{AMQPMethod, Cancel},
    },
    types::ShortString,
};
use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use transload_adapter::{Settled, Settlement, SettlementQueue};

use crate::{
    client::{Channel, Client, Result, put_ack, put_nack},
    unacked::Unacked,
};

/// How many settlements are applied at once.
const RUN_MAX: usize = 1024;
/// How many accepted deliveries may wait for an open one before them, so that one frame serves all.
const SCATTERED_MAX: usize = 256;
/// How long they may wait.
const SCATTERED_WAIT: Duration = Duration::from_millis(20);
/// The longest delay of a delivery that is to come again. RabbitMQ closes the channel of a consumer
/// that keeps a delivery for half an hour.
const DELAY_MAX: Duration = Duration::from_mins(5);

/// The deliveries of one channel, shared with whoever hands them over.
pub(crate) type SharedUnacked = Arc<Mutex<Unacked>>;

/// The settling side of one consumer.
pub(crate) struct Settler {
    pub(crate) client: Client,
    pub(crate) channel: Arc<Channel>,
    pub(crate) consumer_tag: ShortString,
    pub(crate) queue: SettlementQueue,
    pub(crate) unacked: SharedUnacked,
    /// Fires when nothing new is to come in.
    pub(crate) stop: CancellationToken,
    /// Fires when the receiving side is dropped.
    pub(crate) abandoned: CancellationToken,
}

enum Wake {
    Run,
    Due,
    Stop,
    End,
}

/// Deliveries that are to come again, by when.
type Held = BTreeMap<(Instant, u64), Settled>;

impl Settler {
    /// Runs until everything that was handed over is settled and nothing more can come, or until
    /// the channel ends.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            debug!(consumer_tag = %self.consumer_tag, %error, "the settling of a channel ends");
        }
    }

    async fn serve(&mut self) -> Result<()> {
        let mut run = Vec::new();
        // Keeps the credits of what the broker does not know of yet.
        let mut applied = Vec::new();
        let mut held = Held::new();
        let mut flush_at = None;
        let mut stopping = false;
        loop {
            match self.wake(&mut run, &held, flush_at, stopping).await {
                Wake::Run => self.apply(&mut run, &mut applied, &mut held, stopping).await?,
                Wake::Due => self.release_due(&mut held, Instant::now()).await?,
                Wake::Stop => {
                    stopping = true;
                    self.cancel().await?;
                    self.release_all(&mut held).await?;
                }
                Wake::End => {
                    self.release_all(&mut held).await?;
                    return self.acknowledge(true).await;
                }
            }
            let overdue = flush_at.is_some_and(|at| at <= Instant::now());
            self.acknowledge(overdue || stopping).await?;
            let waiting = self.with_unacked(|unacked| unacked.accepted()) > 0;
            if !waiting {
                applied.clear();
            }
            let later = || flush_at.unwrap_or_else(|| Instant::now() + SCATTERED_WAIT);
            flush_at = (waiting && !overdue).then(later);
            if stopping && held.is_empty() && self.with_unacked(|unacked| unacked.is_empty()) {
                return Ok(());
            }
        }
    }

    async fn wake(
        &mut self,
        run: &mut Vec<Settled>,
        held: &Held,
        flush_at: Option<Instant>,
        stopping: bool,
    ) -> Wake {
        let release_at = held.first_key_value().map(|((at, _), _)| *at);
        let due = [release_at, flush_at].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = self.stop.cancelled(), if !stopping => Wake::Stop,
            taken = self.queue.recv_many(run, RUN_MAX) => match taken {
                0 => Wake::End,
                _ => Wake::Run,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wake::Due,
            // Whoever stops in order drops the receiving side while settlements are still to come.
            () = self.abandoned.cancelled(), if !stopping => Wake::End,
        }
    }

    async fn apply(
        &mut self,
        run: &mut Vec<Settled>,
        applied: &mut Vec<Settled>,
        held: &mut Held,
        stopping: bool,
    ) -> Result<()> {
        for settled in run.drain(..) {
            let tag = settled.tag.0;
            match settled.settlement {
                Settlement::Accepted | Settlement::Unrouted | Settlement::Replied(_) => {
                    self.with_unacked(|unacked| unacked.accept(tag));
                    applied.push(settled);
                }
                Settlement::Rejected { .. } => self.give_back(tag, false).await?,
                Settlement::Released { after } if stopping || after.is_zero() => {
                    self.give_back(tag, true).await?;
                }
                Settlement::Released { after } => {
                    held.insert((Instant::now() + after.min(DELAY_MAX), tag), settled);
                }
            }
        }
        Ok(())
    }

    async fn release_due(&mut self, held: &mut Held, now: Instant) -> Result<()> {
        while let Some(entry) = held.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, tag), _settled) = entry.remove_entry();
            self.give_back(tag, true).await?;
        }
        Ok(())
    }

    async fn release_all(&mut self, held: &mut Held) -> Result<()> {
        for ((_, tag), _settled) in mem::take(held) {
            self.give_back(tag, true).await?;
        }
        Ok(())
    }

    /// Without `requeue` the queue's dead-letter exchange gets the message, if the queue has one.
    async fn give_back(&self, tag: u64, requeue: bool) -> Result<()> {
        self.with_unacked(|unacked| unacked.remove(tag));
        let mut frame = BytesMut::new();
        put_nack(&mut frame, self.channel.number(), tag, requeue);
        self.client.write(&self.channel, frame.freeze()).await
    }

    async fn acknowledge(&self, everything: bool) -> Result<()> {
        let (prefix, scattered) = self.with_unacked(|unacked| {
            let prefix = unacked.take_prefix();
            let now = everything || unacked.accepted() > SCATTERED_MAX;
            (prefix, if now { unacked.take_scattered() } else { Vec::new() })
        });
        let mut frames = BytesMut::new();
        for (tag, multiple) in prefix
            .map(|tag| (tag, true))
            .into_iter()
            .chain(scattered.into_iter().map(|tag| (tag, false)))
        {
            put_ack(&mut frames, self.channel.number(), tag, multiple);
        }
        if frames.is_empty() {
            return Ok(());
        }
        self.client.write(&self.channel, frames.freeze()).await
    }

    /// Asks for no answer: it could come behind messages that nobody receives any more.
    async fn cancel(&self) -> Result<()> {
        let consumer_tag = self.consumer_tag.clone();
        let cancel = AMQPMethod::Cancel(Cancel { consumer_tag, nowait: true });
        self.client.send(&self.channel, AMQPClass::Basic(cancel)).await
    }

    fn with_unacked<T>(&self, look: impl FnOnce(&mut Unacked) -> T) -> T {
        look(&mut self.unacked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
