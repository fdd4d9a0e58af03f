//! Messages as frames: `basic.publish`, the content header, the content (AMQP 0-9-1, section 4.2).

use bytes::{BufMut as _, Bytes, BytesMut};
use lapin::{
    BasicProperties,
    protocol::constants::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD},
    types::ShortString,
};

use super::io::Output;
use crate::{mapping::Publish, table};

/// `basic.publish` (section 1.8.3.7).
const BASIC: u16 = 60;
const PUBLISH: u16 = 40;
/// Type, channel and length in front, and the end mark.
const OVERHEAD: usize = 8;
/// Payloads below this are copied behind their header; larger ones are written where they lie.
const INLINE_BYTES_MAX: usize = 8 * 1024;
/// About what one message takes beside its payload.
const HEAD_BYTES: usize = 192;

/// The messages of one call, as they are written.
#[derive(Debug)]
pub(crate) struct Frames {
    pieces: Vec<Bytes>,
    tail: BytesMut,
    messages: usize,
    channel: u16,
    body_bytes_max: usize,
    mandatory: bool,
}

impl Frames {
    /// For a channel, with the largest frame that was agreed upon. With `mandatory`, what finds no
    /// queue is returned.
    pub(crate) fn new(channel: u16, frame_bytes_max: usize, mandatory: bool) -> Self {
        Self {
            pieces: Vec::new(),
            tail: BytesMut::new(),
            messages: 0,
            channel,
            body_bytes_max: frame_bytes_max.saturating_sub(OVERHEAD).max(1),
            mandatory,
        }
    }

    /// How many messages there are.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn write_to(self, output: &mut Output) {
        for piece in self.pieces {
            output.push(piece);
        }
        output.push(self.tail.freeze());
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, publish: &Publish) {
        let payload = &publish.payload;
        self.messages += 1;
        let inline = payload.len() < INLINE_BYTES_MAX && payload.len() <= self.body_bytes_max;
        self.tail.reserve(HEAD_BYTES + if inline { payload.len() } else { 0 });
        let at = self.begin(FRAME_METHOD);
        self.tail.put_u16(BASIC);
        self.tail.put_u16(PUBLISH);
        self.tail.put_u16(0);
        put_short(&mut self.tail, &publish.exchange);
        put_short(&mut self.tail, &publish.routing_key);
        self.tail.put_u8(u8::from(self.mandatory));
        self.end(at);
        let at = self.begin(FRAME_HEADER);
        self.tail.put_u16(BASIC);
        self.tail.put_u16(0);
        self.tail.put_u64(payload.len() as u64);
        put_properties(&mut self.tail, &publish.properties);
        self.end(at);
        if inline && !payload.is_empty() {
            let at = self.begin(FRAME_BODY);
            self.tail.extend_from_slice(payload);
            self.end(at);
        } else {
            self.push_shared(payload);
        }
    }

    fn push_shared(&mut self, payload: &Bytes) {
        let mut rest = payload.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(self.body_bytes_max));
            self.tail.put_u8(FRAME_BODY);
            self.tail.put_u16(self.channel);
            self.tail.put_u32(length(part.len()));
            self.pieces.push(self.tail.split().freeze());
            self.pieces.push(part);
            self.tail.put_u8(FRAME_END);
        }
    }

    /// Begins a frame; its length is set by [`Self::end`].
    fn begin(&mut self, kind: u8) -> usize {
        self.tail.put_u8(kind);
        self.tail.put_u16(self.channel);
        self.tail.put_u32(0);
        self.tail.len()
    }

    fn end(&mut self, at: usize) {
        let size = length(self.tail.len() - at);
        if let Some(place) = self.tail.get_mut(at - 4..at) {
            place.copy_from_slice(&size.to_be_bytes());
        }
        self.tail.put_u8(FRAME_END);
    }
}

/// A length that was checked against the largest frame before.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn put_short(into: &mut BytesMut, text: &ShortString) {
    // The type holds 255 bytes at most.
    into.put_u8(u8::try_from(text.as_str().len()).unwrap_or(u8::MAX));
    into.extend_from_slice(text.as_str().as_bytes());
}

