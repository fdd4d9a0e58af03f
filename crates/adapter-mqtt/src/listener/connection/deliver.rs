use std::sync::Arc;

use transload_adapter::{
    Event,
    store::{Leased, Position, StoreError},
};
use transload_envelope::Timestamp;

use super::{Connection, End, OUTPUT_BYTES_MAX};
use crate::{
    codec::{self, Ack, AckKind, PublishHead, QoS, Reason},
    listener::{
        broker::expired,
        outgoing::{Again, Received},
        packets::Fact,
        session::{Lease, Queued},
        stored,
    },
};

/// How many messages and bytes are taken from the session's queue at a time.
const LEASE_MESSAGES: usize = 64;
const LEASE_BYTES: usize = 1 << 20;

impl Connection {
    /// Sends from the outbox as far as the client's window and the write buffer allow; what is left
    /// is sent when the client has acknowledged or read more.
    pub(super) fn deliver(&mut self) {
        while self.leaving.is_none() && self.io.output.len() < OUTPUT_BYTES_MAX {
            let open = self.window() > 0 && self.send_held();
            let Some(queued) = self.claim.session.take(open) else { return };
            if !self.send(&queued) {
                self.claim.state.held.push_back(queued);
            }
        }
    }

    /// Sends what was held up; false when its identifier is still in use.
    fn send_held(&mut self) -> bool {
        while let Some(queued) = self.claim.state.held.pop_front() {
            if !self.send(&queued) {
                self.claim.state.held.push_front(queued);
                return false;
            }
        }
        true
    }

    /// How many more messages of `QoS` 1 and 2 the client takes.
    fn window(&self) -> usize {
        self.client.window.saturating_sub(self.claim.state.in_flight.len())
    }

    /// Begins to wait for the session's queue while the client takes more.
    pub(super) fn want_lease(&mut self) {
        if self.lease.is_some()
            || self.leaving.is_some()
            || !self.claim.state.held.is_empty()
            || self.io.output.len() >= OUTPUT_BYTES_MAX
        {
            return;
        }
        let window = self.window().min(LEASE_MESSAGES);
        if let Some(queue) = self.claim.session.queue.clone().filter(|_| window > 0) {
            self.lease = Some(Box::pin(async move { queue.lease(window, LEASE_BYTES).await }));
        }
    }

    pub(super) fn on_leased(&mut self, leased: Result<Vec<Leased>, StoreError>) -> Result<(), End> {
        let leased = leased.map_err(|error| {
            tracing::warn!(connection = ?self, %error, "A session's queue cannot be read.");
            Self::fault(Reason::SERVER_UNAVAILABLE, "the session's queue cannot be read")
        })?;
        let Some(queue) = self.claim.session.queue.clone() else { return Ok(()) };
        for leased in leased {
            let lease = Lease { queue: Arc::clone(&queue), position: leased.position, group: None };
            if self.claim.state.in_flight.is_finished(leased.position) {
                lease.done();
            } else if let Some(queued) = stored::queued(&leased.outgoing) {
                let queued = Queued { lease: Some(lease), ..queued };
                if !self.claim.state.held.is_empty() || !self.send(&queued) {
                    self.claim.state.held.push_back(queued);
                }
            } else {
                self.broker.count(Event::MessageDropped, 1);
                lease.done();
            }
        }
        Ok(())
    }

    /// Sends one message for the first time; false when its packet identifier is in use.
    fn send(&mut self, queued: &Queued) -> bool {
        if expired(&queued.message) {
            self.broker.count(Event::MessageExpired, 1);
            done(queued);
            return true;
        }
        if !self.client.permit.may_receive(&queued.message.topic) {
            self.withhold(queued);
            return true;
        }
        if queued.qos == QoS::AtMostOnce {
            if !self.write(queued, 0, false) {
                self.broker.count(Event::MessageDropped, 1);
            }
            done(queued);
            return true;
        }
        let in_flight = &mut self.claim.state.in_flight;
        let Some(packet_id) = in_flight.add(queued.clone()) else { return false };
        let dup = in_flight.is_doubtful(queued);
        if !self.write(queued, packet_id, dup) {
            // The client takes no packet of this size: as if it had been sent [MQTT-3.1.2-25].
            self.broker.count(Event::MessageDropped, 1);
            self.claim.state.in_flight.finish(packet_id, queued.qos);
            done(queued);
        }
        true
    }

