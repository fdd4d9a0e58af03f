use std::collections::{BTreeMap, BTreeSet, VecDeque};

use transload_adapter::store::Position;

use super::session::Queued;
use crate::codec::QoS;

/// Identifiers up to this one belong to messages of the session's own queue: each follows from the
/// message's position, so that it is the same after a restart. Those above are for messages from
/// elsewhere, which a restart forgets.
const OWN_IDS: u16 = u16::MAX / 2;

/// How far the delivery of a message has come.
#[derive(Debug)]
enum Stage {
    /// PUBLISH was sent; PUBACK or PUBREC is awaited.
    Published(Queued),
    /// PUBREC has come; PUBREL is sent when that is durable.
    Received(Queued),
    /// PUBREL was sent; PUBCOMP is awaited.
    Released,
}

#[derive(Debug)]
struct Sent {
    packet_id: u16,
    stage: Stage,
}

/// What is to be sent again when a session goes on.
#[derive(Debug)]
pub(super) enum Again {
    Publish(u16, Queued),
    /// PUBREL, which was not yet durable.
    ReleaseDurably(u16, Option<Position>),
    Release(u16),
}

/// What PUBREC asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The message is the client's: PUBREL, once it is durable that the one at this position is.
    First(Option<Position>),
    /// That is under way.
    Waits,
    /// PUBREL was sent, and is sent again.
    Again,
    Unknown,
}

/// The messages of `QoS` 1 and 2 on their way to one client, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: VecDeque<Sent>,
    last_id: u16,
    /// Messages of the queue that the client has, as was found after a restart.
    finished: BTreeSet<Position>,
    /// How many of the next messages may have been sent before a restart.
    doubtful: usize,
}

impl InFlight {
    /// After a restart: what was released is known, what was published is not.
    pub(super) fn after_restart(released: BTreeMap<Position, u16>, doubtful: usize) -> Self {
        let sent = released.values().map(|id| Sent { packet_id: *id, stage: Stage::Released });
        Self {
            sent: sent.collect(),
            // Begins at any, so that a message is unlikely to be taken for an earlier one.
            last_id: fastrand::u16(..),
            finished: released.into_keys().collect(),
            doubtful,
        }
    }

    /// How many are on their way.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether the client was found to have this message of its queue.
    pub(super) fn is_finished(&mut self, position: Position) -> bool {
        !self.finished.is_empty() && self.finished.remove(&position)
    }

    /// Whether the message may have been sent before a restart (MQTT 5, section 3.3.1.1).
    pub(super) fn is_doubtful(&mut self, queued: &Queued) -> bool {
        let doubtful = self.doubtful > 0 && queued.own_position().is_some();
        self.doubtful -= usize::from(doubtful);
        doubtful
    }

    /// Gives the message a packet identifier; `None` when its own, or each other, is in use.
    pub(super) fn add(&mut self, queued: Queued) -> Option<u16> {
        let packet_id = match queued.own_position() {
            Some(position) => {
                let id = own_id(position);
                (!self.uses(id)).then_some(id)?
            }
            None => self.free_id()?,
        };
        self.sent.push_back(Sent { packet_id, stage: Stage::Published(queued) });
        Some(packet_id)
    }

    fn free_id(&mut self) -> Option<u16> {
        for _ in 0..=self.sent.len() {
            self.last_id = self.last_id.checked_add(1).unwrap_or(0).max(OWN_IDS + 1);
            if !self.uses(self.last_id) {
                return Some(self.last_id);
            }
        }
        None
    }

    fn uses(&self, packet_id: u16) -> bool {
        self.sent.iter().any(|sent| sent.packet_id == packet_id)
    }

    fn place(&self, packet_id: u16) -> Option<usize> {
        self.sent.iter().position(|sent| sent.packet_id == packet_id)
    }

