//! What is written to the server.

use bytes::{BufMut, Bytes, BytesMut};
use transload_adapter::wire::Output;

use super::headers::{END, HeaderLines};

/// Where the answer to a message goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'a> {
    /// Nowhere.
    Nowhere,
    /// To this subject.
    To(&'a str),
    /// To this prefix with a number behind it.
    Numbered(&'a str, usize),
}

/// Messages and other lines on their way to the server.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    output: Output,
    lines: HeaderLines,
}

impl Frames {
    /// The headers of the next message, of which there are none yet.
    pub(crate) fn headers(&mut self) -> &mut HeaderLines {
        self.lines.clear();
        &mut self.lines
    }

    /// The bytes that these headers take.
    pub(crate) fn header_bytes(&self) -> usize {
        self.lines.len()
    }

    /// Adds a message with the headers that were written since the last one.
    pub(crate) fn publish(&mut self, subject: &str, reply: Reply<'_>, payload: &Bytes) {
        let buffer = self.output.buffer();
        buffer.put_slice(if self.lines.len() == 0 { b"PUB " } else { b"HPUB " });
        buffer.put_slice(subject.as_bytes());
        buffer.put_u8(b' ');
        match reply {
            Reply::Nowhere => {}
            Reply::To(subject) => {
                buffer.put_slice(subject.as_bytes());
                buffer.put_u8(b' ');
            }
            Reply::Numbered(prefix, number) => {
                buffer.put_slice(prefix.as_bytes());
                put_decimal(buffer, number);
                buffer.put_u8(b' ');
            }
        }
        let header_bytes = self.lines.len();
        if header_bytes > 0 {
            put_decimal(buffer, header_bytes);
            buffer.put_u8(b' ');
        }
        put_decimal(buffer, header_bytes + payload.len());
        buffer.put_slice(b"\r\n");
        if header_bytes > 0 {
            buffer.put_slice(self.lines.as_bytes());
            buffer.put_slice(END);
        }
        self.output.payload(payload);
        self.output.buffer().put_slice(b"\r\n");
        self.lines.clear();
    }

    /// Adds a message without headers that goes to the subject `reply`, such as an acknowledgement.
    pub(crate) fn answer(&mut self, reply: &str, payload: &[u8]) {
        let buffer = self.output.buffer();
        for part in [b"PUB ", reply.as_bytes(), b" "] {
            buffer.put_slice(part);
        }
        put_decimal(buffer, payload.len());
        for part in [b"\r\n", payload, b"\r\n"] {
            buffer.put_slice(part);
        }
    }

    /// Adds a subscription.
    pub(super) fn subscribe(&mut self, subject: &str, group: Option<&str>, number: u64) {
        let buffer = self.output.buffer();
        buffer.put_slice(b"SUB ");
        buffer.put_slice(subject.as_bytes());
        buffer.put_u8(b' ');
        if let Some(group) = group {
            buffer.put_slice(group.as_bytes());
            buffer.put_u8(b' ');
        }
        put_decimal(buffer, number);
        buffer.put_slice(b"\r\n");
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    pub(super) fn into_output(self) -> Output {
        self.output
    }
}

/// Adds the end of a subscription.
pub(super) fn put_unsubscribe(buffer: &mut BytesMut, number: u64) {
    buffer.put_slice(b"UNSUB ");
    put_decimal(buffer, number);
    buffer.put_slice(b"\r\n");
}

fn put_decimal(buffer: &mut BytesMut, number: impl itoa::Integer) {
    buffer.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;

    use super::*;

    fn written(frames: Frames) -> String {
        let mut output = frames.into_output();
        let bytes = output.copy_to_bytes(output.remaining());
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn messages_are_written_as_the_protocol_has_them() {
        let mut frames = Frames::default();
        frames.publish("a.b", Reply::Nowhere, &Bytes::from_static(b"hi"));
        frames.headers().push("n", "v");
        frames.publish("a", Reply::To("r"), &Bytes::from_static(b"hello"));
        frames.publish("a", Reply::Numbered("in.7-", 105), &Bytes::new());
        frames.answer("ack", b"+ACK");
        frames.subscribe("in.*", None, 0);
        frames.subscribe("x.>", Some("g"), 12);
        assert_eq!(
            written(frames),
            "PUB a.b 2\r\nhi\r\nHPUB a r 18 23\r\nNATS/1.0\r\nn: v\r\n\r\nhello\r\n\
             PUB a in.7-105 0\r\n\r\nPUB ack 4\r\n+ACK\r\nSUB in.* 0\r\nSUB x.> g 12\r\n"
        );
    }

    #[test]
    fn headers_of_a_message_that_was_not_sent_are_forgotten() {
        let mut frames = Frames::default();
        frames.headers().push("n", "v");
        frames.headers();
        frames.publish("a", Reply::Nowhere, &Bytes::new());
        assert_eq!(written(frames), "PUB a 0\r\n\r\n");
    }
}
