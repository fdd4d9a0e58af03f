//! As much of the NATS client protocol and of `JetStream`'s API as publishing to a stream and
//! reading one need, by the documentation of nats-server.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

use super::produce::{Stream, unexpected};

/// Something that the server says.
#[derive(Debug)]
pub(crate) enum Event {
    Message(Message),
    Ping,
    Pong,
    Other,
}

/// A message on a subject.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) reply: String,
    /// The header block as it came; empty if there is none.
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
}

impl Message {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        head.split("\r\n").find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then(|| value.trim())
        })
    }
}

/// A subject for answers that nobody else has: of two connections that shared one, each would take
/// the other's answers for its own.
pub(crate) fn inbox() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("_INBOX.{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Connects, and subscribes to one subject.
pub(crate) async fn open(stream: &mut Stream, inbox: &str) -> io::Result<()> {
    stream.take(|input| Ok(parse(input)?.map(drop))).await?;
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
         \"lang\":\"raw\",\"version\":\"0\",\"protocol\":1}}\r\nSUB {inbox} 1\r\nPING\r\n"
    );
    stream.write(hello.as_bytes()).await?;
    loop {
        if let Event::Pong = stream.take(parse).await? {
            return Ok(());
        }
    }
}

/// Asks the `JetStream` API, on a connection of its own.
pub(crate) async fn ask(port: u16, subject: &str, request: &Value) -> io::Result<Value> {
    let mut stream = Stream::connect(port).await?;
    let inbox = inbox();
    open(&mut stream, &inbox).await?;
    let request = request.to_string();
    let line = format!("PUB $JS.API.{subject} {inbox} {}\r\n{request}\r\n", request.len());
    stream.write(line.as_bytes()).await?;
    loop {
        if let Event::Message(message) = stream.take(parse).await? {
            let answer: Value = serde_json::from_slice(&message.payload)?;
            return match answer.get("error") {
                Some(error) => Err(unexpected(&error.to_string())),
                None => Ok(answer),
            };
        }
    }
}

/// A message with an id.
pub(crate) fn publish(subject: &str, reply: &str, id: &str, payload: &[u8], out: &mut BytesMut) {
    let head = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
    let total = head.len() + payload.len();
    let line = format!("HPUB {subject} {reply} {} {total}\r\n", head.len());
    for part in [line.as_bytes(), head.as_bytes(), payload, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Takes the first unit, if all of it is there.
pub(crate) fn parse(input: &mut BytesMut) -> io::Result<Option<Event>> {
    let Some(end) = input.windows(2).position(|bytes| bytes == b"\r\n") else { return Ok(None) };
    let line = input.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or_else(|| unexpected("a line that is no text"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let (subject, reply, head, total) = match words.as_slice() {
        ["MSG", subject, _, total] => (*subject, "", "0", *total),
        ["MSG", subject, _, reply, total] => (*subject, *reply, "0", *total),
        ["HMSG", subject, _, head, total] => (*subject, "", *head, *total),
        ["HMSG", subject, _, reply, head, total] => (*subject, *reply, *head, *total),
        ["-ERR", ..] => return Err(unexpected(line)),
        other => {
            let event = match other {
                ["PING"] => Event::Ping,
                ["PONG"] => Event::Pong,
                _ => Event::Other,
            };
            input.advance(end + 2);
            return Ok(Some(event));
        }
    };
    let number = |text: &str| text.parse().map_err(|_| unexpected("a length that is no number"));
    let (head, total): (usize, usize) = (number(head)?, number(total)?);
    if input.len() < end + 2 + total + 2 || head > total {
        return Ok(None);
    }
    let (subject, reply) = (subject.to_owned(), reply.to_owned());
    input.advance(end + 2);
    let head_bytes = input.split_to(head).freeze();
    let payload = input.split_to(total - head).freeze();
    input.advance(2);
    Ok(Some(Event::Message(Message { subject, reply, head: head_bytes, payload })))
}
