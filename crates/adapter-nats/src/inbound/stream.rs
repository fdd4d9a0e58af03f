//! Messages of durable pull consumers of streams.
//!
//! They are asked for as far as there is room: what waits unseen would run out of its `ack_wait`. Of
//! two questions that are open, the server answers the first first, and need not wait for the next.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;
use transload_adapter::{ConnectError, Settlement};
use transload_envelope::{Envelope, MessageId, Origin, Text, Timestamp};

use super::{
    Arrival, Shared,
    consumer::Consumer,
    ledger::{self, Ledger},
    questions::{Ask, PULL_EXPIRES, QUESTIONS_MAX, Questions, end},
    room::Room,
};
use crate::{
    client::{Frames, Message, Reply, Sink},
    mapping::{self, AddressMapping},
};

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
        self.questions.give_back();
        let Ok(drained) = shared.client.drain(vec![number]).await else { return };
        drop(drained.await);
        let mut frames = Frames::default();
        for reply in self.questions.given_back() {
            frames.answer(&reply, ledger::answer(&Settlement::RELEASED).as_bytes());
        }
        // If the connection has ended, the server gives them to others by itself.
        drop(shared.client.write(frames).await);
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
        if !self.questions.come(reply) {
            return;
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
    use super::{super::questions::tests::free, *};
    use crate::client::HeaderBlock;

    #[tokio::test]
    async fn a_status_in_a_stream_is_a_message() {
        let (queue, mut arrivals) = mpsc::channel(2);
        let questions = Arc::<Questions>::default();
        let mut sink = StreamSink {
            inbox: "_INBOX.x".to_owned(),
            questions: Arc::clone(&questions),
            ledger: Arc::default(),
            ack_wait: Duration::from_secs(30),
            name: "in".into(),
            mapping: AddressMapping::Nats,
            queue,
            room: Arc::default(),
            place: 1,
        };
        questions.open(9);
        let deleted = |subject: &'static str| Message {
            subject: subject.into(),
            reply: Some("$JS.ACK.S.c.1.7.9.1700000000123456789.5".into()),
            headers: Some(HeaderBlock(b"NATS/1.0 409 Consumer Deleted\r\n\r\n")),
            payload: b"",
        };
        sink.take(deleted("orders.new"));
        sink.take(deleted("_INBOX.xy"));
        assert_eq!(arrivals.recv().await.unwrap().envelope.address, "orders/new".into());
        assert_eq!(arrivals.recv().await.unwrap().envelope.address, "_INBOX/xy".into());
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        sink.take(deleted("_INBOX.x.1"));
        assert!(matches!(free(&questions), Some(Err(_))));
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
