use std::sync::Arc;

use async_trait::async_trait;
use transload_adapter::{
    Destination, Event, Outbound, Replies, RequestError, SendError, Sent,
    store::{Append, StoreError},
};
use transload_envelope::{Arguments, Envelope, Outgoing, Text};

use super::{
    Closing,
    broker::{self, Broker},
    config::Target,
};
use crate::{codec::QoS, mapping, message::Message, request, topic};

/// What routes send to the devices that have subscribed to it.
pub(super) struct DeviceOutbound {
    broker: Arc<Broker>,
    _closing: Closing,
}

impl DeviceOutbound {
    pub(super) fn new(broker: Arc<Broker>, closing: Closing) -> Self {
        Self { broker, _closing: closing }
    }

    fn message(target: &Target, outgoing: &Outgoing) -> Result<Message, SendError> {
        let envelope = &outgoing.envelope;
        let topic = topic::of(outgoing, target.topic.as_deref(), "the listener's own")?;
        let properties = envelope.properties();
        let qos = match target.qos.and_then(QoS::from_bits) {
            Some(qos) => qos,
            None if properties.durable == Some(false) => QoS::AtMostOnce,
            None => QoS::AtLeastOnce,
        };
        let retain = target.retain.unwrap_or(properties.retain);
        mapping::from_envelope(envelope, topic, qos, retain)
            .map_err(|error| SendError::Rejected { reason: error.to_string().into() })
    }

    /// Publishes one message; what is to be stored for its receivers goes into the batch.
    fn publish(
        &self,
        message: &Arc<Message>,
        outgoing: &Outgoing,
        batch: &mut Vec<Append>,
    ) -> Result<Sent, SendError> {
        if broker::expired(message) {
            self.broker.count(Event::MessageExpired, 1);
            return Ok(Sent::NoReceiver);
        }
        let fan_out = self.broker.fan_out(message, None, false);
        if !fan_out.queues.is_empty() {
            batch.push(broker::append(outgoing.envelope.clone(), fan_out.queues));
        }
        if fan_out.receivers > 0 || message.retain {
            Ok(Sent::Confirmed)
        } else if fan_out.full > 0 && message.qos != QoS::AtMostOnce {
            // One device that is away for long must not hold up the others, so this is no «busy».
            Err(SendError::Failed { reason: "every subscriber's queue is full".into() })
        } else {
            Ok(Sent::NoReceiver)
        }
    }
}

impl DeviceOutbound {
    /// Publishes one message and resolves when its receivers have it.
    async fn hand_out(&self, message: Message, envelope: Envelope) -> Result<Sent, SendError> {
        let mut appends = Vec::new();
        let outgoing = Outgoing { envelope, arguments: Arguments::default() };
        let sent = self.publish(&Arc::new(message), &outgoing, &mut appends)?;
        if !appends.is_empty() {
            let stored = self.broker.context.store.append_durably(appends).await;
            stored.map_err(|error| store_error(&error))?;
        }
        Ok(sent)
    }
}

#[async_trait]
impl Outbound<Target> for DeviceOutbound {
    async fn send(
        &self,
        to: Destination<'_, Target>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let mut appends = Vec::new();
        let mut retained = Vec::new();
        let mut results = Vec::with_capacity(batch.len());
        for (place, outgoing) in batch.iter().enumerate() {
            results.push(Self::message(to.target, outgoing).and_then(|message| {
                let message = Arc::new(message);
                let sent = self.publish(&message, outgoing, &mut appends)?;
                if message.retain {
                    retained.push((place, message));
                }
                Ok(sent)
            }));
        }
        if !appends.is_empty()
            && let Err(error) = self.broker.context.store.append_durably(appends).await
        {
            // Which of them went into a queue is not known, so all are sent again.
            return batch.iter().map(|_| Err(store_error(&error))).collect();
        }
        for (place, message) in retained {
            if let Err(reason) = self.broker.retain(&message).await
                && let Some(result) = results.get_mut(place)
            {
                *result = Err(SendError::Failed { reason: Text::from_static(reason) });
            }
        }
        results
    }

    async fn request(
        &self,
        to: Destination<'_, Target>,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let question = self.broker.requests.ask(message, to.target.replies_by(), replies)?;
        let mut outgoing = question.outgoing.clone();
        // A device that is away is told so at once, and nothing waits for it.
        outgoing.envelope.properties_mut().durable = Some(false);
        let mut message = Self::message(to.target, &outgoing)?;
        message.topic = question.fill(&message.topic);
        message.retain = false;
        if self.hand_out(message, outgoing.envelope).await? == Sent::NoReceiver {
            let reason = "no device that is there has subscribed to the topic";
            return Err(RequestError::NoResponder { reason: reason.into() });
        }
        self.broker.closing.cancelled().await;
        Err(RequestError::Disconnected("the listener closes".into()))
    }

    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError> {
        let rejected = |reason: String| SendError::Rejected { reason: reason.into() };
        let topic = request::answer_topic(request).map_err(|reason| rejected(reason.to_owned()))?;
        let message = mapping::from_envelope(answer, topic, QoS::AtLeastOnce, false);
        let message = message.map_err(|error| rejected(error.to_string()))?;
        self.hand_out(message, answer.clone()).await
    }

    async fn close(&self) {
        // Everything is in the sessions' hands; what their clients have not acknowledged is sent
        // again when they come back.
        self.broker.closing.cancel();
    }
}

fn store_error(error: &StoreError) -> SendError {
    match error {
        StoreError::Full(_) => SendError::Busy { after: None, reason: error.to_string().into() },
        StoreError::Failed(_) | StoreError::Closed => {
            SendError::Failed { reason: error.to_string().into() }
        }
    }
}
