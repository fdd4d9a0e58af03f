//! Durable pull consumers of streams.
//!
//! The adapter asks for messages itself instead of using the client's endless streams, which ask
//! ahead of what is taken: what waits in the client's buffer would run out of its `ack_wait` unseen.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Message, StatusCode, Subject, Subscriber,
    jetstream::{
        self, Context as JetStream,
        consumer::{
            AckPolicy, Consumer, DeliverPolicy as StartAt,
            pull::{BatchConfig, Config as PullConfig},
        },
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use transload_adapter::{ConnectError, Settlement, detached};
use transload_envelope::{Envelope, MessageId, Origin, Text, Timestamp};

use super::{Arrival, Shared, ledger};
use crate::{
    config::{Consume, DeliverPolicy},
    error, mapping,
};

/// How long the server keeps a question for messages open.
const PULL_EXPIRES: Duration = Duration::from_secs(20);

/// How long after that it may take to say that it has closed it.
const PULL_GRACE: Duration = Duration::from_secs(5);

/// How many bytes are asked for at once. A message that is larger comes alone. Twice as many may
/// wait in the adapter.
const PULL_BYTES: u32 = 4 * 1024 * 1024;

/// Shorter messages do not count among them: there are too few of them to matter.
const COUNTED_BYTES_MIN: u32 = 4 * 1024;

/// Reads one durable consumer.
pub(super) struct Puller {
    /// What the library wants beside a message to say where that is in its stream. It is lent to
    /// each message, since a copy costs allocations.
    jetstream: Option<JetStream>,
    consumer: Consumer<PullConfig>,
    /// What the subjects start with on which answers come; each question has one of its own, so
    /// that the end of an earlier one is not taken for the end of the present one.
    inbox: String,
    questions: u64,
    messages: Subscriber,
    /// One permit for each byte that may wait in the adapter.
    bytes: Arc<Semaphore>,
    name: String,
    batch: usize,
    ack_wait: Duration,
}

/// How a question for messages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    /// Ask again.
    Again,
    /// The next message is larger than what was asked for.
    TooLarge,
    /// Nobody wants more.
    Enough,
}

impl Puller {
    /// Finds the consumer, or makes it where the settings say so.
    pub(super) async fn new(
        shared: &Shared,
        jetstream: &JetStream,
        consume: &Consume,
    ) -> Result<Self, ConnectError> {
        let name = format!("{}/{}", consume.stream, consume.durable);
        let consumer = if consume.create {
            several_filters(shared, consume)?;
            jetstream.create_consumer_on_stream(settings(consume), &consume.stream).await
        } else {
            jetstream.get_consumer_from_stream(&consume.durable, &consume.stream).await
        };
        let consumer = consumer.map_err(|failure| error::consumer(&name, &failure))?;
        let config = &consumer.cached_info().config;
        if config.ack_policy != AckPolicy::Explicit {
            let reason = format!("consumer {name} does not acknowledge each message by itself");
            return Err(ConnectError::Refused { reason: reason.into() });
        }
        let ack_wait = config.ack_wait;
        let most = usize::try_from(config.max_batch).ok().filter(|most| *most > 0);
        let batch = usize::from(consume.batch).min(most.unwrap_or(usize::MAX)).max(1);
        let inbox = shared.client.new_inbox();
        let messages = shared.client.subscribe(format!("{inbox}.*")).await.map_err(|failure| {
            ConnectError::Refused { reason: format!("consumer {name}: {failure}").into() }
        })?;
        Ok(Self {
            jetstream: Some(jetstream.clone()),
            consumer,
            inbox,
            questions: 0,
            messages,
            bytes: Arc::new(Semaphore::new(2 * PULL_BYTES as usize)),
            name,
            batch,
            ack_wait,
        })
    }

    /// How many messages wait in the adapter at most.
    pub(super) fn room(&self) -> usize {
        self.batch * 2
    }