    /// Does not send what the client may not have any more.
    fn withhold(&self, queued: &Queued) {
        tracing::debug!(connection = ?self, topic = %queued.message.topic, "A message was withheld.");
        match &queued.lease {
            Some(lease) if lease.group.is_some() => lease.release(),
            Some(_) | None => {
                self.broker.count(Event::MessageDropped, 1);
                done(queued);
            }
        }
    }

    /// Writes PUBLISH; false when the client takes no packet of this size.
    fn write(&mut self, queued: &Queued, packet_id: u16, dup: bool) -> bool {
        let message = &queued.message;
        let head = PublishHead {
            dup,
            qos: queued.qos,
            retain: queued.retain,
            packet_id,
            topic: &message.topic,
            expiry_s: message.expiry_s(Timestamp::now()),
            subscription_ids: &queued.subscription_ids,
            properties: message.properties.as_deref(),
            payload_bytes: message.payload.len(),
        };
        let output = &mut self.io.output;
        let version = self.client.version;
        let written =
            codec::publish_head(output.buffer(), version, &head, self.client.packet_bytes_max);
        if written.is_some() {
            output.payload(&message.payload);
        }
        written.is_some()
    }

    /// The session goes on: sends what was not acknowledged again, in order [MQTT-4.4.0-1].
    pub(super) fn repeat(&mut self) {
        let permit = Arc::clone(&self.client.permit);
        for queued in self.claim.state.in_flight.forbid(|topic| !permit.may_receive(topic)) {
            self.withhold(&queued);
        }
        let again: Vec<_> = self.claim.state.in_flight.again().collect();
        for again in again {
            match again {
                // A message that the client does not take any more stays unacknowledged until the
                // session ends; its size cannot have changed.
                Again::Publish(packet_id, queued) => drop(self.write(&queued, packet_id, true)),
                Again::ReleaseDurably(packet_id, position) => self.release(packet_id, position),
                Again::Release(packet_id) => self.say_release(packet_id, Reason::SUCCESS),
            }
            // In one order with the messages, as far as nothing has to be stored first.
            self.say_what_may_be_said();
        }
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP from the client.
    pub(super) fn on_ack(&mut self, ack: Ack) {
        let id = ack.packet_id;
        let in_flight = &mut self.claim.state.in_flight;
        let finished = match ack.kind {
            AckKind::PubAck => in_flight.finish(id, QoS::AtLeastOnce),
            AckKind::PubRec if ack.reason.is_failure() => in_flight.finish(id, QoS::ExactlyOnce),
            AckKind::PubRec => {
                self.on_received(id);
                None
            }
            AckKind::PubComp => {
                if in_flight.complete(id) {
                    self.step(Some(Fact::Completed(id)), None);
                }
                None
            }
            AckKind::PubRel => {
                let known = self.claim.state.incoming.release(id);
                let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                let comp = Ack { kind: AckKind::PubComp, packet_id: id, reason };
                // Also when it is not known: the last PUBCOMP may not have been durable.
                self.step(Some(Fact::Forgotten(id)), Some((comp, None)));
                None
            }
        };
        if let Some(queued) = finished {
            if ack.reason.is_failure() {
                tracing::debug!(connection = ?self, reason = %ack.reason, "A client refused a message.");
                self.broker.count(Event::MessageDropped, 1);
            }
            done(&queued);
        }
    }

    fn on_received(&mut self, id: u16) {
        match self.claim.state.in_flight.received(id) {
            Received::First(position) => self.release(id, position),
            Received::Waits => {}
            Received::Again => self.say_release(id, Reason::SUCCESS),
            Received::Unknown => self.say_release(id, Reason::PACKET_ID_NOT_FOUND),
        }
    }

    /// Sends PUBREL, for a message of the queue once it is durable that it is the client's.
    fn release(&mut self, id: u16, position: Option<Position>) {
        if let Some(position) = position {
            let rel = Ack { kind: AckKind::PubRel, packet_id: id, reason: Reason::SUCCESS };
            self.step(Some(Fact::Released(id, position)), Some((rel, None)));
        } else {
            if let Some(queued) = self.claim.state.in_flight.release(id) {
                done(&queued);
            }
            self.say_release(id, Reason::SUCCESS);
        }
    }

    fn say_release(&mut self, id: u16, reason: Reason) {
        let rel = Ack { kind: AckKind::PubRel, packet_id: id, reason };
        self.step(None, Some((rel, None)));
    }
}

/// The message leaves the queue that it came from.
pub(super) fn done(queued: &Queued) {
    if let Some(lease) = &queued.lease {
        lease.done();
    }
}
