use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, sleep_until};
use tracing::{info, warn};
use transload_adapter::{
    AnyTarget, BoxError, SendError, Sent, Settlement,
    store::{Leased, Queue, Resolution, StoreError},
};
use transload_envelope::{Outgoing, Timestamp};

use super::{
    Circuit, Link, Outcome, WorkerSettings, WorkerStop,
    circuit::Admit,
    hand::{InHand, Reaction, Sorted, sort},
    lanes::Lanes,
    settings::{DeliveryObserver, Sending},
};
use crate::{backoff::Backoff, dead_letters::DeadLetters};

/// The worker of one destination.
#[derive(Debug)]
pub struct Worker {
    /// How the destination is served.
    pub settings: WorkerSettings,
    /// What waits for it.
    pub queue: Arc<dyn Queue>,
    /// Its settings, as its adapter knows them.
    pub target: AnyTarget,
    /// The connection of its adapter.
    pub link: Link,
    /// Where messages go that cannot be delivered.
    pub dead_letters: DeadLetters,
    /// Counts what becomes of messages.
    pub observer: Arc<dyn DeliveryObserver>,
    /// How it is stopped.
    pub stop: WorkerStop,
    /// Keeps a target that takes nothing from being sent to all the time.
    pub circuit: Circuit,
}

/// Why a worker does not go on.
#[derive(Debug)]
pub(super) struct Stopped;

impl Worker {
    /// Serves the destination until it is stopped. What is in hand then goes back to the queue.
    pub fn run(self) -> impl Future<Output = ()> + Send + use<> {
        let worker = Box::new(self);
        async move {
            if let Some(lanes) = worker.settings.lanes.clone() {
                return Box::pin(Lanes::new(Arc::new(*worker), &lanes).run()).await;
            }
            let mut state = State::new(&worker.settings);
            // Of very many workers most may wait for their first message for good, and to deliver
            // takes much more room than to wait.
            if let Some(first) = worker.next_batch(&mut state).await {
                Box::pin(worker.serve(first, state)).await;
            }
        }
    }

    async fn serve(&self, first: Vec<Leased>, mut state: State) {
        let mut next = Some(first);
        while let Some(leased) = next {
            let (hand, outgoing) = self.take_in_hand(leased);
            if self.deliver(hand, outgoing, &mut state).await.is_err() {
                break;
            }
            next = self.next_batch(&mut state).await;
        }
    }

