//! Serves connections.
//!
//! Invariants:
//! - Whatever a peer does, its connection ends: a head must come in `header_timeout`, a body in
//!   `body_timeout`, an answer waits hardly longer than `response_timeout`, a peer that takes nothing is
//!   given up after `write_timeout`, and a connection without a request after `header_timeout`. Only a
//!   reader of an event stream that reads stays.
//! - The memory of a connection is bounded: one head, and with HTTP/2 the windows and the answers of
//!   its streams.

use std::{
    convert::Infallible,
    future::{Future, pending},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::{Either, StreamBody};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::debug;
use transload_adapter::Event;
use transload_listen::{Connection, Refused, Serve, Stream};

use super::{
    access::Peer,
    answer::{Body, EventFrames},
    busy::{Busy, UnderWay},
    request::respond,
    server::Server,
    wire::{Version, Wire},
};

/// What is read of a connection at once, in bytes, beyond the largest head, since hyper 1.12 does
/// not answer when a head fills this buffer.
const BUFFER_BYTES_SPARE: usize = 32 * 1024;
/// How many requests may be under way on one connection of HTTP/2.
const STREAMS_MAX: u32 = 64;
/// How much of the bodies of one connection of HTTP/2 may have arrived and not been read, in bytes.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// The same of one request.
const STREAM_WINDOW: u32 = 128 * 1024;
/// How much of the answers of one stream of HTTP/2 may wait for the peer, in bytes.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// How many streams a peer may reset before they were served, or have reset by its faults. One more
/// ends the connection (CVE-2023-44487).
const RESETS_MAX: usize = 32;
/// How often a connection of HTTP/2 is asked whether it is there, and how long it may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long connections may take to finish when the endpoints are gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take after the stop to bring its first request.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(1);

impl Serve for Server {
    async fn serve(self: Arc<Self>, connection: Connection) {
        let Connection { stream, peer, identity, place } = connection;
        self.observer.count(Event::ConnectionOpened, 1);
        serve_requests(&self, stream, Peer::new(peer, identity)).await;
        self.observer.count(Event::ConnectionClosed, 1);
        drop(place);
    }

    fn refused(&self, peer: SocketAddr, why: &Refused) {
        self.observer.count(Event::ConnectionRefused, 1);
        debug!(%peer, ?why, "A peer was turned away.");
    }
}

async fn serve_requests(server: &Arc<Server>, stream: Stream, peer: Peer) {
    let peer = Arc::new(peer);
    let wire = Wire::open(stream, server.config.write_timeout.get());
    let opened = tokio::select! {
        opened = timeout(server.config.header_timeout.get(), wire) => opened,
        () = server.end.cancelled() => return,
        () = unused(server) => return,
    };
    let Ok(Ok((version, wire))) = opened else {
        debug!(peer = %peer.address, "A peer did not say what it wants.");
        return;
    };
    let (busy, address) = (Busy::default(), peer.address);
    let service = service_fn({
        let (server, busy) = (Arc::clone(server), busy.clone());
        move |request| answer(Arc::clone(&server), busy.begin(), Arc::clone(&peer), request)
    });
    let io = TokioIo::new(wire);
    let outcome = match version {
        Version::Http1 => {
            let connection = http1(server).serve_connection(io, service);
            drive(server, connection, http1::Connection::graceful_shutdown, &busy, pending()).await
        }
        Version::Http2 => {
            let connection = http2(server).serve_connection(io, service);
            // With HTTP/1.1 hyper sees to it.
            let idle = busy.idle(server.config.header_timeout.get());
            drive(server, connection, http2::Connection::graceful_shutdown, &busy, idle).await
        }
    };
    if let Some(Err(error)) = outcome {
        if error.is_parse() {
            server.observer.count(Event::ProtocolError, 1);
        }
        debug!(peer = %address, %error, "A connection broke off.");
    }
}

/// More than 100 header fields get 431, by hyper's own bound: any other costs it two allocations of some
/// KiB for each request.
fn http1(server: &Server) -> http1::Builder {
    let head_bytes_max = server.config.max_head_bytes.as_usize();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(server.config.header_timeout.get())
        // Nearly all answers are shorter than what a second piece costs the system.
        .writev(false)
        .max_buf_size(head_bytes_max + BUFFER_BYTES_SPARE)
        .max_header_size(head_bytes_max);
    builder
}

fn http2(server: &Server) -> http2::Builder<Tasks> {
    let head_bytes_max = server.config.max_head_bytes.as_usize();
    let mut builder = http2::Builder::new(Tasks(server.tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// The tasks of the requests of HTTP/2.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send + 'static> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Answers one request; it is under way until its answer has been written, or its stream has ended.
async fn answer(
    server: Arc<Server>,
    under_way: UnderWay,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let response = respond(&server, &peer, request).await;
    Ok(response.map(|body| match body {
        Either::Left(whole) => Either::Left(whole),
        Either::Right(frames) => {
            let frames = frames.map(move |frame| {
                let _until_the_end = &under_way;
                frame
            });
            Either::Right(StreamBody::new(Box::pin(frames) as EventFrames))
        }
    }))
}

/// Drives a connection to its end; none if it had to be cut off.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    server: &Server,
    connection: C,
    shut_down: fn(Pin<&mut C>),
    busy: &Busy,
    idle: impl Future<Output = ()>,
) -> Option<hyper::Result<()>> {
    let mut connection = pin!(connection);
    // The end stops the listener too, so that one signal has to be looked at.
    let last_moment = tokio::select! {
        outcome = connection.as_mut() => return Some(outcome),
        () = server.stop.cancelled() => Duration::MAX,
        () = idle => server.config.write_timeout.get(),
    };
    // Connections between two requests close now, those with a request after its answer.
    shut_down(connection.as_mut());
    tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = sleep(last_moment) => None,
        () = ended(server) => None,
        () = unused(server), if !busy.was_used() => None,
    }
}

/// Resolves when no connection may last any longer, since the endpoints are gone.
async fn ended(server: &Server) {
    server.end.cancelled().await;
    sleep(END_TIMEOUT).await;
}

/// Resolves when a connection without any request may not last any longer after the stop: browsers
/// open connections that they never use.
async fn unused(server: &Server) {
    server.stop.cancelled().await;
    sleep(UNUSED_TIMEOUT).await;
}
