//! `JetStream`: publishers that wait for its acknowledgements, and a reader of a stream.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    ledger::{Arrival, Books},
    nats_wire::{self, Event, Message},
    produce::{Outgoing, Protocol, Stream, Verdict, unexpected},
    settings,
};

/// Creates a stream over the subjects of the producers, on disk.
pub(crate) async fn create_stream(port: u16, name: &str) -> io::Result<()> {
    let request = json!({ "name": name, "subjects": [settings::SUBJECTS], "storage": "file" });
    nats_wire::ask(port, &format!("STREAM.CREATE.{name}"), &request).await.map(drop)
}

/// What the server says about a stream or a consumer.
pub(crate) async fn ask(port: u16, subject: &str) -> io::Result<Value> {
    nats_wire::ask(port, subject, &json!({})).await
}

/// Publishes into a stream.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// What the subjects begin with on which acknowledgements come.
    inbox: String,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self { inbox: nats_wire::inbox() }
    }
}

impl Protocol for Publisher {
    async fn open(&mut self, stream: &mut Stream) -> io::Result<()> {
        nats_wire::open(stream, &format!("{}.*", self.inbox)).await
    }

    fn publish(&mut self, message: Outgoing<'_>, _again: bool, out: &mut BytesMut) {
        let Outgoing { stamp, id, payload } = message;
        let reply = format!("{}.{}", self.inbox, stamp.number);
        let subject = settings::key(stamp.lane);
        nats_wire::publish(&subject, &reply, id, payload, out);
    }

    fn read(
        &mut self,
        input: &mut BytesMut,
        verdicts: &mut Vec<Verdict>,
        out: &mut BytesMut,
    ) -> io::Result<()> {
        while let Some(event) = nats_wire::parse(input)? {
            match event {
                Event::Ping => out.extend_from_slice(b"PONG\r\n"),
                Event::Message(message) => verdicts.push(verdict(&message)?),
                Event::Pong | Event::Other => {}
            }
        }
        Ok(())
    }
}

/// Publishes without a stream. The server's answer to a PING says that it has read all before it.
#[derive(Debug, Default)]
pub(crate) struct CorePublisher {
    unconfirmed: Vec<u32>,
    asked: VecDeque<usize>,
}

/// How many messages one PING is for.
const PING_EVERY: usize = 64;

impl Protocol for CorePublisher {
    async fn open(&mut self, stream: &mut Stream) -> io::Result<()> {
        nats_wire::open(stream, &nats_wire::inbox()).await
    }

    fn publish(&mut self, message: Outgoing<'_>, _again: bool, out: &mut BytesMut) {
        let Outgoing { stamp, payload, .. } = message;
        let line = format!("PUB {} {}\r\n", settings::key(stamp.lane), payload.len());
        for part in [line.as_bytes(), payload, b"\r\n"] {
            out.extend_from_slice(part);
        }
        self.unconfirmed.push(stamp.number);
        let asked: usize = self.asked.iter().sum();
        // The messages at the end have no full share of their own, so that each asks.
        if self.unconfirmed.len() - asked >= PING_EVERY || self.asked.is_empty() {
            out.extend_from_slice(b"PING\r\n");
            self.asked.push_back(self.unconfirmed.len() - asked);
        }
    }

    fn read(
        &mut self,
        input: &mut BytesMut,
        verdicts: &mut Vec<Verdict>,
        out: &mut BytesMut,
    ) -> io::Result<()> {
        while let Some(event) = nats_wire::parse(input)? {
            match event {
                Event::Ping => out.extend_from_slice(b"PONG\r\n"),
                Event::Pong => {
                    let count = self.asked.pop_front().unwrap_or(0).min(self.unconfirmed.len());
                    verdicts.extend(self.unconfirmed.drain(..count).map(Verdict::Acknowledged));
                    if self.asked.is_empty() && !self.unconfirmed.is_empty() {
                        out.extend_from_slice(b"PING\r\n");
                        self.asked.push_back(self.unconfirmed.len());
                    }
                }
                Event::Message(_) | Event::Other => {}
            }
        }
        Ok(())
    }
}

/// Records what comes on subjects of core NATS.
#[derive(Debug)]
pub(crate) struct Subscriber<B> {
    pub(crate) target: usize,
    pub(crate) port: u16,
    pub(crate) ledger: Arc<B>,
    pub(crate) subjects: &'static str,
}

impl<B: Books> Subscriber<B> {
    /// Subscribes; the server has taken it when this returns.
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        let mut stream = Stream::connect(self.port).await?;
        nats_wire::open(&mut stream, self.subjects).await?;
        Ok(stream)
    }

    /// Receives until the connection ends.
    pub(crate) async fn run(self, mut stream: Stream) {
        // Nobody takes the connection away but the end of the run.
        let _: io::Result<()> = self.receive(&mut stream).await;
    }

    async fn receive(&self, stream: &mut Stream) -> io::Result<()> {
        loop {
            while let Some(event) = nats_wire::parse(&mut stream.input)? {
                match event {
                    Event::Ping => stream.write(b"PONG\r\n").await?,
                    Event::Message(message) => {
                        let (target, payload) = (self.target, &*message.payload);
                        self.ledger.arrived(Arrival {
                            target,
                            payload,
                            id: "",
                            redelivered: false,
                        });
                    }
                    Event::Pong | Event::Other => {}
                }
            }
            stream.more().await?;
        }
    }
}