    /// Waits for messages; `None` when the worker is to stop.
    async fn next_batch(&self, state: &mut State) -> Option<Vec<Leased>> {
        loop {
            let leased = tokio::select! {
                biased;
                () = self.stop.abort.cancelled() => return None,
                () = self.stop.leave.cancelled() => return None,
                () = self.stop.finish.cancelled() => self.last_batch().await,
                leased = self.lease() => leased,
            };
            match leased {
                Ok(leased) if leased.is_empty() => return None,
                Ok(leased) => return Some(leased),
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    state.store_failed(&self.settings.name, &error);
                    Box::pin(self.pause(state.backoff.next_wait())).await.ok()?;
                }
            }
        }
    }

    async fn lease(&self) -> Result<Vec<Leased>, StoreError> {
        self.queue.lease(self.settings.batch_messages_max, self.settings.batch_bytes_max).await
    }

    /// What is still to be delivered before the worker finishes; nothing for a queue that survives
    /// the process.
    async fn last_batch(&self) -> Result<Vec<Leased>, StoreError> {
        if !self.settings.empty_before_finish {
            return Ok(Vec::new());
        }
        self.queue.try_lease(self.settings.batch_messages_max, self.settings.batch_bytes_max).await
    }

    pub(super) fn take_in_hand(&self, leased: Vec<Leased>) -> (Vec<InHand>, Vec<Outgoing>) {
        let now = Timestamp::now();
        let mut expired = Vec::new();
        let mut in_hand = Vec::with_capacity(leased.len());
        let mut outgoing = Vec::with_capacity(leased.len());
        for message in leased {
            if message.outgoing.envelope.properties().expired(now) {
                expired.push(message.position);
                if let Some(share) = message.share {
                    share.settle(Settlement::Accepted);
                }
                continue;
            }
            in_hand.push(InHand {
                position: message.position,
                attempts: message.attempts,
                stored_at: message.stored_at,
                first_failure_at: None,
                share: message.share,
            });
            outgoing.push(message.outgoing);
        }
        if !expired.is_empty() {
            self.observer.count(Outcome::Expired, expired.len() as u64);
            self.queue.resolve(&expired, Resolution::Done);
        }
        (in_hand, outgoing)
    }

    /// Sends a batch until all of it is delivered or given up.
    async fn deliver(
        &self,
        mut hand: Vec<InHand>,
        mut outgoing: Vec<Outgoing>,
        state: &mut State,
    ) -> Result<(), Stopped> {
        while !hand.is_empty() {
            let positions: Vec<_> = hand.iter().map(|message| message.position).collect();
            let Ok(kept) = self.give_up_the_overdue(hand, outgoing).await else {
                self.queue.resolve(&positions, Resolution::Released);
                return Err(Stopped);
            };
            (hand, outgoing) = kept;
            if hand.is_empty() {
                return Ok(());
            }
            let release = |hand: &[InHand]| {
                let positions: Vec<_> = hand.iter().map(|message| message.position).collect();
                self.queue.resolve(&positions, Resolution::Released);
            };
            let Ok(probing) = self.admitted().await else {
                release(&hand);
                return Err(Stopped);
            };
            // The rest waits until the target has shown that it takes one.
            let count = if probing { 1 } else { hand.len() };
            let (rest, rest_outgoing) = (hand.split_off(count), outgoing.split_off(count));
            let Ok((epoch, results)) = self.send(&self.settings.name, &outgoing).await else {
                self.circuit.undecided();
                release(&hand);
                release(&rest);
                return Err(Stopped);
            };
            let now = Timestamp::now();
            let sorted = sort(hand, outgoing, results, self.settings.attempts_max, now);
            self.resolve(&sorted);
            self.judge(&sorted);
            let Sorted { again, again_outgoing, dead, reaction, .. } = sorted;
            (hand, outgoing) = (again, again_outgoing);
            hand.extend(rest);
            outgoing.extend(rest_outgoing);
            let went_on = match self.bury(dead).await {
                Ok(()) => self.react(reaction, epoch, state).await,
                Err(stopped) => Err(stopped),
            };
            if went_on.is_err() {
                release(&hand);
                return Err(Stopped);
            }
        }
        Ok(())
    }

    /// Waits until something may be sent; says whether that is one message only.
    async fn admitted(&self) -> Result<bool, Stopped> {
        loop {
            match self.circuit.admit() {
                Admit::All => return Ok(false),
                // Nobody else sends to this target, so a probe without an end is forgotten.
                Admit::Probe | Admit::Probing => return Ok(true),
                Admit::NotBefore(until) => tokio::select! {
                    biased;
                    () = self.waits_no_more() => return Err(Stopped),
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// Tells the circuit what became of a batch.
    fn judge(&self, sorted: &Sorted) {
        match &sorted.reaction {
            Reaction::Hold { after, reason } => self.circuit.refused(*after, reason.clone()),
            _ if sorted.delivered > 0 || !sorted.dead.is_empty() => self.circuit.taken(),
            Reaction::Retry { reason } => {
                for (position, _) in &sorted.failed {
                    self.circuit.failed(*position, reason.clone());
                }
            }
            Reaction::Reconnect { .. } => self.circuit.undecided(),
            Reaction::Continue => {}
        }
    }

    /// Sends under this name, over the connection that there is.
    pub(super) async fn send(
        &self,
        name: &str,
        outgoing: &[Outgoing],
    ) -> Result<(u64, Vec<Result<Sent, SendError>>), Stopped> {
        let mut link = self.link.clone();
        let waits_no_more = self.waits_no_more();
        let (epoch, outbound) = tokio::select! {
            biased;
            connected = link.connected() => connected.ok_or(Stopped)?,
            () = waits_no_more => return Err(Stopped),
        };
        let watched = self.observer.sending(outgoing);
        let outgoing = watched.as_deref().map_or(outgoing, Sending::batch);
        let results = tokio::select! {
            biased;
            () = self.stop.abort.cancelled() => return Err(Stopped),
            results = outbound.send(name, &self.target, outgoing) => results,
        };
        if let Some(watched) = watched {
            watched.ended(&results);
        }
        Ok((epoch, results))
    }

    fn resolve(&self, sorted: &Sorted) {
        if !sorted.done.is_empty() {
            self.queue.resolve(&sorted.done, Resolution::Done);
            self.observer.count(Outcome::Delivered, sorted.delivered);
        }
        if sorted.no_receiver > 0 {
            self.observer.count(Outcome::NoReceiver, sorted.no_receiver);
        }
        for (position, attempts) in &sorted.failed {
            self.queue.resolve(&[*position], Resolution::Failed { attempts: *attempts });
        }
        if !sorted.again.is_empty() {
            self.observer.count(Outcome::Retried, sorted.again.len() as u64);
        }
    }

    /// Does what the state of the target asks for before the next attempt.
    async fn react(
        &self,
        reaction: Reaction,
        epoch: u64,
        state: &mut State,
    ) -> Result<(), Stopped> {
        match reaction {
            Reaction::Continue => state.takes_messages(&self.settings.name),
            Reaction::Retry { reason } => {
                state.failed(&self.settings.name, &reason);
                self.pause(state.backoff.next_wait()).await?;
            }
            // The circuit says for how long.
            Reaction::Hold { .. } => {}
            Reaction::Reconnect { reason } => self.reconnect(epoch, reason).await?,
        }
        Ok(())
    }

    /// Reports the loss of a connection, and waits until it is not used any more.
    pub(super) async fn reconnect(&self, epoch: u64, reason: BoxError) -> Result<(), Stopped> {
        let mut link = self.link.clone();
        link.report(epoch, reason);
        let waits_no_more = self.waits_no_more();
        tokio::select! {
            biased;
            () = waits_no_more => Err(Stopped),
            () = link.gone(epoch) => Ok(()),
        }
    }

    pub(super) async fn pause(&self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.waits_no_more() => Err(Stopped),
            () = sleep(wait) => Ok(()),
        }
    }

    /// Fires when it makes no sense to wait for the target any longer: for a queue that survives the
    /// process, as soon as the worker is to finish.
    pub(super) fn waits_no_more(&self) -> impl Future<Output = ()> + use<> {
        let stop = self.stop.clone();
        let waits_on = self.settings.empty_before_finish;
        async move {
            tokio::select! {
                () = stop.abort.cancelled() => {}
                () = stop.leave.cancelled() => {}
                () = stop.finish.cancelled(), if !waits_on => {}
            }
        }
    }
}

/// What the worker knows of its messages, for one log line at each change.
struct State {
    backoff: Backoff,
    failing: bool,
}

impl State {
    fn new(settings: &WorkerSettings) -> Self {
        Self { backoff: Backoff::new(settings.retry_first, settings.retry_max), failing: false }
    }

    fn takes_messages(&mut self, destination: &str) {
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            info!(%destination, "Messages are delivered again.");
        }
    }

    fn failed(&mut self, destination: &str, reason: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%destination, %reason, "A message failed and is tried again, others wait.");
        }
    }

    fn store_failed(&mut self, destination: &str, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%destination, %error, "The queue of the destination cannot be read.");
        }
    }
}
