//! One call of the adapter for some units, and the sorting of what became of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tracing::warn;
use transload_adapter::{
    BoxError, SendError, Sent, Settlement,
    store::{Position, Resolution, StoreError},
};
use transload_envelope::{Outgoing, Text, Timestamp};

use super::{
    positions,
    window::{Held, Unit},
};
use crate::{
    backoff::Backoff,
    worker::{
        BatchFormat, Outcome, Worker,
        combine::{combine, fits},
        hand::Dead,
        run::Stopped,
    },
};

/// One call of the adapter, with what is to be done before and after.
pub(super) struct Attempt {
    pub(super) worker: Arc<Worker>,
    /// The name of its lane.
    pub(super) lane: Text,
    pub(super) units: Vec<Unit>,
    /// It sends again what has failed.
    pub(super) again: bool,
    /// It is to find out how the target is.
    pub(super) probing: bool,
}

/// An attempt that has come to its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) lane: Text,
    pub(super) again: bool,
    pub(super) units: Vec<(Unit, Fate)>,
}

/// What is to happen with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has left the queue.
    Finished,
    /// It goes again as soon as anything does.
    PutBack,
    /// It has failed, and goes again after a wait of its own.
    Retry,
}

/// What an attempt tells of the target.
#[derive(Debug, Default)]
struct Signs {
    taken: bool,
    failed: Vec<(Position, Text)>,
    refused: Option<(Option<Duration>, Text)>,
    lost: Option<BoxError>,
}

impl Attempt {
    pub(super) async fn run(self) -> Ended {
        let Self { worker, lane, units, again, probing } = self;
        let mut ended = Ended { lane, again, units: Vec::with_capacity(units.len()) };
        if worker.attempt(units, &mut ended).await.is_err() {
            // Everything stops: what has not left the queue goes back to it.
            for (unit, fate) in &ended.units {
                if *fate != Fate::Finished {
                    worker.queue.resolve(&positions(unit), Resolution::Released);
                }
            }
            ended.units.clear();
        }
        if probing {
            // Where the attempt has told something of the target, this changes nothing.
            worker.circuit.undecided();
        }
        ended
    }
}

impl Worker {
    /// Sends units, and says in `ended` what is to happen with each of them.
    async fn attempt(&self, units: Vec<Unit>, ended: &mut Ended) -> Result<(), Stopped> {
        let mut ready = Vec::with_capacity(units.len());
        let mut units = units.into_iter();
        while let Some(mut unit) = units.next() {
            if self.make_ready(&mut unit).await.is_err() {
                let left = [unit].into_iter().chain(units).chain(ready);
                ended.units.extend(left.map(|unit| (unit, Fate::PutBack)));
                return Err(Stopped);
            }
            if unit.members.is_empty() {
                ended.units.push((unit, Fate::Finished));
            } else {
                ready.push(unit);
            }
        }
        let outgoing: Vec<_> = ready.iter().filter_map(|unit| self.whole(unit)).collect();
        if outgoing.is_empty() {
            return Ok(());
        }
        let Ok((epoch, results)) = self.send(&ended.lane, &outgoing).await else {
            ended.units.extend(ready.into_iter().map(|unit| (unit, Fate::PutBack)));
            return Err(Stopped);
        };
        let mut signs = Signs::default();
        let mut results = results.into_iter();
        let mut stopped = false;
        for mut unit in ready {
            // An adapter that gives too few results has not said that it sent the rest.
            let result = results.next().unwrap_or_else(|| {
                Err(SendError::Disconnected("the adapter gave no result for the message".into()))
            });
            let fate = self.judge_unit(&mut unit, result, &mut signs).await;
            stopped |= fate.is_err();
            ended.units.push((unit, fate.unwrap_or(Fate::PutBack)));
        }
        self.tell_circuit(&mut signs);
        if let Some(reason) = signs.lost {
            self.reconnect(epoch, reason).await?;
        }
        if stopped { Err(Stopped) } else { Ok(()) }
    }

    /// Reads what was left in the queue, and takes out what is not to be sent.
    async fn make_ready(&self, unit: &mut Unit) -> Result<(), Stopped> {
        self.load(unit).await?;
        let format = self.batch_format();
        let now = Timestamp::now();
        let (mut expired, mut dead) = (Vec::new(), Vec::new());
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for mut held in std::mem::take(&mut unit.members) {
            let Some(outgoing) = &held.outgoing else {
                // Its queue has been removed.
                gone.push(held.message.position);
                continue;
            };
            let unfit = format.and_then(|format| fits(format, &outgoing.envelope).err());
            if outgoing.envelope.properties().expired(now) {
                expired.push(held.message);
            } else if self.is_overdue(&held.message, now) {
                let reason = Text::from_static(super::super::burial::OVERDUE);
                dead.extend(held.die(reason));
            } else if let Some(reason) = unfit {
                held.message.attempts = held.message.attempts.saturating_add(1);
                dead.extend(held.die(format!("the payload {reason}").into()));
            } else {
                kept.push(held);
            }
        }
        unit.members = kept;
        self.queue.resolve(&gone, Resolution::Done);
        self.expire(expired);
        self.bury(dead).await
    }

