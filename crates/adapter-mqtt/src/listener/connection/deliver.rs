use std::sync::Arc;

use transload_adapter::{
    Event,
    store::{Leased, StoreError},
};
use transload_envelope::Timestamp;

use super::{Connection, End, OUTPUT_BYTES_MAX};
use crate::{
    codec::{self, Ack, AckKind, PublishHead, QoS, Reason},
    listener::{
        broker::expired,
        outgoing::Stage,
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
            let Some(queued) = self.claim.session.take(self.window() > 0) else { return };
            self.send(&queued);
        }
    }

    /// How many more messages of `QoS` 1 and 2 the client takes.
    fn window(&self) -> usize {
        self.client.window.saturating_sub(self.claim.state.in_flight.len())
    }

    /// Begins to wait for the session's queue while the client takes more.
    pub(super) fn want_lease(&mut self) {
        if self.lease.is_some()
            || self.leaving.is_some()
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
            if let Some(queued) = stored::queued(&leased.outgoing) {
                self.send(&Queued { lease: Some(lease), ..queued });
            } else {
                self.broker.count(Event::MessageDropped, 1);
                lease.done();
            }
        }
        Ok(())
    }

    /// Sends one message for the first time.
    fn send(&mut self, queued: &Queued) {
        if expired(&queued.message) {
            self.broker.count(Event::MessageExpired, 1);
            done(queued);
            return;
        }
        if !self.client.permit.may_receive(&queued.message.topic) {
            self.withhold(queued);
            return;
        }
        if queued.qos == QoS::AtMostOnce {
            if !self.write(queued, 0, false) {
                self.broker.count(Event::MessageDropped, 1);
            }
            done(queued);
            return;
        }
        let qos = queued.qos;
        let Some(packet_id) = self.claim.state.in_flight.add(queued.clone()) else { return };
        if !self.write(queued, packet_id, false) {
            // The client takes no packet of this size: as if it had been sent [MQTT-3.1.2-25].
            self.broker.count(Event::MessageDropped, 1);
            self.claim.state.in_flight.finish(packet_id, qos, Stage::Published);
            done(queued);
        }
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
        let mut in_flight = std::mem::take(&mut self.claim.state.in_flight);
        let permit = Arc::clone(&self.client.permit);
        for sent in in_flight.forbid(|topic| !permit.may_receive(topic)) {
            self.withhold(&sent.queued);
        }
        for sent in in_flight.iter() {
            match sent.stage {
                // A message that the client does not take any more stays unacknowledged until the
                // session ends; its size cannot have changed.
                Stage::Published => drop(self.write(&sent.queued, sent.packet_id, true)),
                Stage::Released => self.write_ack(AckKind::PubRel, sent.packet_id, Reason::SUCCESS),
            }
        }
        self.claim.state.in_flight = in_flight;
    }

    pub(super) fn write_ack(&mut self, kind: AckKind, packet_id: u16, reason: Reason) {
        let ack = Ack { kind, packet_id, reason };
        codec::puback(self.io.output.buffer(), self.client.version, ack, None);
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP from the client.
    pub(super) fn on_ack(&mut self, ack: Ack) {
        let id = ack.packet_id;
        let in_flight = &mut self.claim.state.in_flight;
        let finished = match ack.kind {
            AckKind::PubAck => in_flight.finish(id, QoS::AtLeastOnce, Stage::Published),
            AckKind::PubComp => in_flight.finish(id, QoS::ExactlyOnce, Stage::Released),
            AckKind::PubRec if ack.reason.is_failure() => {
                in_flight.finish(id, QoS::ExactlyOnce, Stage::Published)
            }
            AckKind::PubRec => {
                let known = in_flight.received(id);
                let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                self.write_ack(AckKind::PubRel, id, reason);
                None
            }
            AckKind::PubRel => {
                let known = self.claim.state.incoming.release(id);
                let reason = if known { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND };
                self.write_ack(AckKind::PubComp, id, reason);
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
}

/// The message leaves the queue that it came from.
fn done(queued: &Queued) {
    if let Some(lease) = &queued.lease {
        lease.done();
    }
}
