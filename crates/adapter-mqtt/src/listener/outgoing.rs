use std::collections::VecDeque;

use super::session::Queued;
use crate::codec::QoS;

/// How far the delivery of a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// PUBLISH was sent; PUBACK or PUBREC is awaited.
    Published,
    /// PUBREL was sent; PUBCOMP is awaited.
    Released,
}

/// A message of `QoS` 1 or 2 that the client has not finished acknowledging.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) packet_id: u16,
    pub(super) queued: Queued,
    pub(super) stage: Stage,
}

/// The messages of `QoS` 1 and 2 on their way to one client, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: VecDeque<Sent>,
    last_id: u16,
}

impl InFlight {
    /// After a restart, when it is not known which identifiers the client still takes for those of
    /// before: begins at any, so that a message is unlikely to be taken for an earlier one.
    pub(super) fn after_restart() -> Self {
        Self { last_id: fastrand::u16(..), ..Self::default() }
    }

    /// How many are on their way.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Gives the message a packet identifier that is free; `None` when none is.
    pub(super) fn add(&mut self, queued: Queued) -> Option<u16> {
        let mut packet_id = self.last_id;
        for _ in 0..=self.sent.len() {
            packet_id = packet_id.checked_add(1).unwrap_or(1);
            if !self.sent.iter().any(|sent| sent.packet_id == packet_id) {
                self.last_id = packet_id;
                self.sent.push_back(Sent { packet_id, queued, stage: Stage::Published });
                return Some(packet_id);
            }
        }
        None
    }

    /// Ends the delivery of a message that was acknowledged: PUBACK for `QoS` 1, PUBCOMP or a
    /// failed PUBREC for `QoS` 2. `None` when there is no such message.
    pub(super) fn finish(&mut self, packet_id: u16, qos: QoS, stage: Stage) -> Option<Queued> {
        let place = self.sent.iter().position(|sent| sent.packet_id == packet_id)?;
        let fits = |sent: &Sent| sent.queued.qos == qos && sent.stage == stage;
        self.sent.get(place).filter(|sent| fits(sent))?;
        Some(self.sent.remove(place)?.queued)
    }

    /// PUBREC has come; tells whether there is such a message of `QoS` 2. PUBREL is due, also when
    /// it was sent before.
    pub(super) fn received(&mut self, packet_id: u16) -> bool {
        let sent = self
            .sent
            .iter_mut()
            .find(|sent| sent.packet_id == packet_id && sent.queued.qos == QoS::ExactlyOnce);
        sent.map(|sent| sent.stage = Stage::Released).is_some()
    }

    /// All, to be sent again in their order when a session goes on (MQTT 5, section 4.4).
    pub(super) fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// Takes out what was sent and may not be sent again.
    pub(super) fn forbid(&mut self, forbidden: impl Fn(&str) -> bool) -> Vec<Sent> {
        let (out, stays): (Vec<_>, _) =
            std::mem::take(&mut self.sent).into_iter().partition(|sent| {
                sent.stage == Stage::Published && forbidden(&sent.queued.message.topic)
            });
        self.sent = stays.into();
        out
    }

    /// The client has gone: gives the messages of shared subscriptions back, but for those of
    /// `QoS` 2, which may have arrived and must not go to another client [MQTT-4.8.2-6].
    pub(super) fn release_shared(&mut self) {
        self.sent.retain(|sent| {
            let lease = sent.queued.lease.as_ref().filter(|lease| lease.group.is_some());
            match lease {
                Some(lease) if sent.queued.qos != QoS::ExactlyOnce => {
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
            if let Some(lease) = sent.queued.lease {
                lease.done();
            }
        }
    }
}
