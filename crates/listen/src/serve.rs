use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    bind::Bound,
    places::{Place, Places},
    stream::Stream,
    tcp,
    tls::{ClientIdentity, Tls},
};

/// How long the loop waits after an `accept` that failed for want of something of the machine's.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a listener runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many connections may be served at once; several listeners may share them.
    pub places: Arc<Places>,
    /// TLS, where the listener speaks it.
    pub tls: Option<Tls>,
    /// Ends the loop.
    pub stop: CancellationToken,
    /// Owns the connections' tasks.
    pub tasks: TaskTracker,
}

/// A peer that was let in.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// Its address.
    pub peer: SocketAddr,
    /// Who it is by its certificate, where it has shown one.
    pub identity: Option<Arc<ClientIdentity>>,
    /// Its place among the connections; dropping it lets another peer in.
    pub place: Place,
}

/// Why a peer was not let in.
#[derive(Debug)]
pub enum Refused {
    /// As many as may be are served already.
    TooManyConnections,
    /// As many as may be are served of its address.
    TooManyOfOneAddress,
    /// The TLS handshake failed or took too long.
    Handshake(io::Error),
}

/// What is done with the peers.
pub trait Serve: Send + Sync + 'static {
    /// Serves one peer until its end, in a task of its own.
    fn serve(self: Arc<Self>, connection: Connection) -> impl Future<Output = ()> + Send;

    /// Hears of a peer that was turned away.
    fn refused(&self, peer: SocketAddr, why: &Refused);
}

/// Accepts peers until the stop signal, and serves each in a task of its own.
pub async fn serve<S: Serve>(bound: Bound, settings: Settings, server: Arc<S>) {
    loop {
        let accepted = tokio::select! {
            () = settings.stop.cancelled() => break,
            accepted = bound.socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => admit(&settings, &server, tcp, peer),
            Err(error) if concerns_one_peer(&error) => {
                debug!(%error, "A peer was gone before it was accepted.");
            }
            Err(error) => {
                warn!(%error, address = %bound.address(), "Accepting is paused.");
                tokio::select! {
                    () = settings.stop.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    info!(address = %bound.address(), "No longer listening.");
}

fn admit<S: Serve>(settings: &Settings, server: &Arc<S>, tcp: TcpStream, peer: SocketAddr) {
    let place = match settings.places.take(peer.ip()) {
        Ok(place) => place,
        Err(why) => return server.refused(peer, &why),
    };
    if let Err(error) = tcp::prepare(&tcp) {
        // Only a socket that is gone refuses this; its first read tells the same.
        debug!(%error, %peer, "A connection was not prepared.");
    }
    let server = Arc::clone(server);
    match settings.tls.clone() {
        None => {
            let stream = Stream::Tcp(tcp);
            let connection = Connection { stream, peer, identity: None, place };
            settings.tasks.spawn(server.serve(connection));
        }
        Some(tls) => {
            settings.tasks.spawn(async move {
                match tls.accept(tcp).await {
                    Ok((stream, identity)) => {
                        server.serve(Connection { stream, peer, identity, place }).await;
                    }
                    Err(error) => server.refused(peer, &Refused::Handshake(error)),
                }
            });
        }
    }
}

/// Whether the failure says something about one peer only, so that the next may be accepted at
/// once (accept(2), «Error handling»).
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::net::sockopt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Default)]
    struct Echo {
        refused: AtomicUsize,
    }

    impl Serve for Echo {
        async fn serve(self: Arc<Self>, mut connection: Connection) {
            let mut byte = [0];
            while matches!(connection.stream.read(&mut byte).await, Ok(1)) {
                connection.stream.write_all(&byte).await.unwrap();
            }
        }

        fn refused(&self, _: SocketAddr, _: &Refused) {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn echoes(stream: &mut TcpStream) -> bool {
        stream.write_all(b"x").await.is_ok() && matches!(stream.read(&mut [0; 1]).await, Ok(1))
    }

    /// Tells of one connection how the system is to treat it.
    struct Inspect(tokio::sync::mpsc::Sender<(bool, Duration, Duration, u32)>);

    impl Serve for Inspect {
        async fn serve(self: Arc<Self>, connection: Connection) {
            let Stream::Tcp(tcp) = &connection.stream else { panic!("there is no TLS") };
            let idle = sockopt::tcp_keepidle(tcp).unwrap();
            let interval =
                sockopt::tcp_keepintvl(tcp).unwrap() * sockopt::tcp_keepcnt(tcp).unwrap();
            let unacknowledged = sockopt::tcp_user_timeout(tcp).unwrap();
            let asks = sockopt::socket_keepalive(tcp).unwrap();
            self.0.send((asks, idle, interval, unacknowledged)).await.unwrap();
        }

        fn refused(&self, _: SocketAddr, _: &Refused) {}
    }

    /// That a peer falls silent without a word cannot be made to happen on one machine; that the
    /// system looks for it can be seen.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_system_looks_for_peers_that_are_gone() {
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let _client = TcpStream::connect(bound.address()).await.unwrap();
        let (sender, mut seen) = tokio::sync::mpsc::channel(1);
        let settings = Settings {
            places: Places::new(1, 1),
            tls: None,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        settings.tasks.spawn(super::serve(bound, settings.clone(), Arc::new(Inspect(sender))));
        let seen = tokio::time::timeout(Duration::from_secs(5), seen.recv()).await.unwrap();
        let minute = Duration::from_mins(1);
        assert_eq!(seen, Some((true, minute, minute, 180_000)));
        settings.stop.cancel();
        settings.tasks.close();
        settings.tasks.wait().await;
    }

    #[tokio::test]
    async fn peers_beyond_the_bound_are_closed_and_come_in_again_later() {
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.address();
        let settings = Settings {
            places: Places::new(1, 1),
            tls: None,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let server = Arc::new(Echo::default());
        settings.tasks.spawn(super::serve(bound, settings.clone(), Arc::clone(&server)));

        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(echoes(&mut first).await);
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(!echoes(&mut second).await, "the second peer must be closed");
        assert_eq!(server.refused.load(Ordering::SeqCst), 1);
        assert!(echoes(&mut first).await, "the first peer is not disturbed");

        drop(first);
        let let_in = async {
            loop {
                let mut third = TcpStream::connect(address).await.unwrap();
                if echoes(&mut third).await {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), let_in).await.unwrap();

        settings.stop.cancel();
        settings.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), settings.tasks.wait()).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
}
