//! What the producers of all protocols have in common: the window of unacknowledged messages, the
//! pace, and what happens when a connection is lost.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Ledger, Stamp};

/// How long a producer waits for anything from the other side before it takes the connection for
/// lost.
const PATIENCE: Duration = Duration::from_secs(10);
const BEFORE_RECONNECT: Duration = Duration::from_millis(150);
const STEP: Duration = Duration::from_millis(10);

/// What the other side says about a message, or about all up to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Acknowledged(u32),
    Refused(u32),
}

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) stamp: Stamp,
    pub(crate) id: &'a str,
    pub(crate) payload: &'a [u8],
}

/// A protocol in which messages are published and acknowledged.
pub(crate) trait Protocol: Send {
    /// Makes a new connection ready to publish.
    fn open(&mut self, stream: &mut Stream) -> impl Future<Output = io::Result<()>> + Send;

    /// Writes a message; `again` if it was sent before on another connection.
    fn publish(&mut self, message: Outgoing<'_>, again: bool, out: &mut BytesMut);

    /// Takes whole units from the input, and writes what has to be answered.
    fn read(
        &mut self,
        input: &mut BytesMut,
        verdicts: &mut Vec<Verdict>,
        out: &mut BytesMut,
    ) -> io::Result<()>;
}

/// A connection with what was read from it and not used yet.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) socket: TcpStream,
    pub(crate) input: BytesMut,
}

impl Stream {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        let socket = timeout(PATIENCE, TcpStream::connect(("127.0.0.1", port))).await??;
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: BytesMut::with_capacity(65_536) })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.socket.write_all(bytes)).await?
    }

    /// Waits for more input; an error if there will be none.
    pub(crate) async fn more(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes the first unit that `parse` finds.
    pub(crate) async fn take<T>(
        &mut self,
        mut parse: impl FnMut(&mut BytesMut) -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        let taking = async {
            loop {
                if let Some(unit) = parse(&mut self.input)? {
                    return Ok(unit);
                }
                self.more().await?;
            }
        };
        timeout(PATIENCE, taking).await?
    }
}

/// One producer: it sends one message after the other, each until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) number: u16,
    pub(crate) messages: u32,
    /// How many messages may be unacknowledged.
    pub(crate) window: usize,
    /// Messages a second, at most.
    pub(crate) rate: Option<f64>,
    pub(crate) port: u16,
    pub(crate) ledger: Arc<Ledger>,
    next: u32,
    // In the order in which they were sent first.
    unacknowledged: VecDeque<u32>,
    begin: Instant,
}

impl Lane {
    pub(crate) fn new(number: u16, messages: u32, port: u16, ledger: Arc<Ledger>) -> Self {
        let (next, unacknowledged, begin) = (0, VecDeque::new(), Instant::now());
        let (window, rate) = (1, None);
        Self { number, messages, window, rate, port, ledger, next, unacknowledged, begin }
    }

    /// Runs until everything is acknowledged.
    pub(crate) async fn run<P: Protocol>(mut self, mut protocol: P) {
        while !self.is_done() {
            // Each way in which a connection can end is what this is made for.
            let _ = self.connection(&mut protocol).await;
            sleep(BEFORE_RECONNECT).await;
        }
    }

    fn is_done(&self) -> bool {
        self.next >= self.messages && self.unacknowledged.is_empty()
    }

    fn stamp(&self, number: u32) -> Stamp {
        Stamp { lane: self.number, number }
    }

    async fn connection<P: Protocol>(&mut self, protocol: &mut P) -> io::Result<()> {
        if self.unacknowledged.is_empty() && !self.may_send() {
            return Ok(());
        }
        let mut stream = Stream::connect(self.port).await?;
        timeout(PATIENCE, protocol.open(&mut stream)).await??;
        let mut out = BytesMut::new();
        for number in &self.unacknowledged {
            let stamp = self.stamp(*number);
            self.ledger.sent(stamp);
            publish(protocol, stamp, true, &mut out);
        }
        let mut verdicts = Vec::new();
        let mut heard = Instant::now();
        while !self.is_done() {
            self.fill(protocol, &mut out);
            if !out.is_empty() {
                stream.write(&out).await?;
                out.clear();
            }
            if self.unacknowledged.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if let Ok(read) = timeout(STEP, stream.more()).await {
                read?;
                protocol.read(&mut stream.input, &mut verdicts, &mut out)?;
                if !verdicts.is_empty() {
                    heard = Instant::now();
                }
                self.settle(&mut verdicts)?;
            }
        }
        Ok(())
    }

    fn may_send(&self) -> bool {
        let due = self.rate.map_or(f64::MAX, |rate| self.begin.elapsed().as_secs_f64() * rate);
        self.next < self.ledger.allowed(self.messages)
            && f64::from(self.next) < due
            && self.unacknowledged.len() < self.window
    }

    fn fill<P: Protocol>(&mut self, protocol: &mut P, out: &mut BytesMut) {
        while self.may_send() {
            let stamp = self.stamp(self.next);
            self.next += 1;
            self.unacknowledged.push_back(stamp.number);
            self.ledger.sent(stamp);
            publish(protocol, stamp, false, out);
        }
    }

    /// After a refusal the connection is given up, so that what was refused goes out again before
    /// anything that is newer.
    fn settle(&mut self, verdicts: &mut Vec<Verdict>) -> io::Result<()> {
        let mut refused = false;
        for verdict in verdicts.drain(..) {
            match verdict {
                Verdict::Acknowledged(number) => {
                    if let Some(at) = self.unacknowledged.iter().position(|own| *own == number) {
                        self.unacknowledged.remove(at);
                        self.ledger.acknowledged(self.stamp(number));
                    } else if number >= self.next {
                        // Somebody else's acknowledgement would make a loss look like one of the
                        // gateway, so such a run is no good.
                        self.ledger.acknowledged_unsent();
                    }
                }
                Verdict::Refused(number) => {
                    self.ledger.refused(self.stamp(number));
                    refused = true;
                }
            }
        }
        if refused { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
    }
}

fn publish<P: Protocol>(protocol: &mut P, stamp: Stamp, again: bool, out: &mut BytesMut) {
    let (id, payload) = (stamp.to_string(), stamp.payload());
    protocol.publish(Outgoing { stamp, id: &id, payload: &payload }, again, out);
}

/// What came is not what the protocol says.
pub(crate) fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
