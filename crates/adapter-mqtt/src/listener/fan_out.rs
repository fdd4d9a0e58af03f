//! Who gets a message that was published.

use std::sync::Arc;

use transload_adapter::{Event, store::QueueId};
use transload_envelope::Arguments;

use super::{
    broker::Broker,
    session::{Offer, Queued, Session},
    shared::Group,
    stored,
    subscriptions::Receiver,
};
use crate::{codec::QoS, message::Message};

/// Where a message went.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    /// How many sessions and groups have it or will have it.
    pub(super) receivers: u64,
    /// How many would have had it, and were full.
    pub(super) full: u64,
    /// One for whom its publisher is to wait before the next one.
    pub(super) behind: Option<Arc<Session>>,
    /// The queues that it is to be appended to.
    pub(super) queues: Vec<(QueueId, Arguments)>,
}

impl Broker {
    /// Gives a message to everyone who has subscribed to it. Those whose messages are to be kept
    /// safe have it when it was appended to their queues, which is left to the caller.
    pub(super) fn fan_out(
        &self,
        message: &Arc<Message>,
        from: Option<&Session>,
        verbatim: bool,
    ) -> FanOut {
        let mut fan_out = FanOut::default();
        for receiver in self.subscriptions.receivers(message, from) {
            match receiver {
                Receiver::Group(group) => self.give_group(&mut fan_out, message, &group, verbatim),
                Receiver::Session { session, qos, retain, subscription_ids } => {
                    let queued = Queued {
                        message: Arc::clone(message),
                        qos,
                        retain,
                        subscription_ids,
                        lease: None,
                    };
                    // A client that waited for itself would not read what it is to acknowledge.
                    let own = from.is_some_and(|from| std::ptr::eq(from, &raw const *session));
                    let may_wait = !own && qos != QoS::AtMostOnce && session.queue.is_none();
                    self.give_session(&mut fan_out, &session, queued, verbatim);
                    if may_wait && session.pace.holds() {
                        fan_out.behind = Some(session);
                    }
                }
            }
        }
        fan_out
    }

    fn give_session(
        &self,
        fan_out: &mut FanOut,
        session: &Session,
        queued: Queued,
        verbatim: bool,
    ) {
        match session.queue.as_ref().filter(|_| queued.qos != QoS::AtMostOnce) {
            Some(queue) if queue.is_full() || !self.budget.has_room() => self.dropped(fan_out),
            Some(queue) => {
                self.budget.queued(queued.message.size());
                let Queued { message, qos, retain, subscription_ids, .. } = &queued;
                let arguments =
                    stored::arguments(message, *qos, *retain, subscription_ids, verbatim);
                fan_out.queues.push((queue.id(), arguments));
                fan_out.receivers += 1;
            }
            None => match session.offer(queued) {
                Offer::Taken => fan_out.receivers += 1,
                Offer::Full => self.dropped(fan_out),
                Offer::Away => {}
            },
        }
    }

    fn dropped(&self, fan_out: &mut FanOut) {
        fan_out.full += 1;
        self.count(Event::MessageDropped, 1);
    }

    fn give_group(
        &self,
        fan_out: &mut FanOut,
        message: &Arc<Message>,
        group: &Group,
        verbatim: bool,
    ) {
        if message.qos == QoS::AtMostOnce {
            match group.offer(message) {
                Offer::Taken => fan_out.receivers += 1,
                Offer::Full => self.dropped(fan_out),
                Offer::Away => {}
            }
        } else if group.queue.is_full() || !self.budget.has_room() {
            self.dropped(fan_out);
        } else {
            self.budget.queued(message.size());
            // The members' own options are applied when one of them is chosen.
            let arguments = stored::arguments(message, message.qos, message.retain, &[], verbatim);
            fan_out.queues.push((group.queue.id(), arguments));
            fan_out.receivers += 1;
        }
    }
}
