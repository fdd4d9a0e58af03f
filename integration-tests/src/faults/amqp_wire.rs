//! As much of AMQP 0-9-1 as publishing with confirms and consuming needs, by its specification and
//! `RabbitMQ`'s extension for confirms.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use super::produce::{Stream, unexpected};

/// The one channel that is used.
const CHANNEL: u16 = 1;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// A method by its class and number.
pub(crate) type Method = (u16, u16);

pub(crate) const QUEUE_DECLARE: Method = (50, 10);
pub(crate) const QUEUE_DELETE: Method = (50, 40);
pub(crate) const QUEUE_BIND: Method = (50, 20);
pub(crate) const CONFIRM_SELECT: Method = (85, 10);
pub(crate) const BASIC_QOS: Method = (60, 10);
pub(crate) const BASIC_CONSUME: Method = (60, 20);
const BASIC_PUBLISH: Method = (60, 40);
const BASIC_RETURN: Method = (60, 50);
const BASIC_DELIVER: Method = (60, 60);
const BASIC_ACK: Method = (60, 80);
const BASIC_NACK: Method = (60, 120);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_CLOSE: Method = (20, 40);

/// Properties of a content header, by their bit.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;

/// Something that the broker says.
#[derive(Debug)]
pub(crate) enum Event {
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
    },
    Deliver(Deliver),
    /// An answer to a question of ours.
    Answer(Method),
    Other,
}

/// A message from a queue.
#[derive(Debug, Default)]
pub(crate) struct Deliver {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) message_id: String,
    pub(crate) payload: BytesMut,
}

/// Puts frames together.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    // A message whose body is not complete, and how many bytes of it are to come.
    partial: Option<(Deliver, u64)>,
}

pub(crate) fn short(text: &str, out: &mut BytesMut) {
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes());
}

fn frame(kind: u8, channel: u16, payload: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_slice(payload);
    out.put_u8(FRAME_END);
}

fn method_on(channel: u16, method: Method, arguments: &[u8], out: &mut BytesMut) {
    let mut payload = BytesMut::with_capacity(4 + arguments.len());
    payload.put_u16(method.0);
    payload.put_u16(method.1);
    payload.put_slice(arguments);
    frame(METHOD, channel, &payload, out);
}

/// A persistent message, which must reach a queue.
pub(crate) fn publish(
    exchange: &str,
    key: &str,
    message_id: &str,
    payload: &[u8],
    out: &mut BytesMut,
) {
    let mut arguments = BytesMut::new();
    arguments.put_u16(0);
    short(exchange, &mut arguments);
    short(key, &mut arguments);
    arguments.put_u8(1);
    method_on(CHANNEL, BASIC_PUBLISH, &arguments, out);
    let mut header = BytesMut::new();
    header.put_u16(60);
    header.put_u16(0);
    header.put_u64(payload.len() as u64);
    header.put_u16(DELIVERY_MODE | MESSAGE_ID);
    header.put_u8(2);
    short(message_id, &mut header);
    frame(HEADER, CHANNEL, &header, out);
    frame(BODY, CHANNEL, payload, out);
}

/// Acknowledges every message up to this one.
pub(crate) fn ack_all(tag: u64, out: &mut BytesMut) {
    let mut arguments = BytesMut::new();
    arguments.put_u64(tag);
    arguments.put_u8(1);
    method_on(CHANNEL, BASIC_ACK, &arguments, out);
}

/// Asks something, and waits for the answer, whose number is that of the question and one more.
pub(crate) async fn ask(stream: &mut Stream, method: Method, arguments: &[u8]) -> io::Result<()> {
    ask_on(stream, CHANNEL, method, arguments).await
}

async fn ask_on(
    stream: &mut Stream,
    channel: u16,
    method: Method,
    arguments: &[u8],
) -> io::Result<()> {
    let mut out = BytesMut::new();
    method_on(channel, method, arguments, &mut out);
    stream.write(&out).await?;
    let mut reader = Reader::default();
    loop {
        if let Event::Answer(answer) = stream.take(|input| reader.next(input)).await?
            && answer == (method.0, method.1 + 1)
        {
            return Ok(());
        }
    }
}

/// Logs in as guest, without heartbeats, and opens the channel.
pub(crate) async fn open(stream: &mut Stream) -> io::Result<()> {
    stream.write(b"AMQP\x00\x00\x09\x01").await?;
    expect(stream, (10, 10)).await?;
    let mut login = BytesMut::new();
    login.put_u32(0);
    short("PLAIN", &mut login);
    let response = b"\0guest\0guest";
    login.put_u32(u32::try_from(response.len()).unwrap_or_default());
    login.put_slice(response);
    short("en_US", &mut login);
    let mut out = BytesMut::new();
    method_on(0, (10, 11), &login, &mut out);
    stream.write(&out).await?;
    expect(stream, (10, 30)).await?;
    let mut tuning = BytesMut::new();
    tuning.put_u16(16);
    tuning.put_u32(131_072);
    tuning.put_u16(0);
    out.clear();
    method_on(0, (10, 31), &tuning, &mut out);
    stream.write(&out).await?;
    let mut host = BytesMut::new();
    short("/", &mut host);
    host.put_u16(0);
    ask_on(stream, 0, (10, 40), &host).await?;
    ask(stream, (20, 10), &[0]).await
}

