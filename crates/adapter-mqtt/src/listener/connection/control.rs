use transload_adapter::Event;
use transload_envelope::Text;

use super::{Connection, End};
use crate::{
    codec::{
        self, Disconnect, Packet, QoS, Reason, RetainHandling, Subscribe, SubscribeOptions,
        Unsubscribe, Version,
    },
    listener::{broker, session::Queued, stored, subscriptions::Subscription},
    topic::Filter,
};

impl Connection {
    pub(super) async fn on_packet(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish),
            Packet::Ack(ack) => {
                self.on_ack(ack);
                Ok(())
            }
            Packet::PingReq => {
                codec::pingresp(self.io.output.buffer());
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.on_subscribe(subscribe).await,
            Packet::Unsubscribe(unsubscribe) => {
                self.on_unsubscribe(unsubscribe).await;
                Ok(())
            }
            Packet::Disconnect(disconnect) => Err(self.on_disconnect(disconnect)),
            Packet::Connect(_) => Err(Self::fault(Reason::PROTOCOL_ERROR, "a second CONNECT")),
            Packet::Auth => {
                Err(Self::fault(Reason::PROTOCOL_ERROR, "AUTH without enhanced authentication"))
            }
        }
    }

    async fn on_subscribe(&mut self, subscribe: Subscribe) -> Result<(), End> {
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let mut retained = Vec::new();
        for (text, options) in subscribe.filters {
            let Some(filter) = Filter::parse(&text) else {
                codes.push(Reason::TOPIC_FILTER_INVALID);
                continue;
            };
            if filter.group.is_some() && options.no_local {
                return Err(Self::fault(
                    Reason::PROTOCOL_ERROR,
                    "No Local on a shared subscription",
                ));
            }
            if !self.client.permit.may_subscribe(&filter.pattern) {
                self.broker.count(Event::SubscriptionRefused, 1);
                codes.push(Reason::NOT_AUTHORIZED);
                continue;
            }
            let subscription = Subscription { options, id: subscribe.subscription_id };
            match self.subscribe(&text, &filter, subscription).await {
                Ok(new) => {
                    codes.push(Reason(options.qos.bits()));
                    if wants_retained(&filter, options, new) {
                        retained.push((filter, subscription));
                    }
                }
                Err(reason) => codes.push(reason),
            }
        }
        codec::suback(self.io.output.buffer(), self.client.version, subscribe.packet_id, &codes);
        for (filter, subscription) in retained {
            self.send_retained(&filter, subscription).await;
        }
        Ok(())
    }

    /// Adds one subscription; tells whether it is new.
    async fn subscribe(
        &mut self,
        text: &Text,
        filter: &Filter,
        subscription: Subscription,
    ) -> Result<bool, Reason> {
        let broker = &self.broker;
        let session = &self.claim.session;
        let subscriptions = &mut self.claim.state.subscriptions;
        let new = !subscriptions.contains_key(text);
        let many = subscriptions.len() >= broker.config.max_subscriptions
            || broker.subscriptions.count() >= broker.config.max_subscriptions_in_all;
        if new && many {
            broker.count(Event::SubscriptionRefused, 1);
            return Err(Reason::QUOTA_EXCEEDED);
        }
        let failed = |error: transload_adapter::store::StoreError| {
            tracing::warn!(%error, filter = %text, "A subscription was not stored.");
            Reason::UNSPECIFIED
        };
        if session.queue.is_some() {
            let stored = broker.table.subscribe(&session.client_id, text, subscription).await;
            stored.map_err(failed)?;
        }
        subscriptions.insert(text.clone(), (filter.clone(), subscription));
        let added = broker.subscriptions.add(filter, session, subscription, &broker.context).await;
        added.map_err(failed)?;
        Ok(new)
    }

    /// Retained messages go the way of all others: those that are to outlive the connection into
    /// the session's queue, whose bound does not count here, since the store of retained messages
    /// has one.
    async fn send_retained(&mut self, filter: &Filter, subscription: Subscription) {
        let messages = self.broker.retained.matching(&filter.pattern);
        let count = messages.len() as u64;
        let session = &self.claim.session;
        let (stored, direct): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .map(|message| Queued {
                qos: subscription.options.qos.min(message.qos),
                retain: true,
                subscription_ids: subscription.id.into_iter().collect(),
                lease: None,
                message,
            })
            .partition(|queued| session.queue.is_some() && queued.qos != QoS::AtMostOnce);
        session.offer_retained(direct.into_iter());
        let Some(queue) = session.queue.as_ref().filter(|_| !stored.is_empty()) else { return };
        let appends = stored.iter().map(|queued| {
            let Queued { message, qos, retain, subscription_ids, .. } = queued;
            let arguments = stored::arguments(message, *qos, *retain, subscription_ids, true);
            let envelope = stored::verbatim(message, &self.broker.context.name);
            broker::append(envelope, vec![(queue.id(), arguments)])
        });
        if let Err(error) = self.broker.context.store.append(appends.collect()).await {
            tracing::warn!(connection = ?self, %error, "Retained messages were not stored for a client.");
            self.broker.count(Event::MessageDropped, count);
        }
    }

    async fn on_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        for text in unsubscribe.filters {
            let broker = &self.broker;
            let session = &self.claim.session;
            let Some((filter, _)) = self.claim.state.subscriptions.remove(&text) else {
                codes.push(Reason::NO_SUBSCRIPTION_EXISTED);
                continue;
            };
            broker.subscriptions.remove(&filter, session, &broker.context).await;
            if session.queue.is_some()
                && let Err(error) = broker.table.unsubscribe(&session.client_id, &text).await
            {
                tracing::warn!(%error, filter = %text, "A subscription stays stored.");
            }
            codes.push(Reason::SUCCESS);
        }
        codec::unsuback(
            self.io.output.buffer(),
            self.client.version,
            unsubscribe.packet_id,
            &codes,
        );
    }

    fn on_disconnect(&mut self, disconnect: Disconnect) -> End {
        if let Some(seconds) = disconnect.session_expiry_s {
            if seconds > 0 && self.client.expires_at_once {
                return Self::fault(
                    Reason::PROTOCOL_ERROR,
                    "a session that ends with its connection cannot be kept after all",
                );
            }
            self.claim.keep_for = self.broker.keep_for(seconds);
        }
        // Every reason but «normal» leaves the will standing, 0x04 in so many words.
        let will = disconnect.reason != Reason::SUCCESS;
        End::Disconnected { will: will && self.client.version == Version::V5 }
    }
}

/// Whether a new or changed subscription is to be given the retained messages (MQTT 5, section
/// 3.8.3.1); shared ones never are.
fn wants_retained(filter: &Filter, options: SubscribeOptions, new: bool) -> bool {
    filter.group.is_none()
        && match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        }
}
