//! Messages of durable pull consumers of streams.
//!
//! They are asked for as far as there is room: what waits unseen would run out of its `ack_wait`. Of
//! two questions that are open, the server answers the first first, and need not wait for the next.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout_at},
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

/// How many questions are open at once.
const QUESTIONS_MAX: usize = 2;

/// How many bytes all questions ask for. As many may wait in the adapter. A message that is larger
/// than what one asks for comes alone.
const PULL_BYTES: usize = 4 * 1024 * 1024;

/// Reads one durable consumer.
struct Puller {
    consumer: Consumer,
    /// What the subjects start with on which answers come; each question has one of its own, so
    /// that the end of an earlier one is not taken for the end of the present one.
    inbox: String,
    questions: Arc<Questions>,
    room: Arc<Room>,
}

/// The questions that are open.
#[derive(Debug, Default)]
struct Questions {
    asked: Mutex<Asked>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    /// The oldest first.
    open: VecDeque<Question>,
    /// The next message is larger than what was asked for.
    is_too_large: bool,
    /// Why there are no more answers.
    failure: Option<String>,
    /// Once nobody takes messages any more: where those are to be given back that come.
    given_back: Option<Vec<String>>,
}

#[derive(Debug)]
struct Question {
    number: u64,
    /// How many messages it may still bring.
    missing: usize,
    /// When the server has to have ended it.
    until: Instant,
}

/// What is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Many messages.
    Many,
    /// The next one, whatever its size.
    One,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    /// There is nothing, or not now.
    Over,
    /// The next message is larger than what was asked for.
    TooLarge,
}