async fn expect(stream: &mut Stream, method: Method) -> io::Result<()> {
    let mut reader = Reader::default();
    let event = stream.take(|input| reader.next(input)).await?;
    if matches!(event, Event::Answer(found) if found == method) {
        Ok(())
    } else {
        Err(unexpected(&format!("instead of {method:?}: {event:?}")))
    }
}

impl Reader {
    /// Takes frames until there is something to tell; `None` if more input is needed.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> io::Result<Option<Event>> {
        loop {
            let Some(size) = input.get(3..7) else { return Ok(None) };
            let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            if input.len() < size + 8 {
                return Ok(None);
            }
            let kind = input.get_u8();
            input.advance(6);
            let mut payload = input.split_to(size).freeze();
            if input.get_u8() != FRAME_END {
                return Err(unexpected("a frame without an end"));
            }
            let event = match kind {
                METHOD => self.method(&mut payload)?,
                HEADER => self.header(&mut payload).map_err(|_| unexpected("a short header"))?,
                BODY => self.body(&payload),
                _ => Some(Event::Other),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn method(&mut self, payload: &mut Bytes) -> io::Result<Option<Event>> {
        let malformed = |_: TryGetError| unexpected("a short method");
        let method =
            (payload.try_get_u16().map_err(malformed)?, payload.try_get_u16().map_err(malformed)?);
        Ok(Some(match method {
            BASIC_ACK | BASIC_NACK => {
                let tag = payload.try_get_u64().map_err(malformed)?;
                let multiple = payload.try_get_u8().map_err(malformed)? & 1 == 1;
                if method == BASIC_ACK {
                    Event::Ack { tag, multiple }
                } else {
                    Event::Nack { tag, multiple }
                }
            }
            BASIC_DELIVER => {
                take_short(payload).map_err(malformed)?;
                let tag = payload.try_get_u64().map_err(malformed)?;
                let redelivered = payload.try_get_u8().map_err(malformed)? == 1;
                let deliver = Deliver { tag, redelivered, ..Deliver::default() };
                self.partial = Some((deliver, 0));
                return Ok(None);
            }
            BASIC_RETURN | CONNECTION_CLOSE | CHANNEL_CLOSE => {
                let said = String::from_utf8_lossy(payload).into_owned();
                return Err(unexpected(&format!("the broker closes or returns: {said}")));
            }
            other => Event::Answer(other),
        }))
    }

    fn header(&mut self, payload: &mut Bytes) -> Result<Option<Event>, TryGetError> {
        payload.try_get_u32()?;
        let size = payload.try_get_u64()?;
        let flags = payload.try_get_u16()?;
        let Some((deliver, rest)) = &mut self.partial else { return Ok(None) };
        *rest = size;
        let has = |flag: u16| flags & flag != 0;
        for _ in [CONTENT_TYPE, CONTENT_ENCODING].into_iter().filter(|flag| has(*flag)) {
            take_short(payload)?;
        }
        if has(HEADERS) {
            let length = payload.try_get_u32()? as usize;
            payload.advance(length.min(payload.len()));
        }
        for _ in [DELIVERY_MODE, PRIORITY].into_iter().filter(|flag| has(*flag)) {
            payload.try_get_u8()?;
        }
        let texts = [CORRELATION_ID, REPLY_TO, EXPIRATION];
        for _ in texts.into_iter().filter(|flag| has(*flag)) {
            take_short(payload)?;
        }
        if has(MESSAGE_ID) {
            let id = take_short(payload)?;
            deliver.message_id = String::from_utf8_lossy(&id).into_owned();
        }
        Ok(self.complete())
    }

    fn body(&mut self, payload: &[u8]) -> Option<Event> {
        let (deliver, rest) = self.partial.as_mut()?;
        deliver.payload.put_slice(payload);
        *rest = rest.saturating_sub(payload.len() as u64);
        self.complete()
    }

    fn complete(&mut self) -> Option<Event> {
        let (deliver, _) = self.partial.take_if(|(_, rest)| *rest == 0)?;
        Some(Event::Deliver(deliver))
    }
}

fn take_short(from: &mut Bytes) -> Result<Bytes, TryGetError> {
    let length = usize::from(from.try_get_u8()?);
    if from.len() < length {
        return Err(TryGetError { requested: length, available: from.len() });
    }
    Ok(from.split_to(length))
}
