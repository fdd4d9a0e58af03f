//! Messages of durable pull consumers of streams.
//!
//! They are asked for in batches, the next when the last has come and there is room: what waits
//! unseen would run out of its `ack_wait`.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use transload_adapter::{ConnectError, Settlement};
use transload_envelope::{Envelope, MessageId, Origin, Text, Timestamp};

use super::{
    Arrival, Shared,
    consumer::Consumer,
    ledger::{self, Ledger},
    room::Room,
};
use crate::{
    client::{Frames, Message, NO_RESPONDERS, Reply, Sink},
    mapping::{self, AddressMapping},
};

/// How long the server keeps a question for messages open.
const PULL_EXPIRES: Duration = Duration::from_secs(20);

/// How long after that it may take to say that it has closed it.
const PULL_GRACE: Duration = Duration::from_secs(5);

/// How many bytes are asked for at once. A message that is larger comes alone. Twice as many may
/// wait in the adapter.
const PULL_BYTES: usize = 4 * 1024 * 1024;

/// Reads one durable consumer.
struct Puller {
    consumer: Consumer,
    /// What the subjects start with on which answers come; each question has one of its own, so
    /// that the end of an earlier one is not taken for the end of the present one.
    inbox: String,
    question: Arc<Question>,
    room: Arc<Room>,
}

/// The question that is open.
#[derive(Debug, Default)]
struct Question {
    asked: Mutex<Asked>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Asked {
    number: u64,
    /// How many messages it may still bring.
    missing: usize,
    end: Option<Result<Pulled, String>>,
    /// Once nobody takes messages any more: where those are to be given back that come.
    given_back: Option<Vec<String>>,
}

/// How a question for messages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    /// Ask again.
    Again,
    /// The next message is larger than what was asked for.
    TooLarge,
}

/// How many messages may wait in the adapter.
pub(super) fn room_of(consumers: &[Consumer]) -> usize {
    consumers.iter().map(|consumer| consumer.batch * 2).sum::<usize>().max(1)
}

/// Starts reading a consumer.
pub(super) async fn open(
    shared: &Shared,
    consumer: Consumer,
    queue: mpsc::Sender<Arrival>,
    room: &Arc<Room>,
    place: usize,
) -> Result<(), ConnectError> {
    let inbox = shared.client.new_inbox();
    let question = Arc::<Question>::default();
    let sink = Box::new(StreamSink {
        inbox: inbox.clone(),
        question: Arc::clone(&question),
        ledger: Arc::clone(&shared.ledger),
        ack_wait: consumer.ack_wait,
        name: shared.context.name.clone(),
        mapping: shared.config.address_mapping,
        queue,
        room: Arc::clone(room),
        place,
    });
    let number = shared.client.subscribe(&format!("{inbox}.*"), None, sink).await;
    let number = number.map_err(|_| shared.lost())?;
    let puller = Puller { consumer, inbox, question, room: Arc::clone(room) };
    shared.context.tasks.spawn(puller.run(shared.clone(), number));
    Ok(())
}

impl Puller {
    /// Reads until the adapter is to stop or the connection is lost.
    async fn run(self, shared: Shared, number: u64) {
        let most = (self.consumer.batch, PULL_BYTES);
        let mut limit = most;
        loop {
            let next = tokio::select! {
                next = self.pull(limit, &shared) => next,
                () = shared.context.stop.cancelled() => break,
                () = shared.link.lost() => return,
            };
            limit = match next {
                Ok(Pulled::Again) => most,
                Ok(Pulled::TooLarge) => (1, 0),
                Err(reason) => {
                    shared.link.lose(format!("consumer {}: {reason}", self.consumer.name));
                    return;
                }
            };
        }
        self.give_back(&shared, number).await;
    }

    /// Asks for messages once there is room for them, and waits until they have come. May be dropped
    /// at any point.
    async fn pull(
        &self,
        (batch, bytes_max): (usize, usize),
        shared: &Shared,
    ) -> Result<Pulled, String> {
        self.room.until(self.consumer.batch, PULL_BYTES).await;
        let number = self.question.begin(batch);
        let answers = format!("{}.{number}", self.inbox);
        let ask = format!(
            "{{\"batch\":{batch},\"expires\":{},\"max_bytes\":{bytes_max}}}",
            PULL_EXPIRES.as_nanos()
        );
        let mut frames = Frames::default();
        frames.publish(&self.consumer.next, Reply::To(&answers), &ask.into());
        if shared.client.write(frames).await.is_err() {
            return Err("the connection has ended".to_owned());
        }
        match timeout(PULL_EXPIRES + PULL_GRACE, self.question.end()).await {
            Ok(end) => end,
            Err(_) => Err("the server does not answer".to_owned()),
        }
    }

