use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc::OwnedPermit};
use transload_adapter::{
    Delivery, Event, Receipt, Settlement,
    store::{Append, AppendTo, SettleOn},
};
use transload_envelope::{Text, Timestamp};

use super::{Connection, End, handshake::TOPIC_ALIAS_MAX};
use crate::{
    codec::{self, Ack, AckKind, Fault, Publish, QoS, Reason, Version},
    listener::{fan_out::FanOut, incoming::Part, packets::Fact, session::Session, stored},
    mapping,
    message::Message,
    topic,
};

/// Room for one message on its way to the gateway.
pub(super) struct Slot {
    credit: OwnedSemaphorePermit,
    place: OwnedPermit<Delivery>,
}

/// A Response Topic is a topic name [MQTT-3.3.2-14].
pub(super) fn check_response_topic(publish: &Publish) -> Result<(), Fault> {
    let response =
        publish.properties.as_ref().and_then(|properties| properties.response_topic.as_ref());
    if response.is_some_and(|topic| !topic::is_valid_name(topic)) {
        return Err(Fault::protocol("the response topic is not valid"));
    }
    Ok(())
}

impl Connection {
    /// PUBLISH: checked here, handed over in [`Connection::dispatch_stalled`].
    pub(super) fn on_publish(&mut self, mut publish: Publish) -> Result<(), End> {
        self.resolve_alias(&mut publish)?;
        if !topic::is_valid_name(&publish.topic) {
            return Err(Self::fault(Reason::TOPIC_NAME_INVALID, "the topic name is not valid"));
        }
        check_response_topic(&publish).map_err(End::Fault)?;
        let incoming = &mut self.claim.state.incoming;
        if publish.qos == QoS::ExactlyOnce {
            let stalled = self.stalled.iter().any(|stalled| {
                stalled.qos == QoS::ExactlyOnce && stalled.packet_id == publish.packet_id
            });
            if stalled || incoming.is_pending(publish.packet_id) {
                return Ok(());
            }
            if incoming.is_received(publish.packet_id) {
                // The PUBREC was lost: it is sent again, and the message is not.
                let number = incoming.add(publish.packet_id, publish.qos, Reason::SUCCESS);
                incoming.wanted(number);
                return Ok(());
            }
        }
        if publish.qos != QoS::AtMostOnce && self.client.version == Version::V5 {
            let stalled = self.stalled.iter().filter(|stalled| stalled.qos != QoS::AtMostOnce);
            let unacknowledged = incoming.unacknowledged() + stalled.count();
            if unacknowledged >= self.broker.config.receive_maximum.into() {
                return Err(Self::fault(
                    Reason::RECEIVE_MAXIMUM_EXCEEDED,
                    "more unacknowledged messages than the receive maximum",
                ));
            }
        }
        let refused = if topic::is_reserved(&publish.topic) {
            Some(Reason::TOPIC_NAME_INVALID)
        } else if !self.client.permit.may_publish(&publish.topic)
            && !self.broker.requests.expects(&publish.topic)
        {
            Some(Reason::NOT_AUTHORIZED)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.refuse(&publish, reason);
            return Ok(());
        }
        self.stall(publish);
        self.dispatch_stalled();
        Ok(())
    }

    /// Turns a message away; a client of 3.1.1 cannot be told, and is acknowledged in its turn
    /// [MQTT-3.3.5-2].
    fn refuse(&mut self, publish: &Publish, reason: Reason) {
        tracing::debug!(connection = ?self, topic = %publish.topic, %reason, "A message was refused.");
        self.broker.count(Event::MessageRefused, 1);
        if publish.qos != QoS::AtMostOnce {
            self.claim.state.incoming.add(publish.packet_id, publish.qos, reason);
        }
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), End> {
        let Some(alias) = publish.topic_alias else { return Ok(()) };
        if alias > TOPIC_ALIAS_MAX {
            return Err(Self::fault(
                Reason::TOPIC_ALIAS_INVALID,
                "a topic alias above the maximum",
            ));
        }
        if publish.topic.is_empty() {
            let topic = self.aliases.get(&alias);
            let unknown = || Self::fault(Reason::PROTOCOL_ERROR, "an unknown topic alias");
            publish.topic = topic.cloned().ok_or_else(unknown)?;
        } else {
            self.aliases.insert(alias, publish.topic.clone());
        }
        Ok(())
    }