    /// Reads until the adapter is to stop or the connection is lost.
    pub(super) async fn run(mut self, shared: Shared, queue: mpsc::Sender<Arrival>) {
        let most = (self.batch, PULL_BYTES as usize);
        let mut limit = most;
        loop {
            let next = tokio::select! {
                next = self.pull(limit, &shared, &queue) => next,
                () = shared.context.stop.cancelled() => Ok(Pulled::Enough),
                () = shared.link.lost() => return,
            };
            limit = match next {
                Ok(Pulled::Again) => most,
                Ok(Pulled::TooLarge) => (1, 0),
                Ok(Pulled::Enough) => break,
                Err(reason) => {
                    shared.link.lose(format!("consumer {}: {reason}", self.name));
                    return;
                }
            };
        }
        self.give_back(&shared).await;
    }

    /// Asks for messages once there is room for them, and passes them on. May be dropped at any
    /// point: what was not passed on is still in the subscription.
    async fn pull(
        &mut self,
        (batch, max_bytes): (usize, usize),
        shared: &Shared,
        queue: &mpsc::Sender<Arrival>,
    ) -> Result<Pulled, String> {
        let Ok(room) = queue.reserve_many(batch).await else { return Ok(Pulled::Enough) };
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(PULL_BYTES).await;
        let Ok(mut bytes) = bytes else { return Ok(Pulled::Enough) };
        let ask =
            BatchConfig { batch, expires: Some(PULL_EXPIRES), max_bytes, ..BatchConfig::default() };
        self.questions += 1;
        let answers = Subject::from(format!("{}.{}", self.inbox, self.questions));
        let asked = self.consumer.request_batch(ask, answers.clone()).await;
        asked.map_err(|failure| failure.to_string())?;
        let end = Instant::now() + PULL_EXPIRES + PULL_GRACE;
        for place in room {
            let message = loop {
                let Ok(next) = timeout_at(end, self.messages.next()).await else {
                    return Err("the server does not answer".to_owned());
                };
                let Some(message) = next else { return Ok(Pulled::Enough) };
                match status(&message)? {
                    Status::Message => break message,
                    Status::Ended(_) if message.subject != answers => {}
                    Status::Heartbeat => {}
                    Status::Ended(how) => return Ok(how),
                }
            };
            if let Some(arrival) = self.arrival(shared, message, &mut bytes) {
                place.send(arrival);
            }
        }
        Ok(Pulled::Again)
    }

    fn arrival(
        &mut self,
        shared: &Shared,
        message: Message,
        bytes: &mut OwnedSemaphorePermit,
    ) -> Option<Arrival> {
        let reply = message.reply.clone()?;
        let message = jetstream::Message { message, context: self.jetstream.take()? };
        let envelope = envelope(shared, &message);
        self.jetstream = Some(message.context);
        let room = occupied(bytes, envelope.payload.len());
        Some(Arrival { tag: shared.ledger.enter(reply, self.ack_wait), envelope, _room: room })
    }

    /// Gives back what the server has sent and nobody will take.
    async fn give_back(mut self, shared: &Shared) {
        if self.messages.unsubscribe().await.is_err() {
            return;
        }
        while let Some(message) = self.messages.next().await {
            let (None, Some(reply)) = (message.status, message.reply) else { continue };
            let release = Bytes::from(ledger::answer(&Settlement::RELEASED));
            if shared.client.publish(reply, release).await.is_err() {
                return;
            }
        }
    }
}

/// What a message on the inbox of a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// A message of the stream.
    Message,
    /// A sign of life.
    Heartbeat,
    /// The question is over.
    Ended(Pulled),
}

/// Reads the status line, after the server's `consumer.go`; an error ends the consumer.
fn status(message: &Message) -> Result<Status, String> {
    let Some(status) = message.status else { return Ok(Status::Message) };
    let description = message.description.as_deref().unwrap_or_default();
    let over = Ok(Status::Ended(Pulled::Again));
    match status {
        StatusCode::OK => Ok(Status::Message),
        StatusCode::IDLE_HEARTBEAT => Ok(Status::Heartbeat),
        StatusCode::TIMEOUT | StatusCode::NOT_FOUND => over,
        StatusCode::REQUEST_TERMINATED if description.contains("MaxBytes") => {
            Ok(Status::Ended(Pulled::TooLarge))
        }
        StatusCode::REQUEST_TERMINATED
            if ["Leadership Change", "Server Shutdown", "Batch Completed"]
                .contains(&description) =>
        {
            over
        }
        StatusCode::NO_RESPONDERS => Err("nobody answers for it any more".to_owned()),
        other => Err(format!("the server says {other} {description}")),
    }
}

