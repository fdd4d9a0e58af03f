//! Messages that the broker gave back, and what that means for them.

use std::collections::HashMap;

use lapin::{Confirmation, message::BasicReturnMessage, types::ShortString};
use transload_adapter::{SendError, Sent};

use super::{Outcome, Wish};
use crate::mapping::Publish;

/// What tells messages apart that went out together.
type Key = (Option<ShortString>, ShortString, ShortString);

/// The messages of one call that the broker returned, whichever confirmation carried them.
#[derive(Debug, Default)]
pub(super) struct Returned(HashMap<Key, String>);

impl Returned {
    pub(super) fn verdict(&mut self, confirmation: Confirmation) -> Result<Sent, SendError> {
        match confirmation {
            Confirmation::Ack(returned) => {
                self.note(returned);
                Ok(Sent::Confirmed)
            }
            Confirmation::Nack(returned) => {
                self.note(returned);
                let reason = "the broker did not take it (basic.nack)".into();
                Err(SendError::Failed { reason })
            }
            Confirmation::NotRequested => {
                Err(SendError::Failed { reason: "the channel does not confirm".into() })
            }
        }
    }

    fn note(&mut self, returned: Option<BasicReturnMessage>) {
        if let Some(returned) = returned {
            let reason = format!("unroutable: {} {}", returned.reply_code, returned.reply_text);
            let delivery = returned.delivery;
            let id = delivery.properties.message_id().clone();
            self.0.insert((id, delivery.exchange, delivery.routing_key), reason);
        }
    }

    pub(super) fn apply(&self, messages: &[&Publish], outcomes: &mut [Outcome], wish: Wish) {
        if self.0.is_empty() {
            return;
        }
        for (publish, outcome) in messages.iter().zip(outcomes) {
            let id = publish.properties.message_id().clone();
            let key = (id, publish.exchange.clone(), publish.routing_key.clone());
            if let (Outcome::Settled(Ok(_)), Some(reason)) = (&*outcome, self.0.get(&key)) {
                *outcome = Outcome::Settled(if wish.asks {
                    Ok(Sent::NoReceiver)
                } else {
                    Err(unroutable(publish, reason, wish))
                });
            }
        }
    }
}

/// A queue that the target names may be there soon; whatever the message itself asked for will not.
fn unroutable(publish: &Publish, reason: &str, wish: Wish) -> SendError {
    let reason = format!("{reason}, routing key {:?}", publish.routing_key.as_str()).into();
    if wish.explicit || publish.own_exchange || publish.own_key {
        SendError::Rejected { reason }
    } else {
        SendError::Failed { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_positive_confirmation_counts_as_sent() {
        let mut returned = Returned::default();
        assert_eq!(returned.verdict(Confirmation::Ack(None)).unwrap(), Sent::Confirmed);
        for confirmation in [Confirmation::Nack(None), Confirmation::NotRequested] {
            let verdict = returned.verdict(confirmation);
            assert!(matches!(verdict, Err(SendError::Failed { .. })), "{verdict:?}");
        }
    }

    #[test]
    fn a_returned_message_is_found_whichever_confirmation_carried_it() {
        let message = |id: &str, key: &str| Publish {
            exchange: "x".into(),
            routing_key: key.into(),
            properties: lapin::BasicProperties::default().with_message_id(id.into()),
            payload: bytes::Bytes::new(),
            own_exchange: false,
            own_key: true,
        };
        let messages = [message("1", "a"), message("2", "b"), message("2", "c")];
        let mut returned = Returned::default();
        returned.0.insert((Some("2".into()), "x".into(), "b".into()), "unroutable".to_owned());
        let mut outcomes: Vec<_> =
            messages.iter().map(|_| Outcome::Settled(Ok(Sent::Confirmed))).collect();
        let wish = Wish { mandatory: true, explicit: false, asks: false };
        returned.apply(&messages.iter().collect::<Vec<_>>(), &mut outcomes, wish);
        let sent: Vec<_> =
            outcomes.iter().map(|outcome| matches!(outcome, Outcome::Settled(Ok(_)))).collect();
        assert_eq!(sent, [true, false, true]);
        let verdict = unroutable(&messages[1], "312 NO_ROUTE", wish);
        assert!(matches!(verdict, SendError::Rejected { .. }));
        let constant = Publish { own_key: false, ..messages[1].clone() };
        let verdict = unroutable(&constant, "312 NO_ROUTE", wish);
        assert!(matches!(verdict, SendError::Failed { .. }));
    }
}