    /// Hands over what waits, as far as there is room.
    pub(super) fn dispatch_stalled(&mut self) {
        while let Some(publish) = self.stalled.front() {
            let full = self.claim.state.incoming.len() >= self.broker.config.receive_maximum.into();
            if full || self.pace.is_some() || self.broker.context.stop.is_cancelled() {
                return;
            }
            let slot = if self.broker.wanted_by_routes(&publish.topic) {
                let Some(slot) = self.free_slot() else { return };
                Some(slot)
            } else {
                None
            };
            if let Some(publish) = self.take_stalled() {
                self.dispatch(publish, slot);
            }
        }
    }

    fn free_slot(&self) -> Option<Slot> {
        // Who waits already is not to be overtaken.
        if self.slot.is_some() {
            return None;
        }
        let place = self.broker.deliveries.clone().try_reserve_owned().ok()?;
        Some(Slot { credit: self.broker.context.try_credit()?, place })
    }

    /// Begins to wait for room where something needs it.
    pub(super) fn want_slot(&mut self) {
        if self.slot.is_some() || self.gateway_gone || self.broker.context.stop.is_cancelled() {
            return;
        }
        let incoming = &self.claim.state.incoming;
        let retry = incoming.next_retry().is_some_and(|at| at <= tokio::time::Instant::now());
        if !retry && !self.front_waits_for_gateway() {
            return;
        }
        let deliveries = self.broker.deliveries.clone();
        let context = self.broker.context.clone();
        self.slot = Some(Box::pin(async move {
            let credit = context.credit().await?;
            let place = deliveries.reserve_owned().await.ok()?;
            Some(Slot { credit, place })
        }));
    }

    /// Whether the first that waits does so for the gateway, and for nothing else.
    fn front_waits_for_gateway(&self) -> bool {
        let full = self.claim.state.incoming.len() >= self.broker.config.receive_maximum.into();
        let wanted = |publish: &Publish| self.broker.wanted_by_routes(&publish.topic);
        !full && self.pace.is_none() && self.stalled.front().is_some_and(wanted)
    }

    fn stall(&mut self, publish: Publish) {
        self.stalled_bytes += publish.payload.len();
        self.stalled.push_back(publish);
    }

    fn take_stalled(&mut self) -> Option<Publish> {
        let publish = self.stalled.pop_front()?;
        self.stalled_bytes -= publish.payload.len();
        Some(publish)
    }

    /// There is room: for what was released first, then for what waits.
    pub(super) async fn on_slot(&mut self, slot: Option<Slot>) -> Result<(), End> {
        let Some(slot) = slot else {
            self.gateway_gone = true;
            return Ok(());
        };
        if let Some((number, tag, sender, envelope)) = self.claim.state.incoming.take_retry() {
            let receipt = Receipt::without_credit(tag, sender);
            slot.place.send(Delivery { envelope: envelope.clone(), receipt });
            self.claim.state.incoming.keep(number, envelope, slot.credit);
        } else if self.front_waits_for_gateway()
            && let Some(publish) = self.take_stalled()
        {
            self.dispatch(publish, Some(slot));
        }
        self.dispatch_stalled();
        self.finish_batch().await;
        Ok(())
    }

    /// Holds back what is published next, for a subscriber that has fallen behind.
    fn keep_pace(&mut self, session: Option<Arc<Session>>) {
        let most = self.broker.config.slow_subscriber_wait;
        if let Some(session) = session.filter(|_| !most.is_zero()) {
            self.pace = Some(Box::pin(async move { session.pace.wait(most.get()).await }));
        }
    }

    /// Nobody is waited for any more.
    pub(super) async fn on_paced(&mut self) -> Result<(), End> {
        self.dispatch_stalled();
        self.finish_batch().await;
        Ok(())
    }

