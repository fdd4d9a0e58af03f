//! Frames from the broker (AMQP 0-9-1, section 4.2.3).
//!
//! What comes with every message is read here; the rest is rare, and the library's codec reads it.

use amq_protocol::{
    frame::{AMQPFrame, gen_frame, parse_frame},
    protocol::{AMQPClass, connection::AMQPMethod as OfConnection, constants},
};
use bytes::{Buf as _, Bytes, BytesMut};
use transload_envelope::Text;

use super::{
    error::{Error, Result},
    properties::{BasicProperties, read_text, short},
};

/// Type, channel and length in front, and the end mark.
pub(super) const OVERHEAD: usize = 8;
/// The class of messages, and its methods that come with each (section 1.8.3).
pub(super) const BASIC: u16 = 60;
const DELIVER: u16 = 60;
const ACK: u16 = 80;
const NACK: u16 = 120;

/// A frame from the broker.
#[derive(Debug)]
pub(super) enum Frame {
    Heartbeat,
    Connection(OfConnection),
    Channel(u16, OnChannel),
}

/// What the broker says on a channel.
#[derive(Debug)]
pub(super) enum OnChannel {
    /// What became of a message, or with `multiple` of all up to it.
    Confirm {
        tag: u64,
        multiple: bool,
        taken: bool,
    },
    /// A message for a consumer; its content follows.
    Deliver(Deliver),
    Method(AMQPClass),
    Header(Box<Header>),
    Body(Bytes),
}

/// `basic.deliver` (section 1.8.3.9), without the consumer's tag: a channel has one consumer.
#[derive(Debug)]
pub(super) struct Deliver {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) exchange: Text,
    pub(super) routing_key: Text,
}

/// What comes before a content (section 4.2.6.1).
#[derive(Debug)]
pub(super) struct Header {
    pub(super) body_bytes: u64,
    pub(super) properties: BasicProperties,
    /// Why there are no properties.
    pub(super) fault: Option<Error>,
}

/// Takes the next whole frame out, if there is one.
pub(super) fn next_frame(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>> {
    let Some(head) = input.first_chunk::<7>() else { return Ok(None) };
    let [kind, c1, c0, s3, s2, s1, s0] = *head;
    if kind == b'A' {
        return wrong_version(input);
    }
    let channel = u16::from_be_bytes([c1, c0]);
    let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).unwrap_or(usize::MAX);
    let total = size.saturating_add(OVERHEAD);
    if total > bytes_max {
        let reason = "the broker sends a frame that is larger than was agreed upon";
        return Err(Error::protocol(reason));
    }
    if input.len() < total {
        return Ok(None);
    }
    let frame = input.split_to(total).freeze();
    if frame.last() != Some(&constants::FRAME_END) {
        return Err(Error::protocol("the broker sends a frame without its end"));
    }
    let payload = frame.slice(7..total - 1);
    let said = match kind {
        constants::FRAME_BODY => Some(OnChannel::Body(payload)),
        constants::FRAME_HEADER => Some(OnChannel::Header(header(payload)?)),
        constants::FRAME_METHOD => frequent(payload)?,
        _ => None,
    };
    match said {
        Some(said) => Ok(Some(Frame::Channel(channel, said))),
        None => parsed(&frame).map(Some),
    }
}

/// Reads a method that comes with each message; `None` for others.
fn frequent(mut payload: Bytes) -> Result<Option<OnChannel>> {
    let method = match payload.first_chunk::<4>() {
        Some([c1, c0, m1, m0]) if u16::from_be_bytes([*c1, *c0]) == BASIC => {
            u16::from_be_bytes([*m1, *m0])
        }
        Some(_) | None => return Ok(None),
    };
    payload.advance(4);
    match method {
        DELIVER => {
            read_text(&mut payload)?;
            let tag = payload.try_get_u64().map_err(|_| short())?;
            let redelivered = payload.try_get_u8().map_err(|_| short())? & 1 != 0;
            let exchange = read_text(&mut payload)?;
            let routing_key = read_text(&mut payload)?;
            Ok(Some(OnChannel::Deliver(Deliver { tag, redelivered, exchange, routing_key })))
        }
        ACK | NACK => {
            let tag = payload.try_get_u64().map_err(|_| short())?;
            let multiple = payload.try_get_u8().map_err(|_| short())? & 1 != 0;
            Ok(Some(OnChannel::Confirm { tag, multiple, taken: method == ACK }))
        }
        _ => Ok(None),
    }
}

fn header(mut payload: Bytes) -> Result<Box<Header>> {
    // The class, and a weight that is always 0.
    payload.try_get_u32().map_err(|_| short())?;
    let body_bytes = payload.try_get_u64().map_err(|_| short())?;
    // They are the sender's, and no fault of the broker.
    let (properties, fault) = match BasicProperties::read(&mut payload) {
        Ok(properties) => (properties, None),
        Err(fault) => (BasicProperties::default(), Some(fault)),
    };
    Ok(Box::new(Header { body_bytes, properties, fault }))
}

fn parsed(frame: &[u8]) -> Result<Frame> {
    match parse_frame(frame) {
        Ok((_, AMQPFrame::Method(0, AMQPClass::Connection(method)))) => {
            Ok(Frame::Connection(method))
        }
        Ok((_, AMQPFrame::Method(channel, method))) => {
            Ok(Frame::Channel(channel, OnChannel::Method(method)))
        }
        Ok((_, AMQPFrame::Heartbeat)) => Ok(Frame::Heartbeat),
        Ok(_) => Err(Error::protocol("the broker sends a frame that has no place here")),
        Err(_) => Err(Error::protocol("the broker sends a frame that cannot be read")),
    }
}

