//! Messages to NATS.
//!
//! Invariants:
//! - A message counts as confirmed when its stream has stored it, or, for a core subject, when the
//!   server has read it.
//! - Batches are handed to the client one after the other in the order in which `send` was first
//!   polled; only then do they wait for their confirmations, side by side.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap, Subject,
    client::traits::Publisher,
    jetstream::{
        self,
        context::{ContextBuilder, PublishAckFuture, PublishErrorKind},
    },
    message::OutboundMessage,
};
use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use transload_adapter::{Destination, Outbound, SendError, Sent};
use transload_envelope::{Outgoing, Timestamp};

use crate::{
    config::{NatsConfig, NatsTarget},
    error,
    link::Link,
    mapping::{self, AddressMapping, SubjectError, check_subject, is_internal},
    probe::{Probe, Proof},
};

/// How many messages may wait for the confirmation of a stream on one connection.
const UNCONFIRMED_MAX: usize = 16_384;

/// Publishes over one connection.
pub(crate) struct NatsOutbound {
    client: Client,
    jetstream: jetstream::Context,
    link: Arc<Link>,
    /// Absent where the server does not let us talk to ourselves.
    probe: Option<Probe>,
    mapping: AddressMapping,
    confirm_timeout: Duration,
    /// Held while a batch is handed over. A Tokio mutex lets waiters in by their order.
    order: Mutex<()>,
}

/// A message that is ready to be handed to the client.
struct Ready {
    subject: Subject,
    reply: Option<Subject>,
    headers: HeaderMap,
}

impl NatsOutbound {
    pub(crate) fn new(
        client: &Client,
        link: &Arc<Link>,
        probe: Option<Probe>,
        config: &NatsConfig,
    ) -> Self {
        let jetstream = ContextBuilder::new()
            .timeout(config.confirm_timeout.get())
            .ack_timeout(config.confirm_timeout.get())
            .max_ack_inflight(UNCONFIRMED_MAX)
            // A stream that does not answer must not hold up what is meant for others.
            .backpressure_on_inflight(false)
            .build(client.clone());
        Self {
            client: client.clone(),
            jetstream,
            link: Arc::clone(link),
            probe,
            mapping: config.address_mapping,
            confirm_timeout: config.confirm_timeout.get(),
            order: Mutex::new(()),
        }
    }

    fn prepare(&self, target: &NatsTarget, message: &Outgoing) -> Result<Ready, SendError> {
        let subject = subject(target, message, self.mapping)
            .map_err(|error| SendError::Rejected { reason: error.to_string().into() })?;
        if self.link.is_denied(&subject) {
            return Err(denied(&subject));
        }
        let how = mapping::Outbound {
            jetstream: target.jetstream,
            ttl: target.ttl,
            stream: target.stream.as_deref(),
            mapping: self.mapping,
        };
        let (headers, reply) = mapping::outgoing(&message.envelope, how, Timestamp::now());
        Ok(Ready { subject: subject.into(), reply, headers })
    }

    async fn send_core(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let mut results = Vec::with_capacity(batch.len());
        let order = self.order.lock().await;
        for message in batch {
            results.push(self.publish(target, message).await);
        }
        drop(order);
        if results.iter().all(Result::is_err) {
            return results.into_iter().map(|result| result.map(|_| Sent::Unconfirmed)).collect();
        }
        let proof = match &self.probe {
            Some(probe) => Some(self.unless_lost(probe.prove(self.confirm_timeout)).await),
            None => None,
        };
        let verdict = |result: Result<Subject, SendError>| match (result?, proof) {
            (subject, _) if self.link.is_denied(&subject) => Err(denied(&subject)),
            (_, Some(Proof::Read)) => Ok(Sent::Confirmed),
            (_, None) => Ok(Sent::Unconfirmed),
            (_, Some(Proof::Lost)) => Err(SendError::Disconnected(self.link.reason())),
            (_, Some(Proof::Silent)) => Err(SendError::Busy {
                after: None,
                reason: "the server has not read the messages in time".into(),
            }),
        };
        results.into_iter().map(verdict).collect()
    }

    async fn publish(&self, target: &NatsTarget, message: &Outgoing) -> Result<Subject, SendError> {
        let ready = self.prepare(target, message)?;
        let subject = ready.subject.clone();
        let message = OutboundMessage {
            subject: ready.subject,
            reply: ready.reply,
            payload: message.envelope.payload.clone(),
            headers: Some(ready.headers),
        };
        self.client.publish_message(message).await.map_err(error::publish)?;
        Ok(subject)
    }

    /// A lost connection ends every wait on it.
    async fn unless_lost(&self, proof: impl Future<Output = Proof>) -> Proof {
        tokio::select! {
            proof = proof => proof,
            () = self.link.lost() => Proof::Lost,
        }
    }

    async fn send_stream(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let mut pending = Vec::with_capacity(batch.len());
        let order = self.order.lock().await;
        for message in batch {
            pending.push(self.publish_stream(target, message).await);
        }
        drop(order);
        let end = Instant::now() + self.confirm_timeout;
        let mut results = Vec::with_capacity(batch.len());
        for one in pending {
            results.push(match one {
                Ok((subject, confirmation)) => self.confirmed(&subject, confirmation, end).await,
                Err(error) => Err(error),
            });
        }
        settle_missing_streams(&mut results);
        results
    }