/// The flags that say which properties there are, and these (sections 4.2.6.1 and 1.8.1).
fn put_properties(into: &mut BytesMut, basic: &BasicProperties) {
    let at = into.len();
    into.put_u16(0);
    let mut flags = Flags(0);
    flags.text(into, 15, basic.content_type().as_ref());
    flags.text(into, 14, basic.content_encoding().as_ref());
    if let Some(headers) = flags.has(13, basic.headers().as_ref()) {
        table::put_table(into, headers);
    }
    if let Some(mode) = flags.has(12, *basic.delivery_mode()) {
        into.put_u8(mode);
    }
    if let Some(priority) = flags.has(11, *basic.priority()) {
        into.put_u8(priority);
    }
    flags.text(into, 10, basic.correlation_id().as_ref());
    flags.text(into, 9, basic.reply_to().as_ref());
    flags.text(into, 8, basic.expiration().as_ref());
    flags.text(into, 7, basic.message_id().as_ref());
    if let Some(seconds) = flags.has(6, *basic.timestamp()) {
        into.put_u64(seconds);
    }
    flags.text(into, 5, basic.kind().as_ref());
    flags.text(into, 4, basic.user_id().as_ref());
    flags.text(into, 3, basic.app_id().as_ref());
    flags.text(into, 2, basic.cluster_id().as_ref());
    if let Some(place) = into.get_mut(at..at + 2) {
        place.copy_from_slice(&flags.0.to_be_bytes());
    }
}

/// Which properties there are.
struct Flags(u16);

impl Flags {
    fn has<T>(&mut self, bit: u16, property: Option<T>) -> Option<T> {
        self.0 |= u16::from(property.is_some()) << bit;
        property
    }

    fn text(&mut self, into: &mut BytesMut, bit: u16, text: Option<&ShortString>) {
        if let Some(text) = self.has(bit, text) {
            put_short(into, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, parse_frame};
    use bytes::Buf as _;
    use lapin::{
        protocol::{AMQPClass, basic},
        types::{AMQPValue, FieldTable},
    };

    use super::*;

    fn publish(payload: Bytes, properties: BasicProperties) -> Publish {
        Publish {
            exchange: "amq.topic".into(),
            routing_key: "a.b".into(),
            properties,
            payload,
            own_exchange: false,
            own_key: true,
        }
    }

    fn full() -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("h".into(), AMQPValue::LongString("v".into()));
        BasicProperties::default()
            .with_content_type("a".into())
            .with_content_encoding("b".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(9)
            .with_correlation_id("c".into())
            .with_reply_to("d".into())
            .with_expiration("60000".into())
            .with_message_id("e".into())
            .with_timestamp(1 << 40)
            .with_type("f".into())
            .with_user_id("g".into())
            .with_app_id("h".into())
            .with_cluster_id("i".into())
    }

    /// What the library's codec makes of the frames.
    fn read(frames: Frames) -> Vec<AMQPFrame> {
        let mut output = Output::default();
        frames.write_to(&mut output);
        let bytes = output.copy_to_bytes(output.remaining());
        let mut rest = &bytes[..];
        let mut read = Vec::new();
        while !rest.is_empty() {
            let (left, frame) = parse_frame(rest).unwrap();
            read.push(frame);
            rest = left;
        }
        read
    }

    fn head(mandatory: bool, properties: BasicProperties, bytes: usize) -> [AMQPFrame; 2] {
        let method = basic::AMQPMethod::Publish(basic::Publish {
            exchange: "amq.topic".into(),
            routing_key: "a.b".into(),
            mandatory,
            immediate: false,
        });
        let body_size = bytes as u64;
        let header = AMQPContentHeader { class_id: BASIC, body_size, properties };
        [AMQPFrame::Method(5, AMQPClass::Basic(method)), AMQPFrame::Header(5, header)]
    }

    #[test]
    fn the_library_reads_what_is_written() {
        let mut frames = Frames::new(5, 4096, true);
        frames.push(&publish("hello".into(), full()));
        frames.push(&publish(Bytes::new(), BasicProperties::default()));
        assert_eq!(frames.messages(), 2);
        let mut expected = head(true, full(), 5).to_vec();
        expected.push(AMQPFrame::Body(5, b"hello".to_vec()));
        expected.extend(head(true, BasicProperties::default(), 0));
        assert_eq!(read(frames), expected);
    }

    #[test]
    fn a_large_payload_is_cut_to_frames_and_not_copied() {
        let payload = Bytes::from(vec![b'x'; 20_000]);
        let mut frames = Frames::new(5, 8192, false);
        frames.push(&publish(payload.clone(), full()));
        let shared = |piece: &&Bytes| payload.as_ptr_range().contains(&piece.as_ptr());
        assert_eq!(frames.pieces.iter().filter(shared).count(), 3);
        let mut expected = head(false, full(), 20_000).to_vec();
        for bytes in [8184, 8184, 3632] {
            expected.push(AMQPFrame::Body(5, vec![b'x'; bytes]));
        }
        assert_eq!(read(frames), expected);
    }
}