/// A broker that speaks another version answers with the one it speaks (section 2.2.4).
fn wrong_version(input: &BytesMut) -> Result<Option<Frame>> {
    if input.len() < 8 {
        return Ok(None);
    }
    match parse_frame(&input[..]) {
        Ok((_, AMQPFrame::ProtocolHeader(version))) => Err(Error::Version(version)),
        _ => Err(Error::protocol("the broker does not speak AMQP 0-9-1")),
    }
}

/// A method as it is sent.
///
/// # Errors
///
/// If the library cannot write it.
pub(super) fn method_frame(channel: u16, method: AMQPClass) -> Result<Bytes> {
    frame_bytes(&AMQPFrame::Method(channel, method))
}

/// Any frame as it is sent.
///
/// # Errors
///
/// If the library cannot write it.
pub(super) fn frame_bytes(frame: &AMQPFrame) -> Result<Bytes> {
    let written = gen_frame(frame)(Vec::new().into());
    let written = written.map_err(|error| Error::Protocol(error.to_string().into()))?;
    Ok(written.into_inner().0.into())
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::{basic, channel};
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 4096;

    fn frames(bytes: &[u8]) -> Result<Vec<Frame>> {
        let mut input = BytesMut::from(bytes);
        std::iter::from_fn(|| next_frame(&mut input, MAX).transpose()).collect()
    }

    fn wire(method: basic::AMQPMethod) -> Vec<u8> {
        method_frame(3, AMQPClass::Basic(method)).unwrap().to_vec()
    }

    #[test]
    fn confirmations_are_read_as_the_library_writes_them() {
        let ack =
            |multiple| wire(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 1 << 40, multiple }));
        let nack = basic::Nack { delivery_tag: 7, multiple: true, requeue: true };
        let all = [ack(false), ack(true), wire(basic::AMQPMethod::Nack(nack))].concat();
        let read = frames(&all).unwrap();
        let expected = [(1 << 40, false, true), (1 << 40, true, true), (7, true, false)];
        assert_eq!(read.len(), expected.len());
        for (frame, expected) in read.into_iter().zip(expected) {
            let Frame::Channel(3, OnChannel::Confirm { tag, multiple, taken }) = frame else {
                panic!("{frame:?}")
            };
            assert_eq!((tag, multiple, taken), expected);
        }
    }

    #[test]
    fn deliveries_are_read_as_the_library_writes_them() {
        let deliver = basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag: 1 << 40,
            redelivered: true,
            exchange: "x".into(),
            routing_key: "a.b".into(),
        });
        let bytes = wire(deliver);
        let mut read = frames(&bytes).unwrap();
        let Some(Frame::Channel(3, OnChannel::Deliver(read))) = read.pop() else {
            panic!("{read:?}")
        };
        assert_eq!((read.tag, read.redelivered), (1 << 40, true));
        assert_eq!((&*read.exchange, &*read.routing_key), ("x", "a.b"));
        // Whatever is cut short is an error and no panic.
        for length in 12..bytes.len() - 8 {
            let mut cut = bytes[..7 + length].to_vec();
            cut[3..7].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            cut.push(0xce);
            drop(frames(&cut));
        }
    }

    #[test]
    fn a_frame_is_read_once_it_is_whole() {
        let close = channel::Close {
            reply_code: 404,
            reply_text: "none".into(),
            class_id: 60,
            method_id: 40,
        };
        let method = AMQPClass::Channel(channel::AMQPMethod::Close(close.clone()));
        let bytes = method_frame(3, method.clone()).unwrap();
        for length in 0..bytes.len() {
            assert!(frames(&bytes[..length]).unwrap().is_empty(), "{length}");
        }
        let read = frames(&bytes).unwrap();
        let [Frame::Channel(3, OnChannel::Method(read))] = &read[..] else { panic!("{read:?}") };
        assert_eq!(*read, method);
        assert!(matches!(frames(&[8, 0, 0, 0, 0, 0, 0, 0xce]).unwrap()[..], [Frame::Heartbeat]));
        let body = frames(&[3, 0, 3, 0, 0, 0, 2, b'x', b'y', 0xce]).unwrap();
        let [Frame::Channel(3, OnChannel::Body(body))] = &body[..] else { panic!("{body:?}") };
        assert_eq!(body, "xy");
    }

    #[test]
    fn properties_that_cannot_be_read_are_no_fault_of_the_broker() {
        let frame = [2, 0, 3, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xce];
        let mut read = frames(&frame).unwrap();
        let Some(Frame::Channel(3, OnChannel::Header(header))) = read.pop() else {
            panic!("{read:?}")
        };
        assert_eq!((header.body_bytes, header.fault.is_some()), (7, true));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_frames_or_in_an_error(
            kind in 1_u8..4,
            method in prop::sample::select(vec![50_u16, 60, 80, 120]),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut frame = vec![kind, 0, 3, 0, 0, 0, u8::try_from(4 + body.len()).unwrap(), 0, 60];
            frame.extend(method.to_be_bytes());
            frame.extend(body);
            frame.push(0xce);
            drop(frames(&frame));
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request"[..],
            b"AMQP\0\0\x09\0",
            b"AMQPS\0\0\0",
            &[1, 0, 3, 0, 0, 0, 1, 0, 0],
            &[1, 0, 3, 0, 0, 0, 1, 0, 0xce],
            &[1, 0, 3, 0, 0, 0, 4, 0, 60, 0, 60, 0xce],
            &[2, 0, 3, 0, 0, 0, 4, 0, 60, 0, 0, 0xce],
            &[9, 0, 0, 0, 0, 0, 0, 0xce],
            &[3, 0, 3, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(frames(bytes).is_err(), "{bytes:?}");
        }
        assert!(matches!(frames(b"AMQP\0\0\x09\0").unwrap_err(), Error::Version(_)));
    }
}
