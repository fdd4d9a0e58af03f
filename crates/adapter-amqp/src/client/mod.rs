//! Our own client of AMQP 0-9-1.
//!
//! What it has before `lapin`: the messages of one call are written and confirmed as one, by the
//! connection's task and without a thread; what is returned is told to the call that sent it, so
//! that calls need not wait for each other; and a connection whose messages nobody receives is not
//! read. The codec of what is rare is that of `lapin`.
//!
//! Invariants:
//! - One task owns the connection. It is made once; after an error the gateway decides when there
//!   is a new one.
//! - Messages are written in the order of the calls, and answered to the calls that sent them.
//! - What waits to be written is bounded: above the bound no more calls are taken, and they wait.
//! - What waits to be received is bounded too; see `arrivals`.

mod arrivals;
mod channels;
mod content;
mod encode;
mod error;
mod input;
mod login;
mod properties;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use amq_protocol::{protocol::AMQPClass, uri::AMQPUri};
use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use transload_adapter::{
    ConnectError,
    wire::{Io, Stream},
};

use self::{
    arrivals::Arrivals,
    channels::{Channels, Opened, Reply},
    task::Task,
};
pub(crate) use self::{
    arrivals::{Arrival, Delivery},
    channels::Channel,
    encode::{Frames, put_ack, put_nack},
    error::{Error, Result},
    properties::{BasicProperties, put_text},
    table::{Table, counted, put_counted},
    window::{Answer, Answers, Returned},
};
use crate::{
    config::AmqpConfig,
    connect::{LinkState, Teller, Tls},
    error::connect_error,
};

/// How many calls may wait to be taken by the task.
const CALLS_MAX: usize = 64;

/// What is asked of the task.
enum Command {
    Open(Opened),
    Call { channel: Arc<Channel>, method: Bytes, reply: Reply },
    Write { channel: Arc<Channel>, frames: Bytes },
    Publish { channel: Arc<Channel>, frames: Frames, done: oneshot::Sender<Answers> },
    GiveUp(Arc<Channel>),
}

/// A connection. It is closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<LinkState>,
    frame_bytes_max: usize,
    closing: Arc<DropGuard>,
}

impl Client {
    /// Connects and logs in to one broker. What its consumers are sent comes out at the other end.
    ///
    /// # Errors
    ///
    /// If the broker is not there, or refuses; the places of the settings are not named.
    pub(crate) async fn connect(
        uri: &AMQPUri,
        config: &AmqpConfig,
        tls: Option<Tls>,
        teller: &Teller,
        tasks: &TaskTracker,
    ) -> std::result::Result<(Self, mpsc::Receiver<Arrival>), ConnectError> {
        let limit = config.connect_timeout.get();
        let silent = |_| ConnectError::Unreachable("connection: the broker does not answer".into());
        let stream = timeout(limit, stream(uri, tls)).await.map_err(silent)?;
        let io = Io::new(stream.map_err(|error| connect_error("connection", error.into()))?);
        let name = teller.connection_name(config);
        let payload_bytes_max = config.message_bytes_max();
        let client = timeout(limit, Self::log_in(io, uri, &name, payload_bytes_max, teller, tasks));
        let client = client.await.map_err(silent)?;
        client.map_err(|error| connect_error("connection", error))
    }

    async fn log_in(
        mut io: Io,
        uri: &AMQPUri,
        name: &str,
        payload_bytes_max: usize,
        teller: &Teller,
        tasks: &TaskTracker,
    ) -> Result<(Self, mpsc::Receiver<Arrival>)> {
        let terms = login::login(&mut io, uri, name).await?;
        let (commands, queue) = mpsc::channel(CALLS_MAX);
        let (sender, state) = watch::channel(LinkState::Open);
        let closing = CancellationToken::new();
        let (arrivals, received) = Arrivals::new();
        let channels = Channels::new(terms.channel_max, payload_bytes_max, arrivals);
        let task = Task::new(io, queue, channels, closing.clone(), sender, teller.clone(), terms);
        let frame_bytes_max = task.frame_bytes_max();
        tasks.spawn(task.run());
        let closing = Arc::new(closing.drop_guard());
        Ok((Self { commands, state, frame_bytes_max, closing }, received))
    }

    /// How the connection fares.
    pub(crate) fn state(&self) -> &watch::Receiver<LinkState> {
        &self.state
    }

    /// The largest frame that was agreed upon.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// A new channel with confirmations.
    ///
    /// # Errors
    ///
    /// If the broker refuses, or the connection is lost.
    pub(crate) async fn open_channel(&self) -> Result<Arc<Channel>> {
        let (opened, channel) = oneshot::channel();
        self.command(Command::Open(opened)).await?;
        channel.await.map_err(|_| self.loss())?
    }

    /// Asks the broker something on a channel that nobody else asks something on meanwhile.
    ///
    /// # Errors
    ///
    /// If the broker ends the channel, which is how it refuses, or the connection is lost.
    pub(crate) async fn call(
        &self,
        channel: &Arc<Channel>,
        method: AMQPClass,
    ) -> Result<AMQPClass> {
        let method = input::method_frame(channel.number(), method)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Call { channel: Arc::clone(channel), method, reply }).await?;
        answer.await.map_err(|_| self.loss())?
    }

    /// Sends a method that has no answer.
    ///
    /// # Errors
    ///
    /// If the channel or the connection has ended.
    pub(crate) async fn send(&self, channel: &Arc<Channel>, method: AMQPClass) -> Result<()> {
        self.write(channel, input::method_frame(channel.number(), method)?).await
    }

    /// Writes frames that have no answer.
    ///
    /// # Errors
    ///
    /// If the channel or the connection has ended.
    pub(crate) async fn write(&self, channel: &Arc<Channel>, frames: Bytes) -> Result<()> {
        if channel.has_ended() {
            return Err(Error::ChannelClosed);
        }
        self.command(Command::Write { channel: Arc::clone(channel), frames }).await
    }

    /// Publishes messages, and returns where the answers to them will be. Calls are taken in the
    /// order in which they are first polled; one that is dropped before it returns has published
    /// nothing.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub(crate) async fn publish(
        &self,
        channel: &Arc<Channel>,
        frames: Frames,
    ) -> Result<oneshot::Receiver<Answers>> {
        let (done, answers) = oneshot::channel();
        self.command(Command::Publish { channel: Arc::clone(channel), frames, done }).await?;
        Ok(answers)
    }

    /// Ends a channel; what the broker has not answered by now is told to whoever waits.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub(crate) async fn give_up(&self, channel: &Arc<Channel>) -> Result<()> {
        self.command(Command::GiveUp(Arc::clone(channel))).await
    }

    /// Ends the connection in order, or after a while anyway.
    pub(crate) async fn close(&self) {
        self.closing.token().cancel();
        let mut state = self.state.clone();
        // The task bounds how long that takes; without it there is nothing to wait for.
        drop(state.wait_for(|state| matches!(state, LinkState::Lost(_))).await);
    }

    /// Why the connection has ended.
    pub(crate) fn loss(&self) -> Error {
        match &*self.state.borrow() {
            LinkState::Lost(error) => error.clone(),
            LinkState::Open | LinkState::Blocked(_) => Error::Closed,
        }
    }

    async fn command(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| self.loss())
    }
}

async fn stream(uri: &AMQPUri, tls: Option<Tls>) -> std::io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(Tls { config, server_name }) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(server_name).map_err(std::io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}
