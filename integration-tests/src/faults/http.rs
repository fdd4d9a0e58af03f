//! An HTTP client that posts one message after the other, and a server that records requests
//! (RFC 9112, as far as a `Content-Length` goes).

use std::{collections::VecDeque, io, net::Ipv4Addr, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};

use super::{
    ledger::{Arrival, Books},
    produce::{Outgoing, Protocol, Stream, Verdict, unexpected},
    settings,
};

/// Posts messages. Answers come in the order of the requests.
#[derive(Debug, Default)]
pub(crate) struct Poster {
    asked: VecDeque<u32>,
}

impl Protocol for Poster {
    async fn open(&mut self, _stream: &mut Stream) -> io::Result<()> {
        self.asked.clear();
        Ok(())
    }

    fn publish(&mut self, message: Outgoing<'_>, _again: bool, out: &mut BytesMut) {
        let Outgoing { stamp, id, payload } = message;
        let head = format!(
            "POST /{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
             webhook-id: {id}\r\nContent-Length: {}\r\n\r\n",
            settings::topic(stamp.lane),
            payload.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(payload);
        self.asked.push_back(stamp.number);
    }

    fn read(
        &mut self,
        input: &mut BytesMut,
        verdicts: &mut Vec<Verdict>,
        _out: &mut BytesMut,
    ) -> io::Result<()> {
        while let Some(answer) = parse(input)? {
            let number =
                self.asked.pop_front().ok_or_else(|| unexpected("an answer to nothing"))?;
            let status = answer.first_line.split(' ').nth(1).unwrap_or_default();
            // Anything but a success is a refusal, a redirection too.
            verdicts.push(if status.starts_with('2') {
                Verdict::Acknowledged(number)
            } else {
                Verdict::Refused(number)
            });
        }
        Ok(())
    }
}

/// A request or an answer.
#[derive(Debug)]
struct Unit {
    first_line: String,
    message_id: String,
    body: Bytes,
}

fn parse(input: &mut BytesMut) -> io::Result<Option<Unit>> {
    let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = input.get(..end).and_then(|head| std::str::from_utf8(head).ok());
    let head = head.ok_or_else(|| unexpected("a head that is no text"))?;
    let mut lines = head.split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    let (mut length, mut message_id) = (0, String::new());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                length = value.trim().parse().map_err(|_| unexpected("no length"))?;
            }
            "transfer-encoding" => return Err(unexpected("a body in chunks")),
            "webhook-id" => value.trim().clone_into(&mut message_id),
            _ => {}
        }
    }
    if input.len() < end + 4 + length {
        return Ok(None);
    }
    input.advance(end + 4);
    Ok(Some(Unit { first_line, message_id, body: input.split_to(length).freeze() }))
}

/// A server that records what is posted before it answers.
#[derive(Debug)]
pub(crate) struct Sink {
    listener: TcpListener,
    port: u16,
}

impl Sink {
    pub(crate) fn bind() -> io::Result<Self> {
        let port = crate::free_port();
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        Ok(Self { listener: socket.listen(128)?, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn run<B: Books>(self, target: usize, ledger: Arc<B>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((socket, _)) = self.listener.accept().await else { continue };
            let stream = Stream { socket, input: BytesMut::new() };
            connections.spawn(serve(stream, target, Arc::clone(&ledger)));
        }
    }
}

async fn serve<B: Books>(mut stream: Stream, target: usize, ledger: Arc<B>) {
    let serving = async {
        loop {
            while let Some(request) = parse(&mut stream.input)? {
                let (payload, id) = (&*request.body, &*request.message_id);
                ledger.arrived(Arrival { target, payload, id, redelivered: false });
                stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            }
            stream.more().await?;
        }
    };
    // A connection that ends in the middle is an ordinary case here.
    let _: io::Result<()> = serving.await;
}