/// An acknowledgement names the stream and the place in it; everything else is none.
fn verdict(message: &Message) -> io::Result<Verdict> {
    let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| unexpected("an answer on a strange subject"))?;
    let answer: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
    let stored = answer.get("error").is_none()
        && answer.get("stream").is_some_and(Value::is_string)
        && answer.get("seq").and_then(Value::as_u64).is_some_and(|place| place > 0);
    Ok(if stored { Verdict::Acknowledged(number) } else { Verdict::Refused(number) })
}

/// Reads a stream from its begin to its end and further. Each place in the stream is read once, so
/// that what is recorded twice is in the stream twice.
#[derive(Debug)]
pub(crate) struct Reader<B> {
    pub(crate) target: usize,
    pub(crate) port: u16,
    pub(crate) ledger: Arc<B>,
    pub(crate) stream: &'static str,
    pub(crate) last: u64,
}

const BATCH: u64 = 500;
/// How long the server waits for a batch to fill.
const EXPIRES_NS: u64 = 500_000_000;
const PATIENCE: Duration = Duration::from_secs(5);

impl<B: Books> Reader<B> {
    /// Reads for ever.
    pub(crate) async fn run(mut self) {
        loop {
            // Each way in which a connection can end is what this is made for.
            let _ = self.connection().await;
            sleep(Duration::from_millis(150)).await;
        }
    }

    /// An own consumer for each connection, from behind the last place that was read.
    async fn connection(&mut self) -> io::Result<()> {
        let stream = self.stream;
        let info = ask(self.port, &format!("STREAM.INFO.{stream}")).await?;
        let end = info.pointer("/state/last_seq").and_then(Value::as_u64);
        // A server that was killed before it had stored something may use its place anew.
        self.last = self.last.min(end.ok_or_else(|| unexpected("a stream without an end"))?);
        let config = json!({
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.last + 1,
            "inactive_threshold": 60_000_000_000_u64,
            "mem_storage": true,
        });
        let request = json!({ "stream_name": stream, "config": config });
        let made =
            nats_wire::ask(self.port, &format!("CONSUMER.CREATE.{stream}"), &request).await?;
        let name = made.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| unexpected("a consumer without a name"))?.to_owned();
        let mut connection = Stream::connect(self.port).await?;
        let inbox = nats_wire::inbox();
        nats_wire::open(&mut connection, &inbox).await?;
        loop {
            self.batch(&mut connection, &name, &inbox).await?;
        }
    }

    async fn batch(
        &mut self,
        connection: &mut Stream,
        consumer: &str,
        inbox: &str,
    ) -> io::Result<()> {
        let request = json!({ "batch": BATCH, "expires": EXPIRES_NS }).to_string();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.stream);
        let line = format!("PUB {subject} {inbox} {}\r\n{request}\r\n", request.len());
        connection.write(line.as_bytes()).await?;
        let mut rest = BATCH;
        while rest > 0 {
            match timeout(PATIENCE, connection.take(nats_wire::parse)).await?? {
                Event::Ping => connection.write(b"PONG\r\n").await?,
                // The end of the batch, or a fault: either way the next request is due.
                Event::Message(message) if message.reply.is_empty() => return end(&message),
                Event::Message(message) => {
                    rest -= 1;
                    self.record(&message)?;
                }
                Event::Pong | Event::Other => {}
            }
        }
        Ok(())
    }

    /// The place in the stream is in the reply subject:
    /// `$JS.ACK.STREAM.CONSUMER.DELIVERIES.PLACE.…`
    fn record(&mut self, message: &Message) -> io::Result<()> {
        let place = message.reply.split('.').nth(5).and_then(|place| place.parse().ok());
        let place: u64 = place.ok_or_else(|| unexpected("a message without its place"))?;
        if place != self.last + 1 {
            return Err(unexpected("a gap in the stream"));
        }
        self.last = place;
        let id = message.header("Nats-Msg-Id").unwrap_or_default();
        let (target, payload) = (self.target, &*message.payload);
        self.ledger.arrived(Arrival { target, payload, id, redelivered: false });
        Ok(())
    }
}

/// A status line such as `NATS/1.0 408 Request Timeout` ends a batch.
fn end(message: &Message) -> io::Result<()> {
    let head = String::from_utf8_lossy(&message.head);
    match head.split(' ').nth(1).map(|status| status.get(..3).unwrap_or_default()) {
        Some("408" | "404") => Ok(()),
        _ => Err(unexpected(&format!("the batch ended with {head:?}"))),
    }
}