    /// Gives a message to the listener's own sessions and to the routes.
    fn dispatch(&mut self, publish: Publish, slot: Option<Slot>) {
        let packet_id = publish.packet_id;
        let message = Arc::new(Message::from_publish(publish, Timestamp::now()));
        if self.broker.requests.take(&message) {
            if message.qos != QoS::AtMostOnce {
                let incoming = &mut self.claim.state.incoming;
                let number = incoming.add(packet_id, message.qos, Reason::SUCCESS);
                incoming.wanted(number);
            }
            return;
        }
        let local = self.broker.config.local;
        let mut fan_out = if local {
            self.broker.fan_out(&message, Some(&self.claim.session), true)
        } else {
            FanOut::default()
        };
        self.broker.count(Event::MessageLocal, fan_out.receivers);
        self.keep_pace(fan_out.behind.take());
        let retain = local && message.retain;
        if message.qos == QoS::AtMostOnce && slot.is_none() {
            if retain {
                self.to_retain.push((message, None));
            }
            return;
        }
        let incoming = &mut self.claim.state.incoming;
        let number = incoming.add(packet_id, message.qos, Reason::SUCCESS);
        // A retained message has found its place, whoever listens now.
        if fan_out.receivers > 0 || retain {
            incoming.wanted(number);
        } else if fan_out.full > 0 {
            incoming.nobody_has_room(number);
        }
        if !fan_out.queues.is_empty() {
            let (tag, sender) = incoming.open(number, Part::Sessions);
            let share = Receipt::without_credit(tag, sender).share();
            let to = fan_out.queues.into_iter().map(|(queue, arguments)| AppendTo {
                queue,
                arguments,
                share: Some((share.clone(), SettleOn::Stored)),
            });
            let envelope = stored::verbatim(&message, &self.broker.context.name);
            self.appends.push(Append { envelope, to: to.collect() });
            share.settle(Settlement::Accepted);
        }
        if let Some(slot) = slot {
            let (tag, sender) = incoming.open(number, Part::Routes);
            let envelope = mapping::to_envelope(&message, self.origin(&message));
            let receipt = Receipt::without_credit(tag, sender);
            slot.place.send(Delivery { envelope: envelope.clone(), receipt });
            self.claim.state.incoming.keep(number, envelope, slot.credit);
        }
        if retain {
            self.to_retain.push((message, Some(number)));
        }
    }

    /// Stores what a batch of packets has left to be stored, at once.
    pub(super) async fn finish_batch(&mut self) {
        if !self.appends.is_empty() {
            let appends = std::mem::take(&mut self.appends);
            if let Err(error) = self.broker.context.store.append(appends).await {
                // The receipts were released, so no publisher is told that it was stored.
                tracing::warn!(%error, "Messages for sessions were not stored.");
            }
        }
        for (message, number) in std::mem::take(&mut self.to_retain) {
            if let (Err(text), Some(number)) = (self.broker.retain(&message).await, number) {
                self.claim.state.incoming.failed(number, Reason::QUOTA_EXCEEDED, text);
            }
        }
    }

    /// Settlements have come.
    pub(super) fn on_settled(&mut self) -> Result<(), End> {
        for settled in std::mem::take(&mut self.settled) {
            self.claim.state.incoming.settle(settled);
        }
        self.dispatch_stalled();
        self.acknowledge()
    }

    /// Writes the acknowledgements that are due.
    pub(super) fn acknowledge(&mut self) -> Result<(), End> {
        while let Some(due) = self.claim.state.incoming.next_due() {
            let kind = match due.qos {
                QoS::AtMostOnce => {
                    self.count_refused(due.reason);
                    continue;
                }
                QoS::AtLeastOnce => AckKind::PubAck,
                QoS::ExactlyOnce => AckKind::PubRec,
            };
            self.count_refused(due.reason);
            let version = self.client.version;
            if version == Version::V311 && due.full {
                // There is no negative acknowledgement in 3.1.1, and a positive one would lose the
                // message. Closing makes the client send it again [MQTT-3.3.5-2].
                return Err(Self::fault(due.reason, "a queue is full"));
            }
            // What is refused for good is acknowledged to a client of 3.1.1, since sending it
            // again could not help, and counted.
            let text = due.text.as_ref().filter(|text| self.client.takes_text(text));
            let ack = Ack { kind, packet_id: due.packet_id, reason: due.reason };
            if kind == AckKind::PubRec {
                let fact = (!due.reason.is_failure()).then_some(Fact::Taken(due.packet_id));
                self.step(fact, Some((ack, text.cloned())));
            } else {
                codec::puback(self.io.output.buffer(), version, ack, text.map(Text::as_ref));
            }
        }
        Ok(())
    }

    fn count_refused(&self, reason: Reason) {
        let counted = [Reason::TOPIC_NAME_INVALID, Reason::NOT_AUTHORIZED].contains(&reason);
        if reason.is_failure() && !counted {
            self.broker.count(Event::MessageRefused, 1);
        }
    }
}
