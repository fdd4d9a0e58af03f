//! Messages as frames: `basic.publish`, the content header, the content (AMQP 0-9-1, section 4.2).

use amq_protocol::protocol::constants::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD};
use bytes::{BufMut as _, Bytes, BytesMut};
use transload_adapter::wire::Output;

use super::{
    input::{BASIC, OVERHEAD},
    properties::{BasicProperties, put_text},
    table::put_counted,
};

/// `basic.publish` (section 1.8.3.7), and the acknowledgements of what was delivered (1.8.3.13 and,
/// of RabbitMQ's extensions, 1.8.3.14).
const PUBLISH: u16 = 40;
const ACK: u16 = 80;
const NACK: u16 = 120;
/// About what one message takes beside its payload.
const HEAD_BYTES: usize = 192;
/// How much room is made for a payload; larger ones are not copied.
const PAYLOAD_BYTES: usize = 4 * 1024;

/// The messages of one call, as they are written.
#[derive(Debug)]
pub(crate) struct Frames {
    written: Output,
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
            written: Output::default(),
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

    pub(super) fn into_output(self) -> Output {
        self.written
    }

    /// Adds a message. Exchange and routing key are of 255 bytes at most.
    pub(crate) fn push(
        &mut self,
        exchange: &str,
        routing_key: &str,
        properties: &BasicProperties,
        payload: &Bytes,
    ) {
        self.messages += 1;
        let (channel, mandatory) = (self.channel, self.mandatory);
        let buffer = self.written.buffer();
        buffer.reserve(HEAD_BYTES + payload.len().min(PAYLOAD_BYTES));
        put_frame(buffer, FRAME_METHOD, channel, |into| {
            into.put_u16(BASIC);
            into.put_u16(PUBLISH);
            into.put_u16(0);
            put_text(into, exchange);
            put_text(into, routing_key);
            into.put_u8(u8::from(mandatory));
        });
        put_frame(buffer, FRAME_HEADER, channel, |into| {
            into.put_u16(BASIC);
            into.put_u16(0);
            into.put_u64(payload.len() as u64);
            properties.put(into);
        });
        let mut rest = payload.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(self.body_bytes_max));
            let buffer = self.written.buffer();
            buffer.put_u8(FRAME_BODY);
            buffer.put_u16(channel);
            // Not longer than the largest frame, whose length has 32 bits.
            buffer.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            self.written.payload(&part);
            self.written.buffer().put_u8(FRAME_END);
        }
    }
}

fn put_frame(into: &mut BytesMut, kind: u8, channel: u16, put: impl FnOnce(&mut BytesMut)) {
    into.put_u8(kind);
    into.put_u16(channel);
    put_counted(into, put);
    into.put_u8(FRAME_END);
}

/// Adds an acknowledgement of a delivery, or with `multiple` of all up to it.
pub(crate) fn put_ack(into: &mut BytesMut, channel: u16, tag: u64, multiple: bool) {
    put_settlement(into, channel, ACK, tag, u8::from(multiple));
}

/// Adds a negative acknowledgement of one delivery. Without `requeue` the queue's dead-letter
/// exchange gets the message, if the queue has one.
pub(crate) fn put_nack(into: &mut BytesMut, channel: u16, tag: u64, requeue: bool) {
    put_settlement(into, channel, NACK, tag, u8::from(requeue) << 1);
}

fn put_settlement(into: &mut BytesMut, channel: u16, method: u16, tag: u64, flags: u8) {
    put_frame(into, FRAME_METHOD, channel, |into| {
        into.put_u16(BASIC);
        into.put_u16(method);
        into.put_u64(tag);
        into.put_u8(flags);
    });
}

#[cfg(test)]
mod tests {
    use amq_protocol::{
        frame::{AMQPContentHeader, AMQPFrame, parse_frame},
        protocol::{AMQPClass, basic},
        types::{AMQPValue, FieldTable},
    };
    use bytes::Buf as _;

    use super::*;
    use crate::{
        client::input::{Frame, OnChannel, next_frame},
        table::tests::table_of,
    };

