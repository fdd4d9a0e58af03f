//! What is not sent any more: expired, overdue, or given up.

use tracing::warn;
use transload_adapter::{
    Settlement,
    store::{Position, Resolution},
};
use transload_envelope::{Outgoing, Text, Timestamp};

use super::{
    Outcome, Worker,
    hand::{Dead, InHand},
    run::Stopped,
};
use crate::{backoff::Backoff, dead_letters::DeadLetter};

/// Why a message is given up that was never refused.
pub(super) const OVERDUE: &str = "not delivered within the time that the route allows";

/// Messages that are still to be sent.
pub(super) type Kept = (Vec<InHand>, Vec<Outgoing>);

impl Worker {
    /// Takes out what has expired and what has waited longer than its route allows.
    pub(super) async fn give_up_the_overdue(
        &self,
        hand: Vec<InHand>,
        outgoing: Vec<Outgoing>,
    ) -> Result<Kept, Stopped> {
        let now = Timestamp::now();
        let (mut kept, mut kept_outgoing) = (Vec::with_capacity(hand.len()), Vec::new());
        let (mut expired, mut dead) = (Vec::new(), Vec::new());
        for (message, outgoing) in hand.into_iter().zip(outgoing) {
            if outgoing.envelope.properties().expired(now) {
                expired.push(message);
            } else if self.is_overdue(&message, now) {
                let reason = Text::from_static(OVERDUE);
                dead.push(Dead { message, outgoing, reason });
            } else {
                kept.push(message);
                kept_outgoing.push(outgoing);
            }
        }
        self.expire(expired);
        self.bury(dead).await?;
        Ok((kept, kept_outgoing))
    }

    /// Whether a message has waited longer than its route allows.
    pub(super) fn is_overdue(&self, message: &InHand, now: Timestamp) -> bool {
        self.settings.expires.is_some_and(|expires| message.stored_at.after(expires) <= now)
    }

    /// Drops what nobody wants any more by its own expiry.
    pub(super) fn expire(&self, expired: Vec<InHand>) {
        if expired.is_empty() {
            return;
        }
        let positions: Vec<_> = expired.iter().map(|message| message.position).collect();
        self.observer.count(Outcome::Expired, expired.len() as u64);
        self.queue.resolve(&positions, Resolution::Done);
        for message in expired {
            message.settle(Settlement::Accepted);
        }
    }

    /// Puts messages among the dead letters, and only then takes them from the queue.
    pub(super) async fn bury(&self, dead: Vec<Dead>) -> Result<(), Stopped> {
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
                planned: true,
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
}

fn positions(dead: &[Dead]) -> Vec<Position> {
    dead.iter().map(|dead| dead.message.position).collect()
}