    /// Reads what was left in the queue.
    async fn load(&self, unit: &mut Unit) -> Result<(), Stopped> {
        let absent: Vec<_> = unit
            .members
            .iter()
            .filter(|held| held.outgoing.is_none())
            .map(|held| held.message.position)
            .collect();
        if absent.is_empty() {
            return Ok(());
        }
        let mut backoff = Backoff::new(self.settings.retry_first, self.settings.retry_max);
        let found = loop {
            match self.queue.reread(&absent).await {
                Ok(found) => break found,
                Err(StoreError::Closed) => return Err(Stopped),
                Err(_) => self.pause(backoff.next_wait()).await?,
            }
        };
        let mut found: HashMap<_, _> = found.into_iter().collect();
        for held in &mut unit.members {
            if let Some(outgoing) = found.remove(&held.message.position) {
                held.outgoing = Some(outgoing);
            }
        }
        Ok(())
    }

    fn batch_format(&self) -> Option<BatchFormat> {
        let batch = self.settings.lanes.as_ref()?.batch.as_ref()?;
        Some(batch.format)
    }

    /// What a unit is sent as.
    fn whole(&self, unit: &Unit) -> Option<Outgoing> {
        let mut members = unit.members.iter().filter_map(|held| held.outgoing.clone());
        match self.batch_format() {
            Some(format) => combine(format, &members.collect::<Vec<_>>()),
            None => members.next(),
        }
    }

    async fn judge_unit(
        &self,
        unit: &mut Unit,
        result: Result<Sent, SendError>,
        signs: &mut Signs,
    ) -> Result<Fate, Stopped> {
        match result {
            Ok(sent) => {
                signs.taken = true;
                self.delivered(unit, sent);
                Ok(Fate::Finished)
            }
            Err(SendError::Busy { after, reason }) => {
                // Behind a failed message it says only that the other one goes first.
                if signs.failed.is_empty() {
                    signs.refused = Some((after, reason));
                }
                self.observer.count(Outcome::Retried, unit.members.len() as u64);
                Ok(Fate::PutBack)
            }
            Err(SendError::Disconnected(reason)) => {
                signs.lost = Some(reason);
                self.observer.count(Outcome::Retried, unit.members.len() as u64);
                Ok(Fate::PutBack)
            }
            Err(SendError::Rejected { reason }) => {
                signs.taken = true;
                self.failed(unit, &reason, 0).await?;
                Ok(Fate::Finished)
            }
            Err(SendError::Failed { reason }) => {
                let first = unit.members.first().map(|held| held.message.position);
                signs.failed.extend(first.map(|position| (position, reason.clone())));
                self.failed(unit, &reason, self.settings.attempts_max).await?;
                Ok(if unit.members.is_empty() { Fate::Finished } else { Fate::Retry })
            }
        }
    }

    fn delivered(&self, unit: &mut Unit, sent: Sent) {
        let positions = positions(unit);
        self.queue.resolve(&positions, Resolution::Done);
        let count = positions.len() as u64;
        self.observer.count(Outcome::Delivered, count);
        if sent == Sent::NoReceiver {
            self.observer.count(Outcome::NoReceiver, count);
        }
        for held in unit.members.drain(..) {
            held.message.settle(Settlement::Accepted);
        }
    }

    /// Counts a failure of all members; those that have failed often enough go one by one, and
    /// untouched, to the dead letters.
    async fn failed(
        &self,
        unit: &mut Unit,
        reason: &Text,
        attempts_max: u32,
    ) -> Result<(), Stopped> {
        let now = Timestamp::now();
        let (mut kept, mut dead) = (Vec::new(), Vec::new());
        for mut held in std::mem::take(&mut unit.members) {
            held.message.first_failure_at.get_or_insert(now);
            held.message.attempts = held.message.attempts.saturating_add(1);
            if held.message.attempts >= attempts_max {
                dead.extend(held.die(reason.clone()));
            } else {
                kept.push(held);
            }
        }
        for held in &kept {
            let attempts = held.message.attempts;
            self.queue.resolve(&[held.message.position], Resolution::Failed { attempts });
        }
        if !kept.is_empty() {
            self.observer.count(Outcome::Retried, kept.len() as u64);
            if !unit.failed {
                let destination = &self.settings.name;
                warn!(%destination, %reason, "A message failed and is tried again, others of its key wait.");
            }
        }
        unit.members = kept;
        self.bury(dead).await
    }

    fn tell_circuit(&self, signs: &mut Signs) {
        if let Some((after, reason)) = signs.refused.take() {
            self.circuit.refused(after, reason);
        } else if signs.taken {
            self.circuit.taken();
        } else {
            for (position, reason) in signs.failed.drain(..) {
                self.circuit.failed(position, reason);
            }
        }
    }
}

impl Held {
    fn die(self, reason: Text) -> Option<Dead> {
        Some(Dead { message: self.message, outgoing: self.outgoing?, reason })
    }
}
