//! Messages to NATS.
//!
//! Invariants:
//! - A message counts as confirmed when its stream has stored it, or, for a core subject, when the
//!   server has read it.
//! - A batch is handed to the client as one, in the order in which `send` was first polled; only then
//!   does it wait for its confirmations, side by side with others.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use transload_adapter::{Context, Destination, Outbound, Replies, RequestError, SendError, Sent};
use transload_envelope::{Envelope, Outgoing, Timestamp, Value};

use crate::{
    client::{Client, Frames, Reply},
    config::{NatsConfig, NatsTarget},
    confirm::{Answer, Confirmations, Expected},
    error::{self, Loss},
    inbound::REPLY_ATTRIBUTE,
    link::Link,
    mapping::{self, AddressMapping, SubjectError, check_subject, is_internal},
    request::ReplyDesk,
};

/// Publishes over one connection.
pub(crate) struct NatsOutbound {
    client: Client,
    confirmations: Confirmations,
    link: Arc<Link>,
    mapping: AddressMapping,
    confirm_timeout: Duration,
    replies: ReplyDesk,
}

impl NatsOutbound {
    pub(crate) fn new(
        client: &Client,
        link: &Arc<Link>,
        config: &NatsConfig,
        context: &Context,
    ) -> Self {
        Self {
            client: client.clone(),
            confirmations: Confirmations::new(client),
            link: Arc::clone(link),
            mapping: config.address_mapping,
            confirm_timeout: config.confirm_timeout.get(),
            replies: ReplyDesk::new(client, link, context, config.address_mapping),
        }
    }

    /// Adds a message to what is to be written, and returns its subject. An answer that is asked for
    /// takes the place of the message's own reply subject.
    fn put(
        &self,
        target: &NatsTarget,
        message: &Outgoing,
        answer: Option<Reply<'_>>,
        frames: &mut Frames,
    ) -> Result<String, SendError> {
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
        let own = mapping::outgoing(&message.envelope, how, Timestamp::now(), frames.headers());
        let own = own.as_deref().map_or(Reply::Nowhere, Reply::To);
        self.put_with_headers(&subject, answer.unwrap_or(own), &message.envelope, frames)?;
        Ok(subject)
    }

    /// Adds a message whose headers are there.
    fn put_with_headers(
        &self,
        subject: &str,
        reply: Reply<'_>,
        envelope: &Envelope,
        frames: &mut Frames,
    ) -> Result<(), SendError> {
        let bytes = frames.header_bytes() + envelope.payload.len();
        let most = self.client.message_bytes_max();
        if bytes > most {
            let reason = format!(
                "the message has {bytes} bytes with its headers, and the server takes {most}"
            );
            return Err(SendError::Rejected { reason: reason.into() });
        }
        frames.publish(subject, reply, &envelope.payload);
        Ok(())
    }

    async fn send_core(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let mut frames = Frames::default();
        let put = |message| self.put(target, message, None, &mut frames);
        let subjects: Vec<_> = batch.iter().map(put).collect();
        if frames.is_empty() {
            return subjects.into_iter().map(|put| put.map(|_| Sent::Confirmed)).collect();
        }
        let proof = async {
            let read = self.client.prove(frames).await.ok()?;
            read.await.ok()
        };
        let proof = timeout(self.confirm_timeout, proof).await.map_err(drop);
        let verdict = |subject: Result<String, SendError>| match (subject?, proof) {
            // What the server says of a message comes before it says that it has read it.
            (subject, _) if self.link.is_denied(&subject) => Err(denied(&subject)),
            (_, Ok(Some(()))) => Ok(Sent::Confirmed),
            (_, Ok(None)) => Err(SendError::Disconnected(self.link.reason())),
            (_, Err(())) => Err(SendError::Busy {
                after: None,
                reason: "the server has not read the messages in time".into(),
            }),
        };
        subjects.into_iter().map(verdict).collect()
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

    /// Publishes to streams. All of a batch wait together for at most the time-out.
    async fn send_stream(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let expected = match self.confirmations.expect(batch.len()).await {
            Ok(expected) => expected,
            Err(why) => return batch.iter().map(|_| Err(why.error(&self.link))).collect(),
        };
        let mut frames = Frames::default();
        let published = self.put_all(target, batch, &expected, &mut frames);
        let give_up = async {
            tokio::select! {
                () = sleep(self.confirm_timeout) => {}
                () = self.link.lost() => {}
            }
        };
        // A connection that has ended is lost, which ends the wait.
        let write = async { drop(self.client.write(frames).await) };
        let answers = expected.answers(write, give_up).await.into_iter();
        let answers = answers.chain(std::iter::repeat_with(|| None));
        settle_missing_streams(published.into_iter().zip(answers).map(|(published, answer)| {
            published.map_err(Refused::By).and_then(|subject| self.stored(&subject, answer))
        }))
    }

    /// Adds a batch to what is to be written, in order.
    fn put_all(
        &self,
        target: &NatsTarget,
        batch: &[Outgoing],
        expected: &Expected,
        frames: &mut Frames,
    ) -> Vec<Result<String, SendError>> {
        let put = |(place, message)| {
            let one = self.put(target, message, Some(expected.reply(place)), frames);
            if one.is_err() {
                expected.without(place);
            }
            one
        };
        batch.iter().enumerate().map(put).collect()
    }

    /// What became of a message by the answer of its stream.
    fn stored(&self, subject: &str, answer: Option<Answer>) -> Result<Sent, Refused> {
        match answer {
            Some(Answer::Stored) => Ok(Sent::Confirmed),
            _ if self.link.is_lost() => {
                Err(Refused::By(SendError::Disconnected(self.link.reason())))
            }
            _ if self.link.is_denied(subject) => Err(Refused::By(denied(subject))),
            Some(Answer::NoStream) => Err(Refused::NoStream(subject.to_owned())),
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
    NoStream(String),
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
        let (reply, waiting) = self.replies.wait(replies).await?;
        let mut frames = Frames::default();
        let subject = self.put(to.target, message, Some(Reply::To(&reply)), &mut frames)?;
        let gone = |_| RequestError::Disconnected(self.link.reason());
        self.client.write(frames).await.map_err(gone)?;
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
        let mut frames = Frames::default();
        let headers = frames.headers();
        mapping::outgoing(answer, how, Timestamp::now(), headers);
        mapping::write_service_error(&answer.headers, headers);
        self.put_with_headers(&subject, Reply::Nowhere, answer, &mut frames)?;
        let gone = |_| SendError::Disconnected(self.link.reason());
        self.client.write(frames).await.map_err(gone)?;
        // Whether anybody still listens is not told.
        Ok(Sent::Unconfirmed)
    }

    async fn close(&self) {
        let read = async {
            if let Ok(read) = self.client.prove(Frames::default()).await {
                drop(read.await);
            }
        };
        if timeout(self.confirm_timeout, read).await.is_err() {
            tracing::debug!("the connection to NATS closes with unsent bytes");
        }
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
