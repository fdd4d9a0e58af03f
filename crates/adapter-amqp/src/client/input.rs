//! Frames from the broker (AMQP 0-9-1, section 4.2.3).
//!
//! Confirmations are read here, since one comes for every message; the rest is rare, and the
//! library's codec reads it.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};
use bytes::{Buf as _, Bytes, BytesMut};
use lapin::{
    ErrorKind,
    protocol::{
        AMQPClass, AMQPError, AMQPHardError, connection::AMQPMethod as OfConnection, constants,
    },
};

/// Type, channel and length in front, and the end mark.
const OVERHEAD: usize = 8;
/// `basic.ack` and `basic.nack` (sections 1.8.3.13 and, of RabbitMQ's extensions, 1.8.3.14).
const BASIC: u16 = 60;
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
    Method(AMQPClass),
    Header(Box<AMQPContentHeader>),
    /// So many bytes of a content, which nobody wants.
    Body(usize),
}

/// An error of a broker that does not keep to the protocol.
pub(super) fn fault(text: &str) -> lapin::Error {
    let text = text.get(..255).unwrap_or(text);
    let error = AMQPError::new(AMQPHardError::FRAMEERROR.into(), text.into());
    ErrorKind::ProtocolError(error).into()
}

/// Takes the next whole frame out, if there is one.
pub(super) fn next_frame(input: &mut BytesMut, bytes_max: usize) -> lapin::Result<Option<Frame>> {
    let Some(head) = input.first_chunk::<7>() else { return Ok(None) };
    let [kind, c1, c0, s3, s2, s1, s0] = *head;
    if kind == b'A' {
        return wrong_version(input);
    }
    let channel = u16::from_be_bytes([c1, c0]);
    let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).unwrap_or(usize::MAX);
    let total = size.saturating_add(OVERHEAD);
    if total > bytes_max {
        return Err(fault("the broker sends a frame that is larger than was agreed upon"));
    }
    if input.len() < total {
        return Ok(None);
    }
    let frame = input.split_to(total).freeze();
    if frame.last() != Some(&constants::FRAME_END) {
        return Err(fault("the broker sends a frame without its end"));
    }
    let payload = frame.slice(7..total - 1);
    if kind == constants::FRAME_BODY {
        return Ok(Some(Frame::Channel(channel, OnChannel::Body(size))));
    }
    if kind == constants::FRAME_METHOD
        && let Some(confirm) = confirm(payload)
    {
        return Ok(Some(Frame::Channel(channel, confirm)));
    }
    parsed(&frame).map(Some)
}

fn confirm(mut payload: Bytes) -> Option<OnChannel> {
    if payload.try_get_u16() != Ok(BASIC) {
        return None;
    }
    let taken = match payload.try_get_u16() {
        Ok(ACK) => true,
        Ok(NACK) => false,
        Ok(_) | Err(_) => return None,
    };
    let tag = payload.try_get_u64().ok()?;
    let multiple = payload.try_get_u8().ok()? & 1 != 0;
    Some(OnChannel::Confirm { tag, multiple, taken })
}

fn parsed(frame: &[u8]) -> lapin::Result<Frame> {
    match parse_frame(frame) {
        Ok((_, AMQPFrame::Method(0, AMQPClass::Connection(method)))) => {
            Ok(Frame::Connection(method))
        }
        Ok((_, AMQPFrame::Method(channel, method))) => {
            Ok(Frame::Channel(channel, OnChannel::Method(method)))
        }
        Ok((_, AMQPFrame::Header(channel, header))) => {
            Ok(Frame::Channel(channel, OnChannel::Header(header.into())))
        }
        Ok((_, AMQPFrame::Heartbeat)) => Ok(Frame::Heartbeat),
        Ok(_) => Err(fault("the broker sends a frame that has no place here")),
        Err(error) => Err(ErrorKind::ParsingError(error).into()),
    }
}

/// A broker that speaks another version answers with the one it speaks (section 2.2.4).
fn wrong_version(input: &BytesMut) -> lapin::Result<Option<Frame>> {
    if input.len() < 8 {
        return Ok(None);
    }
    match parse_frame(&input[..]) {
        Ok((_, AMQPFrame::ProtocolHeader(version))) => {
            Err(ErrorKind::InvalidProtocolVersion(version).into())
        }
        _ => Err(fault("the broker does not speak AMQP 0-9-1")),
    }
}

/// A method as it is sent.
///
/// # Errors
///
/// If the library cannot write it.
pub(super) fn method_frame(channel: u16, method: AMQPClass) -> lapin::Result<Bytes> {
    frame_bytes(&AMQPFrame::Method(channel, method))
}

pub(super) fn frame_bytes(frame: &AMQPFrame) -> lapin::Result<Bytes> {
    let written = gen_frame(frame)(Vec::new().into());
    let (bytes, _) =
        written.map_err(|error| ErrorKind::SerialisationError(error.into()))?.into_inner();
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{basic, channel};

    use super::*;

    const MAX: usize = 4096;

    fn frames(bytes: &[u8]) -> lapin::Result<Vec<Frame>> {
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
    fn a_frame_is_read_once_it_is_whole() {
        let close = channel::Close {
            reply_code: 404,
            reply_text: "none".into(),
            class_id: 60,
            method_id: 40,
        };
        let method = AMQPClass::Channel(channel::AMQPMethod::Close(close.clone()));
        let bytes = method_frame(3, method).unwrap();
        for length in 0..bytes.len() {
            assert!(frames(&bytes[..length]).unwrap().is_empty(), "{length}");
        }
        let read = frames(&bytes).unwrap();
        assert!(matches!(
            &read[..],
            [Frame::Channel(3, OnChannel::Method(AMQPClass::Channel(channel::AMQPMethod::Close(read))))]
                if *read == close
        ));
        assert!(matches!(frames(&[8, 0, 0, 0, 0, 0, 0, 0xce]).unwrap()[..], [Frame::Heartbeat]));
        let body = [3, 0, 3, 0, 0, 0, 2, b'x', b'y', 0xce];
        assert!(matches!(frames(&body).unwrap()[..], [Frame::Channel(3, OnChannel::Body(2))]));
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request"[..],
            b"AMQP\0\0\x09\0",
            b"AMQPS\0\0\0",
            &[1, 0, 3, 0, 0, 0, 1, 0, 0],
            &[1, 0, 3, 0, 0, 0, 1, 0, 0xce],
            &[9, 0, 0, 0, 0, 0, 0, 0xce],
            &[3, 0, 3, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(frames(bytes).is_err(), "{bytes:?}");
        }
        let version = frames(b"AMQP\0\0\x09\0").unwrap_err();
        assert!(matches!(version.kind(), ErrorKind::InvalidProtocolVersion(_)));
    }
}
