//! Our own client of AMQP 0-9-1, as far as publishing needs one; consuming is the library's.
//!
//! What it has before the library: the messages of one call are written and confirmed as one, by
//! the connection's task and without a thread, and what is returned is told to the call that sent
//! it, so that calls need not wait for each other.
//!
//! Invariants:
//! - One task owns the connection. It is made once; after an error the gateway decides when there
//!   is a new one.
//! - Messages are written in the order of the calls, and answered to the calls that sent them.
//! - What waits to be written is bounded: above the bound no more calls are taken, and they wait.

mod channels;
mod encode;
mod input;
mod io;
mod login;
mod task;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use lapin::{ConnectionState, ErrorKind, uri::AMQPUri};
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
use transload_adapter::ConnectError;

pub(crate) use self::{
    channels::Channel,
    encode::Frames,
    window::{Answer, Answers, Returned},
};
use self::{
    channels::Opened,
    io::{Io, Stream},
    task::Task,
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
    Publish { channel: Arc<Channel>, frames: Frames, done: oneshot::Sender<Answers> },
    GiveUp(Arc<Channel>),
}

/// A connection to publish on. It is closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<LinkState>,
    frame_bytes_max: usize,
    closing: Arc<DropGuard>,
}

impl Client {
    /// Connects and logs in to one broker.
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
    ) -> Result<Self, ConnectError> {
        let limit = config.connect_timeout.get();
        let silent = |_| ConnectError::Unreachable("connection: the broker does not answer".into());
        let stream = timeout(limit, stream(uri, tls)).await.map_err(silent)?;
        let io = Io::new(stream.map_err(|error| connect_error("connection", error.into()))?);
        let name = teller.connection_name(config);
        let client = timeout(limit, Self::log_in(io, uri, &name, teller, tasks));
        let client = client.await.map_err(silent)?;
        client.map_err(|error| connect_error("connection", error))
    }

    async fn log_in(
        mut io: Io,
        uri: &AMQPUri,
        name: &str,
        teller: &Teller,
        tasks: &TaskTracker,
    ) -> lapin::Result<Self> {
        let terms = login::login(&mut io, uri, name).await?;
        let (commands, queue) = mpsc::channel(CALLS_MAX);
        let (sender, state) = watch::channel(LinkState::Open);
        let closing = CancellationToken::new();
        let task = Task::new(io, queue, closing.clone(), sender, teller.clone(), terms);
        let frame_bytes_max = task.frame_bytes_max();
        tasks.spawn(task.run());
        let closing = Arc::new(closing.drop_guard());
        Ok(Self { commands, state, frame_bytes_max, closing })
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
    pub(crate) async fn open_channel(&self) -> lapin::Result<Arc<Channel>> {
        let (opened, channel) = oneshot::channel();
        self.command(Command::Open(opened)).await?;
        channel.await.map_err(|_| self.loss())?
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
    ) -> lapin::Result<oneshot::Receiver<Answers>> {
        let (done, answers) = oneshot::channel();
        self.command(Command::Publish { channel: Arc::clone(channel), frames, done }).await?;
        Ok(answers)
    }

    /// Ends a channel; what the broker has not answered by now is told to whoever waits.
    ///
    /// # Errors
    ///
    /// If the connection is lost.
    pub(crate) async fn give_up(&self, channel: &Arc<Channel>) -> lapin::Result<()> {
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
    pub(crate) fn loss(&self) -> lapin::Error {
        match &*self.state.borrow() {
            LinkState::Lost(error) => error.clone(),
            LinkState::Open | LinkState::Blocked(_) => closed(),
        }
    }

    async fn command(&self, command: Command) -> lapin::Result<()> {
        self.commands.send(command).await.map_err(|_| self.loss())
    }
}

fn closed() -> lapin::Error {
    ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()
}

async fn stream(uri: &AMQPUri, tls: Option<Tls>) -> std::io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(Tls { config, server_name }) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(server_name).map_err(std::io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}