    async fn publish_stream(
        &self,
        target: &NatsTarget,
        message: &Outgoing,
    ) -> Result<(Subject, PublishAckFuture), SendError> {
        let ready = self.prepare(target, message)?;
        let publish = jetstream::message::PublishMessage::build()
            .payload(message.envelope.payload.clone())
            .headers(ready.headers);
        let confirmation = self.jetstream.send_publish(ready.subject.clone(), publish).await;
        Ok((ready.subject, confirmation.map_err(error::stream_publish)?))
    }

    /// Waits for one confirmation. All of a batch share one end, so that a stream that has fallen
    /// silent costs the time-out once.
    async fn confirmed(
        &self,
        subject: &Subject,
        confirmation: PublishAckFuture,
        end: Instant,
    ) -> Result<Sent, SendError> {
        let answer = tokio::select! {
            biased;
            answer = timeout_at(end, confirmation.into_future()) => answer,
            () = self.link.lost() => return Err(SendError::Disconnected(self.link.reason())),
        };
        let answer = answer.unwrap_or_else(|_| {
            Err(jetstream::context::PublishError::new(PublishErrorKind::TimedOut))
        });
        match answer {
            // A duplicate is in the stream too: this is a message that was sent before.
            Ok(_stored_or_duplicate) => Ok(Sent::Confirmed),
            Err(_) if self.link.is_lost() => Err(SendError::Disconnected(self.link.reason())),
            Err(_) if self.link.is_denied(subject) => Err(denied(subject)),
            Err(error) => Err(error::stream_publish(error)),
        }
    }
}

#[async_trait]
impl Outbound<NatsTarget> for NatsOutbound {
    async fn send(
        &self,
        to: Destination<'_, NatsTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        if to.target.jetstream {
            self.send_stream(to.target, batch).await
        } else {
            self.send_core(to.target, batch).await
        }
    }

    async fn close(&self) {
        let order = self.order.lock().await;
        let flush = self.client.flush();
        if timeout(self.confirm_timeout, flush).await.is_err() {
            tracing::debug!("the connection to NATS closes with unsent bytes");
        }
        drop(order);
    }
}

/// The subject for a message: what the rule made, the target's own, or what follows from the
/// address.
pub(crate) fn subject(
    target: &NatsTarget,
    message: &Outgoing,
    mapping: AddressMapping,
) -> Result<String, SubjectError> {
    if let Some(given) =
        message.arguments.get("subject").map(|text| &**text).or(target.subject.as_deref())
    {
        check_subject(given)?;
        return Ok(given.to_owned());
    }
    let subject = mapping.subject(&message.envelope.address)?;
    // A reply goes to somebody's inbox only where a rule says so.
    if is_internal(&subject, None) {
        return Err(SubjectError::Internal(subject));
    }
    Ok(subject)
}

/// Tells a subject without a stream from a server whose stream is not there yet.
///
/// When the server stored other messages of the batch, it is the message that has no place, and
/// holding everything for it would wedge the queue.
fn settle_missing_streams(results: &mut [Result<Sent, SendError>]) {
    if !results.iter().any(|result| matches!(result, Ok(Sent::Confirmed))) {
        return;
    }
    for result in results {
        if let Err(SendError::Busy { reason, .. }) = result {
            let reason = reason.clone();
            *result = Err(SendError::Failed { reason });
        }
    }
}

fn denied(subject: &str) -> SendError {
    SendError::Failed {
        reason: format!("the server does not permit publishing to {subject}").into(),
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{Arguments, Envelope, Origin};

    use super::*;

    fn message(address: &str, argument: Option<&str>) -> Outgoing {
        let mut arguments = Arguments::default();
        if let Some(text) = argument {
            arguments.push("subject", text);
        }
        let envelope = Envelope::new(Origin::new("web", "http", address), "x");
        Outgoing { envelope, arguments }
    }

    #[test]
    fn the_subject_comes_from_the_rule_then_the_target_then_the_address() {
        let fixed = NatsTarget { subject: Some("fixed".into()), ..NatsTarget::default() };
        let open = NatsTarget::default();
        for (target, address, argument, wanted) in [
            (&fixed, "a/b", Some("made.x"), Ok("made.x")),
            (&fixed, "a/b", None, Ok("fixed")),
            (&open, "a/b", None, Ok("a.b")),
            (&open, "_INBOX/x", None, Err(())),
            (&open, "_INBOX/x", Some("_INBOX.x"), Ok("_INBOX.x")),
            (&open, "$JS/API/STREAM/DELETE/ORDERS", None, Err(())),
            (&open, "a", Some("$JS.API.STREAM.DELETE.ORDERS"), Err(())),
            (&open, "a/*", None, Err(())),
            (&open, "a", Some("a.>"), Err(())),
        ] {
            let got = subject(target, &message(address, argument), AddressMapping::Nats);
            assert_eq!(got.as_deref().map_err(|_| ()), wanted, "{address} {argument:?}");
        }
    }

    #[test]
    fn a_missing_stream_holds_everything_unless_others_went_through() {
        let busy = || Err(SendError::Busy { after: None, reason: "no stream".into() });
        let mut all = [busy(), busy()];
        settle_missing_streams(&mut all);
        assert!(all.iter().all(|one| matches!(one, Err(SendError::Busy { .. }))));
        let mut mixed = [Ok(Sent::Confirmed), busy()];
        settle_missing_streams(&mut mixed);
        assert!(matches!(mixed, [Ok(Sent::Confirmed), Err(SendError::Failed { .. })]));
    }
}
