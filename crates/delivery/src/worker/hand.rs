//! The batch in hand, and the sorting of what became of it.

use std::time::Duration;

use transload_adapter::{BoxError, SendError, Sent, Settlement, Share, store::Position};
use transload_envelope::{Outgoing, Text, Timestamp};

/// A message in hand.
#[derive(Debug)]
pub(super) struct InHand {
    pub(super) position: Position,
    pub(super) attempts: u32,
    pub(super) stored_at: Timestamp,
    pub(super) first_failure_at: Option<Timestamp>,
    pub(super) share: Option<Share>,
}

impl InHand {
    /// Settles the source's receipt, where it waits for this delivery.
    pub(super) fn settle(self, settlement: Settlement) {
        if let Some(share) = self.share {
            share.settle(settlement);
        }
    }
}

/// A message that is given up.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) message: InHand,
    pub(super) outgoing: Outgoing,
    pub(super) reason: Text,
}

/// What the target is like after a batch.
#[derive(Debug, Default)]
pub(super) enum Reaction {
    /// It takes messages.
    #[default]
    Continue,
    /// Some message failed: wait before its next attempt.
    Retry { reason: Text },
    /// It takes nothing: wait, as long as it asked for.
    Hold { after: Option<Duration>, reason: Text },
    /// The connection is gone.
    Reconnect { reason: BoxError },
}

impl Reaction {
    fn rank(&self) -> u8 {
        match self {
            Self::Continue => 0,
            Self::Retry { .. } => 1,
            Self::Hold { .. } => 2,
            Self::Reconnect { .. } => 3,
        }
    }

    fn or_worse(&mut self, other: Self) {
        if other.rank() > self.rank() {
            *self = other;
        }
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) done: Vec<Position>,
    pub(super) delivered: u64,
    pub(super) no_receiver: u64,
    pub(super) failed: Vec<(Position, u32)>,
    pub(super) again: Vec<InHand>,
    pub(super) again_outgoing: Vec<Outgoing>,
    pub(super) dead: Vec<Dead>,
    pub(super) reaction: Reaction,
}

/// Sorts the results of one `send` by what has to happen next.
pub(super) fn sort(
    hand: Vec<InHand>,
    outgoing: Vec<Outgoing>,
    results: Vec<Result<Sent, SendError>>,
    attempts_max: u32,
    now: Timestamp,
) -> Sorted {
    let mut sorted = Sorted::default();
    let mut results = results.into_iter();
    let mut behind_failed = false;
    for (mut message, outgoing) in hand.into_iter().zip(outgoing) {
        // An adapter that gives too few results has not said that it sent the rest.
        let result = results.next().unwrap_or_else(|| {
            Err(SendError::Disconnected("the adapter gave no result for the message".into()))
        });
        match result {
            Ok(sent) => sorted.took(message, sent),
            // It was not sent, since the one before it goes first: that says nothing of the target.
            Err(SendError::Busy { reason, .. }) if behind_failed => {
                sorted.again(message, outgoing, Reaction::Retry { reason });
                continue;
            }
            Err(SendError::Busy { after, reason }) => {
                sorted.again(message, outgoing, Reaction::Hold { after, reason });
            }
            Err(SendError::Disconnected(reason)) => {
                sorted.again(message, outgoing, Reaction::Reconnect { reason });
            }
            Err(SendError::Rejected { reason }) => {
                message.first_failure_at.get_or_insert(now);
                message.attempts += 1;
                sorted.dead.push(Dead { message, outgoing, reason });
            }
            Err(SendError::Failed { reason }) => {
                message.first_failure_at.get_or_insert(now);
                message.attempts += 1;
                if message.attempts >= attempts_max {
                    sorted.dead.push(Dead { message, outgoing, reason });
                } else {
                    sorted.failed.push((message.position, message.attempts));
                    sorted.again(message, outgoing, Reaction::Retry { reason });
                }
                behind_failed = true;
                continue;
            }
        }
        behind_failed = false;
    }
    sorted
}

