use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::{info, warn};
use transload_adapter::{
    AnyTarget, BoxError, Settlement,
    store::{Leased, Position, Queue, Resolution, StoreError},
};
use transload_envelope::{Outgoing, Text, Timestamp};

use super::{
    Link, Outcome, WorkerSettings, WorkerStop,
    hand::{Dead, InHand, Reaction, Sorted, sort},
    settings::DeliveryObserver,
};
use crate::{
    backoff::Backoff,
    dead_letters::{DeadLetter, DeadLetters},
};

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
}

/// Why a worker does not go on.
struct Stopped;

impl Worker {
    /// Serves the destination until it is stopped. What is in hand then goes back to the queue.
    pub async fn run(mut self) {
        let mut state = State::new(&self.settings);
        while let Some(leased) = self.next_batch(&mut state).await {
            let (hand, outgoing) = self.take_in_hand(leased);
            if self.deliver(hand, outgoing, &mut state).await.is_err() {
                break;
            }
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
                    self.pause(state.backoff.next_wait()).await.ok()?;
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

    fn take_in_hand(&self, leased: Vec<Leased>) -> (Vec<InHand>, Vec<Outgoing>) {
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
        &mut self,
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
            let positions: Vec<_> = hand.iter().map(|message| message.position).collect();
            let Ok((epoch, results)) = self.send(&outgoing).await else {
                self.queue.resolve(&positions, Resolution::Released);
                return Err(Stopped);
            };
            let now = Timestamp::now();
            let sorted = sort(hand, outgoing, results, self.settings.attempts_max, now);
            self.resolve(&sorted);
            let Sorted { again, again_outgoing, dead, reaction, .. } = sorted;
            (hand, outgoing) = (again, again_outgoing);
            let went_on = match self.bury(dead).await {
                Ok(()) => self.react(reaction, epoch, state).await,
                Err(stopped) => Err(stopped),
            };
            if went_on.is_err() {
                let positions: Vec<_> = hand.iter().map(|message| message.position).collect();
                self.queue.resolve(&positions, Resolution::Released);
                return Err(Stopped);
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        outgoing: &[Outgoing],
    ) -> Result<(u64, Vec<Result<transload_adapter::Sent, transload_adapter::SendError>>), Stopped>
    {
        let waits_no_more = self.waits_no_more();
        let (epoch, outbound) = tokio::select! {
            biased;
            connected = self.link.connected() => connected.ok_or(Stopped)?,
            () = waits_no_more => return Err(Stopped),
        };
        let results = tokio::select! {
            biased;
            () = self.stop.abort.cancelled() => return Err(Stopped),
            results = outbound.send(&self.settings.name, &self.target, outgoing) => results,
        };
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
        &mut self,
        reaction: Reaction,
        epoch: u64,
        state: &mut State,
    ) -> Result<(), Stopped> {
        let (wait, reason) = match reaction {
            Reaction::Continue => {
                state.takes_messages(&self.settings.name);
                return Ok(());
            }
            Reaction::Retry { reason } => (state.backoff.next_wait(), reason),
            Reaction::Hold { after, reason } => (state.backoff.next_wait_after(after), reason),
            Reaction::Reconnect { reason } => return self.reconnect(epoch, reason).await,
        };
        state.takes_nothing(&self.settings.name, &reason);
        self.pause(wait).await
    }

    async fn reconnect(&mut self, epoch: u64, reason: BoxError) -> Result<(), Stopped> {
        self.link.report(epoch, reason);
        let waits_no_more = self.waits_no_more();
        tokio::select! {
            biased;
            () = waits_no_more => Err(Stopped),
            () = self.link.gone(epoch) => Ok(()),
        }
    }

    async fn give_up_the_overdue(
        &self,
        hand: Vec<InHand>,
        outgoing: Vec<Outgoing>,
    ) -> Result<(Vec<InHand>, Vec<Outgoing>), Stopped> {
        let Some(expires) = self.settings.expires else { return Ok((hand, outgoing)) };
        let now = Timestamp::now();
        let (mut kept, mut kept_outgoing, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for (message, outgoing) in hand.into_iter().zip(outgoing) {
            if message.stored_at.after(expires) <= now {
                let reason = Text::from("not delivered within the time that the route allows");
                dead.push(Dead { message, outgoing, reason });
            } else {
                kept.push(message);
                kept_outgoing.push(outgoing);
            }
        }
        self.bury(dead).await?;
        Ok((kept, kept_outgoing))
    }

    /// Puts messages among the dead letters, and only then takes them from the queue.
    async fn bury(&self, dead: Vec<Dead>) -> Result<(), Stopped> {
        if dead.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let letters: Vec<_> = dead
            .iter()
            .map(|dead| DeadLetter {
                destination: self.settings.name.clone(),
                reason: dead.reason.clone(),
                attempts: dead.message.attempts,
                first_failure_at: dead.message.first_failure_at.unwrap_or(now),
                last_failure_at: now,
                outgoing: dead.outgoing.clone(),
            })
            .collect();
        let mut backoff = Backoff::new(self.settings.retry_first, self.settings.retry_max);
        while let Err(error) = self.dead_letters.add(&self.settings.route, &letters).await {
            if backoff.failures() == 0 {
                warn!(destination = %self.settings.name, %error, "Dead letters cannot be stored.");
            }
            if self.pause(backoff.next_wait()).await.is_err() {
                self.queue.resolve(&positions(&dead), Resolution::Released);
                return Err(Stopped);
            }
        }
        self.observer.count(Outcome::DeadLettered, dead.len() as u64);
        self.queue.resolve(&positions(&dead), Resolution::Done);
        for dead in dead {
            warn!(
                destination = %self.settings.name,
                id = %dead.outgoing.envelope.id,
                reason = %dead.reason,
                "A message went to the dead letters."
            );
            dead.message.settle(Settlement::Accepted);
        }
        Ok(())
    }

    async fn pause(&self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.waits_no_more() => Err(Stopped),
            () = sleep(wait) => Ok(()),
        }
    }

    /// Fires when it makes no sense to wait for the target any longer: for a queue that survives the
    /// process, as soon as the worker is to finish.
    fn waits_no_more(&self) -> impl Future<Output = ()> + use<> {
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

fn positions(dead: &[Dead]) -> Vec<Position> {
    dead.iter().map(|dead| dead.message.position).collect()
}

/// What the worker knows of its target, for one log line at each change.
struct State {
    backoff: Backoff,
    holding: bool,
}

impl State {
    fn new(settings: &WorkerSettings) -> Self {
        Self { backoff: Backoff::new(settings.retry_first, settings.retry_max), holding: false }
    }

    fn takes_messages(&mut self, destination: &str) {
        self.backoff.reset();
        if std::mem::take(&mut self.holding) {
            info!(%destination, "The destination takes messages again.");
        }
    }

    fn takes_nothing(&mut self, destination: &str, reason: &str) {
        if !std::mem::replace(&mut self.holding, true) {
            warn!(%destination, %reason, "The destination does not take messages, they are held.");
        }
    }

    fn store_failed(&mut self, destination: &str, error: &StoreError) {
        if !std::mem::replace(&mut self.holding, true) {
            warn!(%destination, %error, "The queue of the destination cannot be read.");
        }
    }
}
