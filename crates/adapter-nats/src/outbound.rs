//! Messages to NATS.
//!
//! Invariants:
//! - A message counts as confirmed when its stream has stored it, or, for a core subject, when the
//!   server has read it.
//! - Batches are handed to the client one after the other in the order in which `send` was first
//!   polled; only then do they wait for their confirmations, side by side.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_nats::{Client, HeaderMap, Subject, client::traits::Publisher, message::OutboundMessage};
use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use transload_adapter::{Context, Destination, Outbound, Replies, RequestError, SendError, Sent};
use transload_envelope::{Envelope, Outgoing, Timestamp, Value};

use crate::{
    config::{NatsConfig, NatsTarget},
    confirm::{Answer, Confirmations, Expected},
    error::{self, Loss},
    inbound::REPLY_ATTRIBUTE,
    link::Link,
    mapping::{self, AddressMapping, SubjectError, check_subject, is_internal},
    probe::{Probe, Proof},
    request::ReplyDesk,
};

/// How many subjects are remembered as permitted on one connection; each further one costs a second
/// round trip per batch.
const KNOWN_MAX: usize = 4_096;

/// Publishes over one connection.
pub(crate) struct NatsOutbound {
    client: Client,
    confirmations: Confirmations,
    link: Arc<Link>,
    /// Absent where the server does not let us talk to ourselves.
    probe: Option<Probe>,
    mapping: AddressMapping,
    confirm_timeout: Duration,
    /// Subjects that the server has taken messages for.
    known: std::sync::Mutex<HashSet<String>>,
    replies: ReplyDesk,
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
        context: &Context,
    ) -> Self {
        Self {
            client: client.clone(),
            confirmations: Confirmations::new(client, link, &context.tasks),
            link: Arc::clone(link),
            probe,
            mapping: config.address_mapping,
            confirm_timeout: config.confirm_timeout.get(),
            known: std::sync::Mutex::default(),
            replies: ReplyDesk::new(client, link, context, config.address_mapping),
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
            results.push(self.publish(target, message, None).await);
        }
        drop(order);
        if results.iter().all(Result::is_err) {
            return results.into_iter().map(|result| result.map(|_| Sent::Unconfirmed)).collect();
        }
        let proof = match &self.probe {
            Some(probe) => Some(self.prove(probe, &results).await),
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

    /// The subject that a request asks its answer to be sent to.
    fn reply_subject(&self, request: &Envelope) -> Result<String, SendError> {
        let given = request.origin.attribute(REPLY_ATTRIBUTE).and_then(Value::as_text);
        let subject = match (given, &request.properties().reply_to) {
            (Some(subject), _) => Ok(subject.to_string()),
            (None, Some(address)) => self.mapping.subject(address),
            (None, None) => {
                let reason = "the request names no subject for its answer".into();
                return Err(SendError::Rejected { reason });
            }
        };
        let checked = subject.and_then(|subject| check_subject(&subject).map(|()| subject));
        let subject =
            checked.map_err(|error| SendError::Rejected { reason: error.to_string().into() })?;
        if self.link.is_denied(&subject) { Err(denied(&subject)) } else { Ok(subject) }
    }

    /// Hands a message to the client. A stream's answer takes the place of the reply subject.
    async fn publish(
        &self,
        target: &NatsTarget,
        message: &Outgoing,
        answer: Option<Subject>,
    ) -> Result<Subject, SendError> {
        let ready = self.prepare(target, message)?;
        let subject = ready.subject.clone();
        let message = OutboundMessage {
            subject: ready.subject,
            reply: answer.or(ready.reply),
            payload: message.envelope.payload.clone(),
            headers: Some(ready.headers),
        };
        self.client.publish_message(message).await.map_err(error::publish)?;
        Ok(subject)
    }

    /// Proves that the server has read what was published.
    ///
    /// That the server does not permit a subject comes before the answer, but by way of the
    /// client's event task, which may run later. So subjects that are new on this connection are
    /// proved twice: the second answer comes a round trip after the refusal of the first.
    async fn prove(&self, probe: &Probe, results: &[Result<Subject, SendError>]) -> Proof {
        let once = || async {
            tokio::select! {
                proof = probe.prove(self.confirm_timeout) => proof,
                () = self.link.lost() => Proof::Lost,
            }
        };
        let proof = once().await;
        if proof != Proof::Read || self.all_known(results) {
            return proof;
        }
        let proof = once().await;
        if proof == Proof::Read {
            self.remember(results);
        }
        proof
    }

    fn all_known(&self, results: &[Result<Subject, SendError>]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        results.iter().flatten().all(|subject| known.contains(subject.as_str()))
    }

    fn remember(&self, results: &[Result<Subject, SendError>]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in results.iter().flatten() {
            if known.len() < KNOWN_MAX && !self.link.is_denied(subject) {
                known.insert(subject.to_string());
            }
        }
    }

    /// Publishes to streams. All of a batch wait together for at most the time-out.
    async fn send_stream(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let order = self.order.lock().await;
        let expected = match self.confirmations.expect(batch.len()).await {
            Ok(expected) => expected,
            Err(why) => return batch.iter().map(|_| Err(why.error())).collect(),
        };
        let mut published = Vec::with_capacity(batch.len());
        let publish = self.publish_stream(target, batch, &expected, &mut published);
        let in_time = timeout(self.confirm_timeout, publish).await.is_ok();
        drop(order);
        if !in_time {
            // The rest could not even be handed to the client.
            for place in published.len()..batch.len() {
                expected.without(place);
                let reason = "the connection takes no messages".into();
                published.push(Err(SendError::Busy { after: None, reason }));
            }
        }
        let give_up = async {
            tokio::select! {
                () = sleep(self.confirm_timeout) => {}
                () = self.link.lost() => {}
            }
        };
        let answers = expected.answers(give_up).await.into_iter();
        let answers = answers.chain(std::iter::repeat_with(|| None));
        settle_missing_streams(published.into_iter().zip(answers).map(|(published, answer)| {
            published.map_err(Refused::By).and_then(|subject| self.stored(&subject, answer))
        }))
    }

    /// Hands a batch to the client, in order.
    async fn publish_stream(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
        expected: &Expected,
        published: &mut Vec<Result<Subject, SendError>>,
    ) {
        for (place, message) in batch.iter().enumerate() {
            let one = self.publish(target, message, Some(expected.reply(place))).await;
            if one.is_err() {
                expected.without(place);
            }
            published.push(one);
        }
    }

    /// What became of a message by the answer of its stream.
    fn stored(&self, subject: &Subject, answer: Option<Answer>) -> Result<Sent, Refused> {
        match answer {
            Some(Answer::Stored) => Ok(Sent::Confirmed),
            _ if self.link.is_lost() => {
                Err(Refused::By(SendError::Disconnected(self.link.reason())))
            }
            _ if self.link.is_denied(subject) => Err(Refused::By(denied(subject))),
            Some(Answer::NoStream) => Err(Refused::NoStream(subject.clone())),
            Some(Answer::Refused(refusal)) => Err(Refused::By(error::stream_refusal(&refusal))),
            Some(Answer::Unreadable) => {
                let reason = "the answer of the stream cannot be read";
                Err(Refused::By(SendError::Disconnected(Loss::boxed(reason))))
            }
            None => {
                let reason = "the stream has not confirmed the message in time".into();
                Err(Refused::By(SendError::Busy { after: None, reason }))
            }
        }
    }
}

/// Why a stream has not stored a message.
#[derive(Debug)]
enum Refused {
    /// No stream takes messages with this subject.
    NoStream(Subject),
    /// Something that concerns this message alone, or the whole server.
    By(SendError),
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

    async fn request(
        &self,
        to: Destination<'_, NatsTarget>,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let ready = self.prepare(to.target, message)?;
        let (reply, waiting) = self.replies.wait(replies).await?;
        let subject = ready.subject.clone();
        let message = OutboundMessage {
            subject: ready.subject,
            reply: Some(reply),
            payload: message.envelope.payload.clone(),
            headers: Some(ready.headers),
        };
        let sent = self.client.publish_message(message).await.map_err(error::publish);
        sent.map_err(RequestError::from)?;
        tokio::select! {
            () = self.link.lost() => Err(RequestError::Disconnected(self.link.reason())),
            () = waiting.until_nobody() => {
                let reason = format!("no service listens to {subject}");
                Err(RequestError::NoResponder { reason: reason.into() })
            }
        }
    }

    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError> {
        let subject = self.reply_subject(request)?;
        let how = mapping::Outbound { mapping: self.mapping, ..mapping::Outbound::default() };
        let (mut headers, _) = mapping::outgoing(answer, how, Timestamp::now());
        mapping::write_service_error(&answer.headers, &mut headers);
        let message = OutboundMessage {
            subject: subject.into(),
            reply: None,
            payload: answer.payload.clone(),
            headers: Some(headers),
        };
        self.client.publish_message(message).await.map_err(error::publish)?;
        // Whether anybody still listens is not told.
        Ok(Sent::Unconfirmed)
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

/// Tells a subject without a stream from a stream that is not there yet.
///
/// When other messages of the batch were stored, it is this message that has no place, and holding
/// everything for it would wedge the queue.
fn settle_missing_streams(
    results: impl Iterator<Item = Result<Sent, Refused>>,
) -> Vec<Result<Sent, SendError>> {
    let results: Vec<_> = results.collect();
    let some_stored = results.iter().any(Result::is_ok);
    let error = |refused| match refused {
        Refused::By(error) => error,
        Refused::NoStream(subject) => {
            let reason = format!("no stream takes messages with the subject {subject}").into();
            if some_stored {
                SendError::Failed { reason }
            } else {
                SendError::Busy { after: None, reason }
            }
        }
    };
    results.into_iter().map(|result| result.map_err(error)).collect()
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
        let missing = || Err(Refused::NoStream("a.b".into()));
        let full = || SendError::Busy { after: None, reason: "the stream is full".into() };
        let all = settle_missing_streams([missing(), missing()].into_iter());
        assert!(all.iter().all(|one| matches!(one, Err(SendError::Busy { .. }))));
        let mixed = settle_missing_streams(
            [Ok(Sent::Confirmed), missing(), Err(Refused::By(full()))].into_iter(),
        );
        assert!(matches!(
            &*mixed,
            [Ok(Sent::Confirmed), Err(SendError::Failed { .. }), Err(SendError::Busy { .. })]
        ));
    }
}