    /// Ends the delivery of a message: PUBACK for `QoS` 1, a PUBREC that refuses for `QoS` 2. `None`
    /// when there is no such message.
    pub(super) fn finish(&mut self, packet_id: u16, qos: QoS) -> Option<Queued> {
        let place = self.place(packet_id)?;
        match &self.sent.get(place)?.stage {
            Stage::Published(queued) if queued.qos == qos => {}
            Stage::Published(_) | Stage::Received(_) | Stage::Released => return None,
        }
        match self.sent.remove(place)?.stage {
            Stage::Published(queued) => Some(queued),
            Stage::Received(_) | Stage::Released => None,
        }
    }

    /// PUBREC has come.
    pub(super) fn received(&mut self, packet_id: u16) -> Received {
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.packet_id == packet_id) else {
            return Received::Unknown;
        };
        match std::mem::replace(&mut sent.stage, Stage::Released) {
            Stage::Published(queued) if queued.qos == QoS::ExactlyOnce => {
                let position = queued.own_position();
                sent.stage = Stage::Received(queued);
                Received::First(position)
            }
            Stage::Received(queued) => {
                sent.stage = Stage::Received(queued);
                Received::Waits
            }
            Stage::Released => Received::Again,
            Stage::Published(queued) => {
                sent.stage = Stage::Published(queued);
                Received::Unknown
            }
        }
    }

    /// PUBREL is sent; returns the message, which is the client's now.
    pub(super) fn release(&mut self, packet_id: u16) -> Option<Queued> {
        let sent = self.sent.iter_mut().find(|sent| sent.packet_id == packet_id)?;
        match std::mem::replace(&mut sent.stage, Stage::Released) {
            Stage::Received(queued) => Some(queued),
            other @ (Stage::Published(_) | Stage::Released) => {
                sent.stage = other;
                None
            }
        }
    }

    /// PUBCOMP has come; tells whether it was awaited.
    pub(super) fn complete(&mut self, packet_id: u16) -> bool {
        let is_it = |sent: &Sent| matches!(sent.stage, Stage::Released);
        let place = self.place(packet_id).filter(|place| self.sent.get(*place).is_some_and(is_it));
        place.and_then(|place| self.sent.remove(place)).is_some()
    }

    /// Takes out what was sent and may not be sent again.
    pub(super) fn forbid(&mut self, forbidden: impl Fn(&str) -> bool) -> Vec<Queued> {
        let mut out = Vec::new();
        for Sent { packet_id, stage } in std::mem::take(&mut self.sent) {
            if let Stage::Published(queued) = stage {
                if forbidden(&queued.message.topic) {
                    out.push(queued);
                    continue;
                }
                self.sent.push_back(Sent { packet_id, stage: Stage::Published(queued) });
            } else {
                self.sent.push_back(Sent { packet_id, stage });
            }
        }
        out
    }

    /// All, to be sent again in their order when a session goes on (MQTT 5, section 4.4).
    pub(super) fn again(&self) -> impl Iterator<Item = Again> {
        self.sent.iter().map(|Sent { packet_id, stage }| match stage {
            Stage::Published(queued) => Again::Publish(*packet_id, queued.clone()),
            Stage::Received(queued) => Again::ReleaseDurably(*packet_id, queued.own_position()),
            Stage::Released => Again::Release(*packet_id),
        })
    }

    /// The identifiers of messages that the client has and that are not completed.
    pub(super) fn released(&self) -> impl Iterator<Item = u16> {
        let released = |sent: &&Sent| matches!(sent.stage, Stage::Released | Stage::Received(_));
        self.sent.iter().filter(released).map(|sent| sent.packet_id)
    }

    /// The client has gone: gives the messages of shared subscriptions back, but for those of
    /// `QoS` 2, which may have arrived and must not go to another client [MQTT-4.8.2-6].
    pub(super) fn release_shared(&mut self) {
        self.sent.retain(|sent| {
            let (Stage::Published(queued) | Stage::Received(queued)) = &sent.stage else {
                return true;
            };
            let lease = queued.lease.as_ref().filter(|lease| lease.group.is_some());
            match lease {
                Some(lease) if queued.qos != QoS::ExactlyOnce => {
                    lease.release();
                    false
                }
                Some(_) | None => true,
            }
        });
    }

    /// The session has ended: nobody waits for these messages any more.
    pub(super) fn discard(&mut self) {
        for sent in self.sent.drain(..) {
            if let Stage::Published(queued) | Stage::Received(queued) = sent.stage
                && let Some(lease) = queued.lease
            {
                lease.done();
            }
        }
    }
}

