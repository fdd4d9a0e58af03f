//! Serves connections.
//!
//! HTTP/1.1 only: HTTP/2 is negotiated by TLS, and without TLS the choice by the first bytes would
//! have no time-out.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use transload_adapter::{Context, Event, Interest, Observer, Updates};
use transload_envelope::Text;
use transload_listen::{Connection, Refused, Serve};
use transload_routing::{Index, Pattern};

use super::{config::ListenerConfig, inbound::Intake, request::respond, stream::Hub};

/// The head of a request in bytes; a larger one gets 431.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// What is read of a connection at once, in bytes. Larger than a head may be, since hyper 1.12 does
/// not answer when a head fills this buffer.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The number of header fields; more get 431.
const HEADERS_MAX: usize = 128;
/// How long connections may take to finish when the endpoints are gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take after the stop to bring its first request.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(1);

/// What all connections of one listener share.
pub(super) struct Server {
    pub(super) config: Arc<ListenerConfig>,
    pub(super) name: Text,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) hub: Arc<Hub>,
    /// Fires when the endpoints are gone.
    pub(super) end: CancellationToken,
    /// One permit for each byte of a body that may be held.
    pub(super) buffered: Arc<Semaphore>,
    stop: CancellationToken,
    wanted: ArcSwap<Index<usize>>,
    intake: Mutex<Option<Arc<Intake>>>,
}

impl Server {
    pub(super) fn new(
        config: Arc<ListenerConfig>,
        context: Context,
        intake: Intake,
        hub: Arc<Hub>,
        end: CancellationToken,
    ) -> Self {
        let buffered_max = config.max_buffered_bytes.as_usize().min(Semaphore::MAX_PERMITS);
        Self {
            config,
            name: context.name,
            observer: context.observer,
            hub,
            end,
            buffered: Arc::new(Semaphore::new(buffered_max)),
            stop: context.stop,
            wanted: ArcSwap::from_pointee(index(&context.interest)),
            intake: Mutex::new(Some(Arc::new(intake))),
        }
    }

    /// Follows what the routes want, until the endpoints are gone.
    pub(super) async fn follow(self: Arc<Self>, mut updates: Updates) {
        loop {
            let interest = tokio::select! {
                () = self.end.cancelled() => return,
                interest = updates.changed() => interest,
            };
            self.wanted.store(Arc::new(index(&interest)));
        }
    }

    /// Whether some route asks for messages to this address.
    pub(super) fn wants(&self, address: &str) -> bool {
        let mut wanted = false;
        self.wanted.load().matches(address, |_, ()| wanted = true);
        wanted
    }

    /// The way to the gateway; none when the adapter is stopping.
    pub(super) fn intake(&self) -> Option<Arc<Intake>> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in no new request. Those that have begun keep their way to the gateway.
    pub(super) fn stop_intake(&self) {
        drop(self.intake.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What the routes want, for one look-up a request.
fn index(interest: &Interest) -> Index<usize> {
    let mut wanted = Index::new();
    for (place, pattern) in interest.patterns.iter().enumerate() {
        match Pattern::parse(pattern) {
            Ok(pattern) => drop(wanted.insert(&pattern, place, ())),
            Err(error) => warn!(%pattern, %error, "A pattern cannot match any path."),
        }
    }
    wanted
}

impl Serve for Server {
    async fn serve(self: Arc<Self>, connection: Connection) {
        let Connection { stream, peer, place, .. } = connection;
        self.observer.count(Event::ConnectionOpened, 1);
        serve_requests(&self, stream, peer).await;
        self.observer.count(Event::ConnectionClosed, 1);
        drop(place);
    }

    fn refused(&self, peer: SocketAddr, why: &Refused) {
        self.observer.count(Event::ConnectionRefused, 1);
        debug!(%peer, ?why, "A peer was turned away.");
    }
}

async fn serve_requests(server: &Arc<Server>, stream: transload_listen::Stream, peer: SocketAddr) {
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Ordering::Relaxed);
        let server = Arc::clone(server);
        async move { Ok::<_, Infallible>(respond(&server, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.config.header_timeout.get())
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut outcome = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = server.stop.cancelled() => None,
        () = server.end.cancelled() => None,
    };
    if outcome.is_none() {
        // Connections between two requests close now, those with a request after its answer.
        connection.as_mut().graceful_shutdown();
        outcome = tokio::select! {
            outcome = connection.as_mut() => Some(outcome),
            () = last_moment(server, &begun) => None,
        };
    }
    if let Some(Err(error)) = outcome {
        if error.is_parse() {
            server.observer.count(Event::ProtocolError, 1);
        }
        debug!(%peer, %error, "A connection broke off.");
    }
}

/// Resolves when a connection may not last any longer after the stop.
async fn last_moment(server: &Server, begun: &AtomicBool) {
    let ended = async {
        server.end.cancelled().await;
        sleep(END_TIMEOUT).await;
    };
    let unused = async {
        sleep(UNUSED_TIMEOUT).await;
        // Browsers open connections that they never use.
        if begun.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = unused => {}
    }
}
