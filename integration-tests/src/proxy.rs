//! A TCP proxy that cuts, delays and half-opens what goes through it.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::free_port;

/// How long a half-open connection is kept at most: longer than any time-out that is to notice it.
const HALF_OPEN_MAX: Duration = Duration::from_mins(2);

/// What is done to connections. They are numbered in the order in which they were made.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    made: u64,
    // Those before this number are closed,
    cut_before: u64,
    // and those before this one carry nothing any more, and nobody is told.
    half_open_before: u64,
    // Nothing goes through for now.
    paused: bool,
    delay: Duration,
    // New ones are closed at once.
    refuses: bool,
}

/// A proxy on a port of 127.0.0.1 to another.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port and connects each connection to this one.
    pub fn start(to: u16) -> io::Result<Self> {
        let port = free_port();
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        let listener = socket.listen(128)?;
        let (state, _) = watch::channel(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, state.clone()));
        Ok(Self { port, state, _tasks: tasks })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made so far.
    pub fn made(&self) -> u64 {
        self.state.borrow().made
    }

    /// Closes every connection; new ones are as before.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut_before = state.made);
    }

    /// Loses both ends of every connection without a word; new ones are as before.
    pub fn half_open(&self) {
        self.state.send_modify(|state| state.half_open_before = state.made);
    }

    /// Lets nothing through, or everything again.
    pub fn pause(&self, paused: bool) {
        self.state.send_modify(|state| state.paused = paused);
    }

    /// Holds back each piece for so long.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Closes every connection, and new ones too, or no longer.
    pub fn refuse(&self, refuses: bool) {
        self.state.send_modify(|state| {
            state.refuses = refuses;
            state.cut_before = state.made;
        });
    }
}

async fn accept(listener: TcpListener, to: u16, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else { continue };
        if state.borrow().refuses {
            continue;
        }
        let mut number = 0;
        state.send_modify(|state| {
            number = state.made;
            state.made += 1;
        });
        connections.spawn(connection(client, to, number, state.subscribe()));
    }
}

async fn connection(client: TcpStream, to: u16, number: u64, mut state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    // A piece that waits for more would be a delay of its own.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = pass(client_read, server_write, number, state.clone());
    let down = pass(server_read, client_write, number, state.clone());
    tokio::select! {
        ((), ()) = async { tokio::join!(up, down) } => {}
        () = cut(&mut state, number) => {}
    }
}

/// Passes one direction on until its end. An end of one direction is passed on as such.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut piece = vec![0; 16_384];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            () = lost(&mut state, number) => return,
        };
        let delay = state.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if state.borrow().paused && state.wait_for(|state| !state.paused).await.is_err() {
            return;
        }
        if state.borrow().half_open_before > number {
            lost(&mut state, number).await;
            return;
        }
        let Ok(count) = read else { return };
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
            // The other side may be gone already.
            let _ = to.shutdown().await;
            return;
        };
        if to.write_all(read).await.is_err() {
            return;
        }
    }
}

async fn cut(state: &mut watch::Receiver<State>, number: u64) {
    // The sender outlives the connections; without it they end too.
    let _ = state.wait_for(|state| state.cut_before > number).await;
}

/// Waits until the connection is half-open, and has been for long.
async fn lost(state: &mut watch::Receiver<State>, number: u64) {
    if state.wait_for(|state| state.half_open_before > number).await.is_ok() {
        sleep(HALF_OPEN_MAX).await;
    }
}