/// The identifier of the message at this position of the session's queue.
fn own_id(position: Position) -> u16 {
    u16::try_from(position.0 % u64::from(OWN_IDS)).map_or(1, |id| id + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use transload_adapter::store::{QueueSettings, Storage, Store};
    use transload_delivery::MemoryStore;

    use super::{super::session::Lease, *};
    use crate::message::Message;

    fn queued(position: Option<u64>, qos: QoS) -> Queued {
        let settings = QueueSettings {
            storage: Storage::Memory,
            messages_max: 9,
            bytes_max: 9,
            age_max: None,
        };
        let lease = position.map(|position| Lease {
            queue: MemoryStore::new().queue("q", settings).unwrap(),
            position: Position(position),
            group: None,
        });
        let message = Message {
            topic: "t".into(),
            payload: Bytes::new(),
            qos,
            retain: false,
            expires_at: None,
            properties: None,
        };
        Queued { message: Arc::new(message), qos, retain: false, subscription_ids: vec![], lease }
    }

    #[test]
    fn identifiers_follow_from_positions_and_are_never_used_twice() {
        let mut flight = InFlight::default();
        let far = 5 + u64::from(OWN_IDS);
        let id = flight.add(queued(Some(5), QoS::ExactlyOnce)).unwrap();
        assert_eq!(flight.add(queued(Some(far), QoS::AtLeastOnce)), None, "the same identifier");
        for position in [0, 1, u64::from(OWN_IDS) - 1, u64::MAX] {
            let id = flight.add(queued(Some(position), QoS::AtLeastOnce)).unwrap();
            assert!((1..=OWN_IDS).contains(&id), "{id}");
        }
        for _ in 0..3 {
            assert!(flight.add(queued(None, QoS::AtLeastOnce)).unwrap() > OWN_IDS);
        }
        let mut again = InFlight::after_restart(BTreeMap::new(), 1);
        assert!(again.is_doubtful(&queued(Some(5), QoS::ExactlyOnce)));
        assert_eq!(again.add(queued(Some(5), QoS::ExactlyOnce)), Some(id), "the same as before");
        assert!(!again.is_doubtful(&queued(Some(6), QoS::ExactlyOnce)));
    }

    #[test]
    fn the_four_steps() {
        let mut flight = InFlight::default();
        let id = flight.add(queued(Some(7), QoS::ExactlyOnce)).unwrap();
        assert_eq!(flight.received(id + 1), Received::Unknown);
        assert!(!flight.complete(id), "not yet released");
        assert_eq!(flight.received(id), Received::First(Some(Position(7))));
        assert_eq!(flight.received(id), Received::Waits);
        assert!(!flight.complete(id), "not yet released");
        assert!(flight.release(id).is_some() && flight.release(id).is_none());
        assert_eq!(flight.received(id), Received::Again);
        assert!(flight.finish(id, QoS::ExactlyOnce).is_none());
        assert!(flight.complete(id) && !flight.complete(id));
        let id = flight.add(queued(Some(8), QoS::AtLeastOnce)).unwrap();
        assert_eq!(flight.received(id), Received::Unknown, "PUBREC for QoS 1");
        assert!(flight.finish(id, QoS::ExactlyOnce).is_none());
        assert!(flight.finish(id, QoS::AtLeastOnce).is_some());
        assert_eq!(flight.len(), 0);
    }

    #[test]
    fn what_was_released_before_a_restart_is_known() {
        let released = BTreeMap::from([(Position(9), 10)]);
        let mut flight = InFlight::after_restart(released, 0);
        assert!(matches!(flight.again().collect::<Vec<_>>()[..], [Again::Release(10)]));
        assert_eq!(flight.add(queued(Some(9), QoS::ExactlyOnce)), None, "its identifier is in use");
        assert!(flight.is_finished(Position(9)) && !flight.is_finished(Position(9)));
        assert!(flight.complete(10));
    }
}