/// How many messages may wait in the adapter.
pub(super) fn room_of(consumers: &[Consumer]) -> usize {
    consumers.iter().map(|consumer| consumer.batch * 2 + QUESTIONS_MAX).sum::<usize>().max(1)
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
    let questions = Arc::<Questions>::default();
    let sink = Box::new(StreamSink {
        inbox: inbox.clone(),
        questions: Arc::clone(&questions),
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
    let puller = Puller { consumer, inbox, questions, room: Arc::clone(room) };
    shared.context.tasks.spawn(puller.run(shared.clone(), number));
    Ok(())
}

impl Puller {
    /// Reads until the adapter is to stop or the connection is lost.
    async fn run(self, shared: Shared, number: u64) {
        loop {
            let asked = tokio::select! {
                asked = self.ask(&shared) => asked,
                () = shared.context.stop.cancelled() => break,
                () = shared.link.lost() => return,
            };
            if let Err(reason) = asked {
                shared.link.lose(format!("consumer {}: {reason}", self.consumer.name));
                return;
            }
        }
        self.give_back(&shared, number).await;
    }

    /// Asks for messages once there is room for them. May be dropped at any point.
    async fn ask(&self, shared: &Shared) -> Result<(), String> {
        let (messages, bytes_max) = match self.questions.until_free().await? {
            Ask::Many => (self.consumer.batch.div_ceil(QUESTIONS_MAX), PULL_BYTES / QUESTIONS_MAX),
            Ask::One => (1, 0),
        };
        self.room.until(self.consumer.batch, PULL_BYTES).await;
        let number = self.questions.open(messages);
        let answers = format!("{}.{number}", self.inbox);
        let ask = format!(
            "{{\"batch\":{messages},\"expires\":{},\"max_bytes\":{bytes_max}}}",
            PULL_EXPIRES.as_nanos()
        );
        let mut frames = Frames::default();
        frames.publish(&self.consumer.next, Reply::To(&answers), &ask.into());
        shared.client.write(frames).await.map_err(|_| "the connection has ended".to_owned())
    }

    /// Gives back what the server has sent and nobody will take.
    async fn give_back(self, shared: &Shared, number: u64) {
        self.questions.lock().given_back = Some(Vec::new());
        let Ok(drained) = shared.client.drain(vec![number]).await else { return };
        drop(drained.await);
        let Some(replies) = self.questions.lock().given_back.take() else { return };
        let mut frames = Frames::default();
        for reply in replies {
            frames.answer(&reply, ledger::answer(&Settlement::RELEASED).as_bytes());
        }
        // If the connection has ended, the server gives them to others by itself.
        drop(shared.client.write(frames).await);
    }
}

impl Questions {
    /// Opens a question, and returns its number.
    fn open(&self, messages: usize) -> u64 {
        let mut asked = self.lock();
        asked.last += 1;
        let number = asked.last;
        let until = Instant::now() + PULL_EXPIRES + PULL_GRACE;
        asked.open.push_back(Question { number, missing: messages, until });
        number
    }

    /// Waits until something may be asked. Cancel-safe.
    async fn until_free(&self) -> Result<Ask, String> {
        loop {
            let oldest = {
                let mut asked = self.lock();
                if let Some(failure) = asked.failure.take() {
                    return Err(failure);
                }
                if !asked.is_too_large && asked.open.len() < QUESTIONS_MAX {
                    return Ok(Ask::Many);
                }
                // Those that are still open cannot bring it either.
                let Some(oldest) = asked.open.front() else {
                    asked.is_too_large = false;
                    return Ok(Ask::One);
                };
                oldest.until
            };
            if timeout_at(oldest, self.changed.notified()).await.is_err() {
                return Err("the server does not answer".to_owned());
            }
        }
    }

    /// A message has come. The oldest question is answered first.
    fn come(asked: &mut Asked) -> bool {
        let Some(oldest) = asked.open.front_mut() else { return false };
        oldest.missing = oldest.missing.saturating_sub(1);
        let is_over = oldest.missing == 0;
        if is_over {
            asked.open.pop_front();
        }
        is_over
    }

    /// The server has ended a question.
    fn end(&self, number: Option<u64>, how: Result<Pulled, String>) {
        let mut asked = self.lock();
        asked.open.retain(|question| Some(question.number) != number);
        match how {
            Ok(Pulled::Over) => {}
            Ok(Pulled::TooLarge) => asked.is_too_large = true,
            Err(reason) => asked.failure = Some(reason),
        }
        drop(asked);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what the server sends for the questions of one consumer.
struct StreamSink {
    inbox: String,
    questions: Arc<Questions>,
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
        match end(status) {
            Ok(None) => {}
            Ok(Some(how)) => self.questions.end(number, Ok(how)),
            Err(reason) => self.questions.end(number, Err(reason)),
        }
    }

    fn enter(&self, message: &Message<'_>) {
        // Without it nobody could acknowledge the message.
        let Some(reply) = message.reply.as_deref() else { return };
        {
            let mut asked = self.questions.lock();
            if let Some(given_back) = &mut asked.given_back {
                given_back.push(reply.to_owned());
                return;
            }
            if Questions::come(&mut asked) {
                self.questions.changed.notify_one();
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
    let over = Ok(Some(Pulled::Over));
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
            (404, "No Messages", Ok(Some(Pulled::Over))),
            (408, "Request Timeout", Ok(Some(Pulled::Over))),
            (409, "Leadership Change", Ok(Some(Pulled::Over))),
            (409, "Message Size Exceeds MaxBytes", Ok(Some(Pulled::TooLarge))),
            (409, "Consumer Deleted", Err(())),
            (409, "Consumer is push based", Err(())),
            (503, "No Responders", Err(())),
            (400, "Bad Request", Err(())),
        ] {
            assert_eq!(end((code, description)).map_err(drop), wanted, "{code} {description}");
        }
    }

    fn free(questions: &Questions) -> Option<Result<Ask, String>> {
        use futures_util::FutureExt as _;
        questions.until_free().now_or_never()
    }

    #[tokio::test]
    async fn two_questions_are_open_and_the_oldest_is_answered_first() {
        let questions = Questions::default();
        let come = || Questions::come(&mut questions.lock());
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        assert_eq!((questions.open(2), questions.open(1)), (1, 2));
        assert_eq!(free(&questions), None);
        assert_eq!([come(), come()], [false, true]);
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        assert_eq!([come(), come()], [true, false]);
        questions.open(9);
        questions.open(9);
        questions.end(Some(1), Ok(Pulled::Over));
        assert_eq!(free(&questions), None, "that one is over for long");
        questions.end(Some(3), Ok(Pulled::Over));
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        questions.end(None, Err("gone".to_owned()));
        assert_eq!(free(&questions), Some(Err("gone".to_owned())));
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_asked_for_alone() {
        let questions = Questions::default();
        let (first, second) = (questions.open(9), questions.open(9));
        questions.end(Some(first), Ok(Pulled::TooLarge));
        assert_eq!(free(&questions), None);
        questions.end(Some(second), Ok(Pulled::TooLarge));
        assert_eq!(free(&questions), Some(Ok(Ask::One)));
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_the_server_forgets_is_a_failure() {
        let questions = Questions::default();
        questions.open(9);
        questions.open(9);
        assert!(questions.until_free().await.unwrap_err().contains("does not answer"));
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
