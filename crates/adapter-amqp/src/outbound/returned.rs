//! Messages that the broker gave back, and what that means for them.

use transload_adapter::{SendError, Sent};

use super::{Outcome, Wish};
use crate::{client::Returned, mapping::Publish};

/// Changes what became of the messages that were returned. They are told apart by id, exchange and
/// key, since the broker does not say which it returns.
pub(super) fn apply(
    returned: &[Returned],
    messages: &[&Publish],
    outcomes: &mut [Outcome],
    wish: Wish,
) {
    for returned in returned {
        for (publish, outcome) in messages.iter().zip(&mut *outcomes) {
            let same = publish.properties.message_id == returned.message_id
                && publish.exchange == returned.exchange
                && publish.routing_key == returned.routing_key;
            if same && matches!(outcome, Outcome::Settled(Ok(_))) {
                *outcome = Outcome::Settled(if wish.asks {
                    Ok(Sent::NoReceiver)
                } else {
                    Err(unroutable(publish, &returned.reason, wish))
                });
            }
        }
    }
}

/// A queue that the target names may be there soon; whatever the message itself asked for will not.
fn unroutable(publish: &Publish, reason: &str, wish: Wish) -> SendError {
    let reason = format!("{reason}, routing key {:?}", &*publish.routing_key).into();
    if wish.explicit || publish.own_exchange || publish.own_key {
        SendError::Rejected { reason }
    } else {
        SendError::Failed { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::BasicProperties;

    #[test]
    fn a_returned_message_is_found_by_what_it_says() {
        let message = |id: &str, key: &str| Publish {
            exchange: "x".into(),
            routing_key: key.into(),
            properties: BasicProperties {
                message_id: Some(id.into()),
                ..BasicProperties::default()
            },
            payload: bytes::Bytes::new(),
            own_exchange: false,
            own_key: true,
        };
        let messages = [message("1", "a"), message("2", "b"), message("2", "c")];
        let returned = Returned {
            message_id: Some("2".into()),
            exchange: "x".into(),
            routing_key: "b".into(),
            reason: "unroutable".to_owned(),
        };
        let mut outcomes: Vec<_> =
            messages.iter().map(|_| Outcome::Settled(Ok(Sent::Confirmed))).collect();
        let wish = Wish { mandatory: true, explicit: false, asks: false };
        apply(&[returned], &messages.iter().collect::<Vec<_>>(), &mut outcomes, wish);
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