/// What a message takes of the bytes that were asked for.
fn occupied(
    bytes: &mut OwnedSemaphorePermit,
    payload_bytes: usize,
) -> Option<OwnedSemaphorePermit> {
    if payload_bytes < COUNTED_BYTES_MIN as usize {
        return None;
    }
    bytes.split(payload_bytes.min(bytes.num_permits()))
}

/// One filter is understood by every server, several only since 2.10: an older one would ignore
/// them and deliver the whole stream.
fn several_filters(shared: &Shared, consume: &Consume) -> Result<(), ConnectError> {
    if consume.subjects.len() > 1 && !shared.client.is_server_compatible(2, 10, 0) {
        return Err(ConnectError::Refused {
            reason: "several `subjects` of a consumer need nats-server 2.10 or later".into(),
        });
    }
    Ok(())
}

fn settings(consume: &Consume) -> PullConfig {
    let mut config = PullConfig {
        durable_name: Some(consume.durable.clone()),
        description: Some("made by Transload".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: consume.ack_wait.get(),
        max_ack_pending: i64::from(consume.max_ack_pending),
        deliver_policy: match consume.deliver_policy {
            DeliverPolicy::All => StartAt::All,
            DeliverPolicy::Last => StartAt::Last,
            DeliverPolicy::LastPerSubject => StartAt::LastPerSubject,
            DeliverPolicy::New => StartAt::New,
        },
        ..PullConfig::default()
    };
    match &*consume.subjects {
        [one] => config.filter_subject.clone_from(one),
        several => config.filter_subjects = several.to_vec(),
    }
    config
}

fn envelope(shared: &Shared, message: &jetstream::Message) -> Envelope {
    let mapping = shared.config.address_mapping;
    let place = message.info().ok();
    let published = place.as_ref().map_or_else(Timestamp::now, |info| {
        let ms = info.published.unix_timestamp_nanos().div_euclid(1_000_000);
        Timestamp { unix_ms: i64::try_from(ms).unwrap_or(i64::MAX) }
    });
    let mut incoming = mapping::incoming(message.headers.as_ref(), published);
    incoming.properties.durable = Some(true);
    let mut origin =
        Origin::new(shared.context.name.clone(), "nats", mapping.address(&message.subject))
            .with("subject", Text::from(message.subject.as_str()));
    let mut id = incoming.id;
    if let Some(info) = place {
        // The same at each delivery, and another one when a stream is made anew under its name.
        id = id.or_else(|| {
            Some(MessageId::from_source(format!(
                "{}:{}:{}:{}",
                shared.context.name, info.stream, info.stream_sequence, published.unix_ms
            )))
        });
        origin = origin
            .with("stream", Text::from(info.stream))
            .with("consumer", Text::from(info.consumer))
            .with("sequence", info.stream_sequence)
            .with("redelivered", info.delivered.saturating_sub(1))
            .with("published_ms", published.unix_ms);
    }
    let mut envelope = Envelope::identified(id, origin, detached(message.payload.clone()))
        .with_properties(incoming.properties);
    envelope.headers = incoming.headers;
    envelope.hops = incoming.hops;
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16, description: &str) -> Message {
        Message {
            subject: "inbox".into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: StatusCode::from_u16(code).ok(),
            description: Some(description.to_owned()),
            length: 0,
        }
    }

    #[test]
    fn each_status_of_a_pull_has_its_reaction() {
        for (code, description, wanted) in [
            (100, "Idle Heartbeat", Ok(Status::Heartbeat)),
            (404, "No Messages", Ok(Status::Ended(Pulled::Again))),
            (408, "Request Timeout", Ok(Status::Ended(Pulled::Again))),
            (409, "Leadership Change", Ok(Status::Ended(Pulled::Again))),
            (409, "Message Size Exceeds MaxBytes", Ok(Status::Ended(Pulled::TooLarge))),
            (409, "Consumer Deleted", Err(())),
            (409, "Consumer is push based", Err(())),
            (503, "No Responders", Err(())),
            (400, "Bad Request", Err(())),
        ] {
            assert_eq!(
                status(&said(code, description)).map_err(drop),
                wanted,
                "{code} {description}"
            );
        }
    }
}
