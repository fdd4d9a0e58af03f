//! What is held of streams, and how it is settled.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use transload_adapter::{Settled, Settlement, SettlementQueue, Tag};

use super::Shared;
use crate::{client::Frames, config::ACK_WAIT_MIN};

/// How many settlements are applied before the next look at the clock.
const RUN_MAX: usize = 256;

/// How often held messages are looked at: often enough for the shortest `ack_wait`.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The messages of streams that are not settled.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    last: u64,
    held: HashMap<Tag, Held>,
}

#[derive(Debug)]
struct Held {
    /// Where acknowledgements of this message go.
    reply: Box<str>,
    /// How long the server waits for one.
    ack_wait: Duration,
    /// When the server is next to be told that the message is still being worked on.
    progress_at: Instant,
}

impl Ledger {
    /// Enters a message, before anybody can settle it.
    pub(super) fn enter(&self, reply: &str, ack_wait: Duration) -> Tag {
        let progress_at = Instant::now() + progress_every(ack_wait);
        let mut book = self.lock();
        book.last += 1;
        let tag = Tag(book.last);
        book.held.insert(tag, Held { reply: reply.into(), ack_wait, progress_at });
        tag
    }

    pub(super) fn leave(&self, tag: Tag) -> Option<Box<str>> {
        Some(self.lock().held.remove(&tag)?.reply)
    }

    /// The messages whose time runs out, which are given new time.
    fn due(&self, now: Instant) -> Vec<Box<str>> {
        let mut book = self.lock();
        let due = book.held.values_mut().filter(|held| held.progress_at <= now);
        due.map(|held| {
            held.progress_at = now + progress_every(held.ack_wait);
            held.reply.clone()
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Half the time that the server waits, so that one report may be late.
fn progress_every(ack_wait: Duration) -> Duration {
    ack_wait.max(ACK_WAIT_MIN) / 2
}

/// Applies settlements until all receipts are spent or the connection is lost.
pub(super) async fn settle(shared: Shared, mut settlements: SettlementQueue) {
    let mut run = Vec::with_capacity(RUN_MAX);
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let healthy = tokio::select! {
            count = settlements.recv_many(&mut run, RUN_MAX) => {
                if count == 0 {
                    break;
                }
                apply(&shared, &mut run).await
            }
            now = look.tick() => report_progress(&shared, now).await,
            () = shared.link.lost() => return,
        };
        if !healthy {
            return;
        }
    }
}

async fn apply(shared: &Shared, run: &mut Vec<Settled>) -> bool {
    let mut frames = Frames::default();
    for settled in run.drain(..) {
        if let Some(reply) = shared.ledger.leave(settled.tag) {
            frames.answer(&reply, answer(&settled.settlement).as_bytes());
        }
    }
    frames.is_empty() || shared.client.write(frames).await.is_ok()
}

async fn report_progress(shared: &Shared, now: Instant) -> bool {
    let mut frames = Frames::default();
    for reply in shared.ledger.due(now) {
        frames.answer(&reply, b"+WPI");
    }
    frames.is_empty() || shared.client.write(frames).await.is_ok()
}

/// What a settlement means for a stream.
/// <https://docs.nats.io/using-nats/developer/develop_jetstream/consumers#delivery-reliability>
pub(super) fn answer(settlement: &Settlement) -> Cow<'static, str> {
    match settlement {
        Settlement::Accepted | Settlement::Unrouted | Settlement::Replied(_) => "+ACK".into(),
        Settlement::Rejected { .. } => "+TERM".into(),
        Settlement::Released { after } if after.is_zero() => "-NAK".into(),
        Settlement::Released { after } => format!("-NAK {{\"delay\":{}}}", after.as_nanos()).into(),
    }
}

#[cfg(test)]
mod tests {
    use transload_adapter::Refusal;

    use super::*;

    #[test]
    fn every_settlement_has_its_answer() {
        let rejected = Settlement::Rejected { refusal: Refusal::Invalid, reason: "no".into() };
        let later = Settlement::Released { after: Duration::from_secs(2) };
        for (settlement, wanted) in [
            (Settlement::Accepted, "+ACK"),
            (Settlement::Unrouted, "+ACK"),
            (rejected, "+TERM"),
            (Settlement::RELEASED, "-NAK"),
            (later, "-NAK {\"delay\":2000000000}"),
        ] {
            assert_eq!(answer(&settlement), wanted, "{settlement:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_reported_before_its_time_is_over_and_again() {
        let ledger = Ledger::default();
        let tag = ledger.enter("r", Duration::from_secs(10));
        let start = Instant::now();
        assert!(ledger.due(start + Duration::from_secs(4)).is_empty());
        let due = start + Duration::from_secs(5);
        assert_eq!(ledger.due(due).len(), 1);
        assert!(ledger.due(due).is_empty());
        assert_eq!(ledger.due(due + Duration::from_secs(5)).len(), 1);
        assert!(ledger.leave(tag).is_some() && ledger.leave(tag).is_none());
        assert!(ledger.due(due + Duration::from_mins(1)).is_empty());
    }
}