impl Sorted {
    fn took(&mut self, message: InHand, sent: Sent) {
        self.done.push(message.position);
        self.delivered += 1;
        match sent {
            Sent::Confirmed | Sent::Unconfirmed => message.settle(Settlement::Accepted),
            Sent::NoReceiver => {
                self.no_receiver += 1;
                message.settle(Settlement::Accepted);
            }
        }
    }

    fn again(&mut self, message: InHand, outgoing: Outgoing, reaction: Reaction) {
        self.again.push(message);
        self.again_outgoing.push(outgoing);
        self.reaction.or_worse(reaction);
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{Arguments, Envelope, Origin};

    use super::*;

    fn batch(count: u64) -> (Vec<InHand>, Vec<Outgoing>) {
        (0..count)
            .map(|number| {
                let message = InHand {
                    position: Position(number),
                    attempts: 0,
                    stored_at: Timestamp::now(),
                    first_failure_at: None,
                    share: None,
                };
                let envelope = Envelope::new(Origin::new("a", "fake", "x"), "body");
                (message, Outgoing { envelope, arguments: Arguments::default() })
            })
            .unzip()
    }

    fn busy(after_s: u64) -> SendError {
        SendError::Busy { after: Some(Duration::from_secs(after_s)), reason: "full".into() }
    }

    #[test]
    fn each_result_goes_where_its_reaction_says() {
        let (hand, outgoing) = batch(5);
        let results = vec![
            Ok(Sent::Confirmed),
            Err(SendError::Failed { reason: "nack".into() }),
            Err(SendError::Rejected { reason: "too large".into() }),
            Ok(Sent::NoReceiver),
            Err(busy(3)),
        ];
        let sorted = sort(hand, outgoing, results, 5, Timestamp::now());
        assert_eq!(sorted.done, [Position(0), Position(3)]);
        assert_eq!((sorted.delivered, sorted.no_receiver), (2, 1));
        assert_eq!(sorted.failed, [(Position(1), 1)]);
        let again: Vec<_> = sorted.again.iter().map(|message| message.position.0).collect();
        assert_eq!(again, [1, 4], "in their old order");
        assert_eq!(sorted.dead.len(), 1);
        assert!(matches!(sorted.reaction, Reaction::Hold { after: Some(_), .. }));
    }

    #[test]
    fn a_busy_target_is_not_counted_against_the_message() {
        let (hand, outgoing) = batch(1);
        let sorted = sort(hand, outgoing, vec![Err(busy(1))], 1, Timestamp::now());
        assert!(sorted.dead.is_empty());
        assert_eq!(sorted.again.first().map(|message| message.attempts), Some(0));
    }

    #[test]
    fn what_was_not_sent_behind_a_failed_message_says_nothing_of_the_target() {
        let (hand, outgoing) = batch(3);
        let failed = Err(SendError::Failed { reason: "500".into() });
        let results = vec![failed, Err(busy(1)), Err(busy(1))];
        let sorted = sort(hand, outgoing, results, 5, Timestamp::now());
        assert_eq!(sorted.again.len(), 3);
        assert!(matches!(&sorted.reaction, Reaction::Retry { reason } if &**reason == "500"));
    }

    #[test]
    fn the_last_attempt_ends_among_the_dead_letters() {
        let (mut hand, outgoing) = batch(1);
        hand[0].attempts = 2;
        let failed = vec![Err(SendError::Failed { reason: "500".into() })];
        let sorted = sort(hand, outgoing, failed, 3, Timestamp::now());
        assert_eq!(sorted.dead.len(), 1);
        assert_eq!(sorted.dead[0].message.attempts, 3);
    }

    #[test]
    fn a_missing_result_is_no_confirmation() {
        let (hand, outgoing) = batch(2);
        let sorted = sort(hand, outgoing, vec![Ok(Sent::Confirmed)], 3, Timestamp::now());
        assert_eq!(sorted.done.len(), 1);
        assert_eq!(sorted.again.len(), 1);
        assert!(matches!(sorted.reaction, Reaction::Reconnect { .. }));
    }
}