    fn headers() -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert("h".into(), AMQPValue::LongString("v".into()));
        headers
    }

    fn full() -> BasicProperties {
        BasicProperties {
            content_type: Some("a".into()),
            content_encoding: Some("b".into()),
            headers: Some(table_of(&[("h", AMQPValue::LongString("v".into()))])),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some("c".into()),
            reply_to: Some("d".into()),
            expiration: Some("60000".into()),
            message_id: Some("e".into()),
            timestamp: Some(1 << 40),
            kind: Some("f".into()),
            user_id: Some("g".into()),
            app_id: Some("h".into()),
            cluster_id: Some("i".into()),
        }
    }

    /// The same as the library has it.
    fn full_of_library() -> basic::AMQPProperties {
        basic::AMQPProperties::default()
            .with_content_type("a".into())
            .with_content_encoding("b".into())
            .with_headers(headers())
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

    fn push(frames: &mut Frames, payload: impl Into<Bytes>, properties: &BasicProperties) {
        frames.push("amq.topic", "a.b", properties, &payload.into());
    }

    fn written(frames: Frames) -> Bytes {
        let mut output = frames.into_output();
        output.copy_to_bytes(output.remaining())
    }

    /// What the library's codec makes of the frames.
    fn read(bytes: &[u8]) -> Vec<AMQPFrame> {
        let mut rest = bytes;
        let mut read = Vec::new();
        while !rest.is_empty() {
            let (left, frame) = parse_frame(rest).unwrap();
            read.push(frame);
            rest = left;
        }
        read
    }

    fn head(mandatory: bool, properties: basic::AMQPProperties, bytes: usize) -> [AMQPFrame; 2] {
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
        push(&mut frames, "hello", &full());
        push(&mut frames, Bytes::new(), &BasicProperties::default());
        assert_eq!(frames.messages(), 2);
        let mut expected = head(true, full_of_library(), 5).to_vec();
        expected.push(AMQPFrame::Body(5, b"hello".to_vec()));
        expected.extend(head(true, basic::AMQPProperties::default(), 0));
        assert_eq!(read(&written(frames)), expected);
    }

    #[test]
    fn a_large_payload_is_cut_to_frames_and_not_copied() {
        let payload = Bytes::from(vec![b'x'; 20_000]);
        let mut frames = Frames::new(5, 8192, false);
        push(&mut frames, payload.clone(), &full());
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let count = frames.written.chunks_vectored(&mut slices);
        let shared =
            slices[..count].iter().filter(|piece| payload.as_ptr_range().contains(&piece.as_ptr()));
        assert_eq!(shared.map(|piece| piece.len()).collect::<Vec<_>>(), [8184, 8184]);
        let mut expected = head(false, full_of_library(), 20_000).to_vec();
        for bytes in [8184, 8184, 3632] {
            expected.push(AMQPFrame::Body(5, vec![b'x'; bytes]));
        }
        assert_eq!(read(&written(frames)), expected);
    }

    #[test]
    fn properties_are_read_as_they_were_written() {
        for properties in [full(), BasicProperties::default()] {
            let mut frames = Frames::new(5, 4096, false);
            push(&mut frames, Bytes::new(), &properties);
            let mut bytes = BytesMut::from(&written(frames)[..]);
            next_frame(&mut bytes, 4096).unwrap();
            let length = bytes.len();
            let header = next_frame(&mut bytes, 4096).unwrap();
            let Some(Frame::Channel(5, OnChannel::Header(header))) = header else {
                panic!("{header:?}")
            };
            assert_eq!(header.properties, properties);
            assert_eq!(length, OVERHEAD + 14 + properties.bytes());
        }
    }

    #[test]
    fn the_library_reads_acknowledgements() {
        let mut bytes = BytesMut::new();
        put_ack(&mut bytes, 5, 1 << 40, true);
        put_nack(&mut bytes, 5, 7, true);
        put_nack(&mut bytes, 5, 8, false);
        let nack = |delivery_tag, requeue| {
            basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple: false, requeue })
        };
        let ack = basic::Ack { delivery_tag: 1 << 40, multiple: true };
        let expected = [basic::AMQPMethod::Ack(ack), nack(7, true), nack(8, false)];
        let expected = expected.map(|method| AMQPFrame::Method(5, AMQPClass::Basic(method)));
        assert_eq!(read(&bytes), expected);
    }
}