    /// Gives back what the server has sent and nobody will take.
    async fn give_back(self, shared: &Shared, number: u64) {
        self.question.lock().given_back = Some(Vec::new());
        let Ok(drained) = shared.client.drain(vec![number]).await else { return };
        drop(drained.await);
        let Some(replies) = self.question.lock().given_back.take() else { return };
        let mut frames = Frames::default();
        for reply in replies {
            frames.answer(&reply, ledger::answer(&Settlement::RELEASED).as_bytes());
        }
        // If the connection has ended, the server gives them to others by itself.
        drop(shared.client.write(frames).await);
    }
}

impl Question {
    /// Opens the next question, and returns its number.
    fn begin(&self, messages: usize) -> u64 {
        let mut asked = self.lock();
        asked.number += 1;
        asked.missing = messages;
        asked.end = None;
        asked.number
    }

    /// Waits until the question has ended.
    async fn end(&self) -> Result<Pulled, String> {
        loop {
            if let Some(end) = self.lock().end.take() {
                return end;
            }
            self.ended.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what the server sends for the questions of one consumer.
struct StreamSink {
    inbox: String,
    question: Arc<Question>,
    ledger: Arc<Ledger>,
    ack_wait: Duration,
    name: Text,
    mapping: AddressMapping,
    queue: mpsc::Sender<Arrival>,
    room: Arc<Room>,
    place: usize,
}

impl Sink for StreamSink {
    fn take(&mut self, message: Message<'_>) {
        // Messages of the stream come with their own subjects, whatever their headers say.
        match message.subject.strip_prefix(&*self.inbox) {
            Some(rest) if rest.starts_with('.') => self.note(&message),
            _ => self.enter(&message),
        }
    }
}

impl StreamSink {
    fn note(&self, message: &Message<'_>) {
        let Some(status) = message.status() else { return };
        let number = message.last_token().parse().ok();
        let end = match end(status) {
            Ok(Some(how)) => Ok(how),
            Ok(None) => return,
            Err(reason) => Err(reason),
        };
        let mut asked = self.question.lock();
        if number == Some(asked.number) || end.is_err() {
            asked.end = Some(end);
            self.question.ended.notify_one();
        }
    }

    fn enter(&self, message: &Message<'_>) {
        // Without it nobody could acknowledge the message.
        let Some(reply) = message.reply.as_deref() else { return };
        {
            let mut asked = self.question.lock();
            if let Some(given_back) = &mut asked.given_back {
                given_back.push(reply.to_owned());
                return;
            }
            asked.missing = asked.missing.saturating_sub(1);
            if asked.missing == 0 && asked.end.is_none() {
                asked.end = Some(Ok(Pulled::Again));
                self.question.ended.notify_one();
            }
        }
        let envelope = envelope(&self.name, self.mapping, message, reply);
        let bytes = envelope.payload.len();
        let tag = self.ledger.enter(reply, self.ack_wait);
        self.room.enter(bytes);
        let arrival = Arrival { tag, envelope, bytes, place: self.place };
        if self.queue.try_send(arrival).is_err() {
            // More than was asked for, or nobody is there: the server delivers it again.
            self.room.leave(bytes);
            self.ledger.leave(tag);
        }
    }
}

/// Whether a status ends its question, after the server's `consumer.go`; an error ends the consumer.
fn end((code, description): (u16, &str)) -> Result<Option<Pulled>, String> {
    let over = Ok(Some(Pulled::Again));
    match code {
        // A sign of life.
        100 => Ok(None),
        // There is nothing, or was nothing for as long as it was open.
        404 | 408 => over,
        409 if description.contains("MaxBytes") => Ok(Some(Pulled::TooLarge)),
        409 if ["Leadership Change", "Server Shutdown", "Batch Completed"]
            .contains(&description) =>
        {
            over
        }
        NO_RESPONDERS => Err("nobody answers for it any more".to_owned()),
        other => Err(format!("the server says {other} {description}")),
    }
}

/// Where a message is in its stream, as the subject for its acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<'a> {
    stream: &'a str,
    consumer: &'a str,
    delivered: u64,
    sequence: u64,
    published_ms: i64,
}

impl<'a> Place<'a> {
    /// Reads `$JS.ACK.[domain.account.]stream.consumer.delivered.sequence.consumer-sequence.time.pending`
    /// and what may come behind it (ADR-15 of NATS).
    fn read(reply: &'a str) -> Option<Self> {
        /// The tokens of the short form.
        const SHORT: usize = 7;
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let skipped =
            if rest.bytes().filter(|byte| *byte == b'.').count() >= SHORT { 2 } else { 0 };
        let mut tokens = rest.split('.').skip(skipped);
        let (stream, consumer) = (tokens.next()?, tokens.next()?);
        let mut number = || tokens.next()?.parse::<u64>().ok();
        let (delivered, sequence, _) = (number()?, number()?, number()?);
        let published_ms = i64::try_from(number()? / 1_000_000).unwrap_or(i64::MAX);
        Some(Self { stream, consumer, delivered, sequence, published_ms })
    }
}

fn envelope(name: &Text, mapping: AddressMapping, message: &Message<'_>, reply: &str) -> Envelope {
    let place = Place::read(reply);
    let published =
        place.map_or_else(Timestamp::now, |place| Timestamp { unix_ms: place.published_ms });
    let mut incoming = mapping::incoming(message.headers, published);
    incoming.properties.durable = Some(true);
    let mut origin = Origin::new(name.clone(), "nats", mapping.address(&message.subject))
        .with("subject", Text::from(&*message.subject));
    let mut id = incoming.id;
    if let Some(Place { stream, consumer, delivered, sequence, published_ms }) = place {
        // The same at each delivery, and another one when a stream is made anew under its name.
        id = id.or_else(|| {
            let mut source = String::with_capacity(name.len() + stream.len() + 40);
            // Writing to memory does not fail.
            let _ = write!(source, "{name}:{stream}:{sequence}:{published_ms}");
            Some(MessageId::from_source(source))
        });
        origin = origin
            .with("stream", Text::from(stream))
            .with("consumer", Text::from(consumer))
            .with("sequence", sequence)
            .with("redelivered", delivered.saturating_sub(1))
            .with("published_ms", published_ms);
    }
    let payload = Bytes::copy_from_slice(message.payload);
    let mut envelope =
        Envelope::identified(id, origin, payload).with_properties(incoming.properties);
    envelope.headers = incoming.headers;
    envelope.hops = incoming.hops;
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_of_a_pull_has_its_reaction() {
        for (code, description, wanted) in [
            (100, "Idle Heartbeat", Ok(None)),
            (404, "No Messages", Ok(Some(Pulled::Again))),
            (408, "Request Timeout", Ok(Some(Pulled::Again))),
            (409, "Leadership Change", Ok(Some(Pulled::Again))),
            (409, "Message Size Exceeds MaxBytes", Ok(Some(Pulled::TooLarge))),
            (409, "Consumer Deleted", Err(())),
            (409, "Consumer is push based", Err(())),
            (503, "No Responders", Err(())),
            (400, "Bad Request", Err(())),
        ] {
            assert_eq!(end((code, description)).map_err(drop), wanted, "{code} {description}");
        }
    }

    #[test]
    fn the_place_in_a_stream_is_read_in_both_forms() {
        let wanted = Place {
            stream: "S",
            consumer: "c",
            delivered: 2,
            sequence: 7,
            published_ms: 1_700_000_000_123,
        };
        for reply in [
            "$JS.ACK.S.c.2.7.9.1700000000123456789.5",
            "$JS.ACK._.hash.S.c.2.7.9.1700000000123456789.5",
            "$JS.ACK.domain.hash.S.c.2.7.9.1700000000123456789.5.token",
        ] {
            assert_eq!(Place::read(reply), Some(wanted), "{reply}");
        }
        for reply in ["", "$JS.ACK", "$JS.ACK.S.c.2.7", "$JS.ACK.S.c.x.7.9.1.5", "_INBOX.a.b"] {
            assert_eq!(Place::read(reply), None, "{reply}");
        }
    }
}
