//! Our own client of NATS.
//!
//! What it has before `async-nats`: the messages of one call are encoded into one buffer and written
//! as one; what comes in is handed to its receiver by the task that reads it, without a copy for a
//! queue of the client's own; a PING is answered to the call that sent it, which proves that the
//! server has read what was written before; headers keep their order; and it connects once.
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>
//!
//! Invariants:
//! - One task owns the connection. It is made once; after an error the gateway decides when there
//!   is a new one.
//! - What is written leaves in the order of the calls.
//! - What waits to be written is bounded: above the bound no more calls are taken, and they wait.
//! - What comes in is never held here: a sink takes each message at once, and bounds what it keeps.

mod address;
mod encode;
mod headers;
mod input;
mod login;
mod task;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use transload_adapter::{ConnectError, wire::Stream};
use transload_envelope::MessageId;

pub(crate) use self::{
    address::ServerAddress,
    encode::{Frames, Reply},
    headers::{HeaderBlock, HeaderLines, NO_RESPONDERS},
    input::{Message, text_of},
    login::{Identity, Login},
};
use self::{login::Server, task::Task};
use crate::link::Link;

/// How many calls may wait to be taken by the task.
const CALLS_MAX: usize = 64;

/// Takes what comes in on one subscription. It is dropped when nothing more comes: when it was
/// drained, or when the connection has ended.
pub(crate) trait Sink: Send {
    /// Takes a message, at once.
    fn take(&mut self, message: Message<'_>);
}

/// What is asked of the task.
enum Command {
    Write(Frames),
    Prove { frames: Frames, read: oneshot::Sender<()> },
    Subscribe { number: u64, frames: Frames, sink: Box<dyn Sink> },
    Drain { numbers: Vec<u64>, drained: oneshot::Sender<()> },
}

/// The connection has ended; its link says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// A connection. It is closed, after what was to be written, when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    server: Arc<Server>,
    subscriptions: Arc<AtomicU64>,
    inbox_prefix: Arc<str>,
    _closing: Arc<DropGuard>,
}

impl Client {
    /// Connects and logs in to one server.
    ///
    /// # Errors
    ///
    /// If the server is not there, or refuses.
    pub(crate) async fn connect(
        address: &ServerAddress,
        login: Login,
        ping_interval: Duration,
        link: &Arc<Link>,
        tasks: &TaskTracker,
    ) -> Result<Self, ConnectError> {
        let tcp = TcpStream::connect((address.host(), address.port()));
        let tcp = tcp.await.map_err(|error| ConnectError::Unreachable(error.into()))?;
        tcp.set_nodelay(true).map_err(|error| ConnectError::Unreachable(error.into()))?;
        Self::begin(Box::new(tcp), address, login, ping_interval, link, tasks).await
    }

    async fn begin(
        stream: Box<dyn Stream>,
        address: &ServerAddress,
        login: Login,
        ping_interval: Duration,
        link: &Arc<Link>,
        tasks: &TaskTracker,
    ) -> Result<Self, ConnectError> {
        let inbox_prefix = Arc::clone(&login.inbox_prefix);
        let (io, server) = login::login(stream, address, login).await?;
        let server = Arc::new(server);
        let (commands, queue) = mpsc::channel(CALLS_MAX);
        let closing = CancellationToken::new();
        let task = Task::new(io, queue, closing.clone(), link, Arc::clone(&server), ping_interval);
        tasks.spawn(task.run());
        Ok(Self {
            commands,
            server,
            subscriptions: Arc::default(),
            inbox_prefix,
            _closing: Arc::new(closing.drop_guard()),
        })
    }

    /// How many bytes the headers and the payload of a message may have together.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.server.message_bytes_max()
    }

    /// Whether the server's version is this one or later.
    pub(crate) fn server_is_at_least(&self, major: u16, minor: u16) -> bool {
        self.server.version() >= (major, minor)
    }

    /// The first tokens of subjects that nobody else uses, nor can guess.
    pub(crate) fn new_inbox(&self) -> String {
        format!("{}.{}", self.inbox_prefix, MessageId::generate().as_str().replace('-', ""))
    }

    /// Writes messages. Calls are taken in the order in which they are first polled; one that is
    /// dropped before it returns has written nothing.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(crate) async fn write(&self, frames: Frames) -> Result<(), Gone> {
        self.command(Command::Write(frames)).await
    }

    /// The same, and tells when the server has read them: what it says of one of them comes before.
    ///
    /// # Errors
    ///
    /// If the connection has ended, also afterwards.
    pub(crate) async fn prove(&self, frames: Frames) -> Result<oneshot::Receiver<()>, Gone> {
        let (read, proof) = oneshot::channel();
        self.command(Command::Prove { frames, read }).await?;
        Ok(proof)
    }

    /// Subscribes, and returns the number of the subscription. The server may refuse it later.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub(crate) async fn subscribe(
        &self,
        subject: &str,
        group: Option<&str>,
        sink: Box<dyn Sink>,
    ) -> Result<u64, Gone> {
        let number = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let mut frames = Frames::default();
        frames.subscribe(subject, group, number);
        self.command(Command::Subscribe { number, frames, sink }).await?;
        Ok(number)
    }

    /// Ends subscriptions. What the server has sent for them still comes, and then their sinks are
    /// dropped, which is told.
    ///
    /// # Errors
    ///
    /// If the connection has ended, also afterwards.
    pub(crate) async fn drain(&self, numbers: Vec<u64>) -> Result<oneshot::Receiver<()>, Gone> {
        let (drained, told) = oneshot::channel();
        self.command(Command::Drain { numbers, drained }).await?;
        Ok(told)
    }

    /// Asks a service, and returns the payload of its answer; `None` if there is no such service.
    ///
    /// # Errors
    ///
    /// If there is no answer in time, or the connection has ended.
    pub(crate) async fn request(
        &self,
        subject: &str,
        payload: &Bytes,
        within: Duration,
    ) -> Result<Option<Bytes>, Gone> {
        let inbox = self.new_inbox();
        let (sink, answer) = oneshot::channel();
        let number = self.subscribe(&inbox, None, Box::new(One(Some(sink)))).await?;
        let mut frames = Frames::default();
        frames.publish(subject, Reply::To(&inbox), payload);
        self.write(frames).await?;
        let answer = timeout(within, answer).await;
        drop(self.drain(vec![number]).await?);
        answer.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    async fn command(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }
}

/// Takes the one answer to a request.
struct One(Option<oneshot::Sender<Option<Bytes>>>);

impl Sink for One {
    fn take(&mut self, message: Message<'_>) {
        let nobody = message.status().is_some_and(|(code, _)| code == NO_RESPONDERS);
        let payload = (!nobody).then(|| Bytes::copy_from_slice(message.payload));
        if let Some(one) = self.0.take() {
            // Whoever asked may have given up.
            drop(one.send(payload));
        }
    }
}
