use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{ClientIdentity, TlsFault, TlsSettings};
use crate::Stream;

/// How a listener speaks TLS; clones share the certificates.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    settings: TlsSettings,
    alpn: Vec<&'static [u8]>,
    now: ArcSwap<Now>,
}

struct Now {
    config: Arc<ServerConfig>,
    handshake_timeout: Duration,
}

impl Now {
    fn new(settings: &TlsSettings, alpn: &[&[u8]]) -> Result<Self, TlsFault> {
        let config = Arc::new(settings.server_config(alpn)?);
        Ok(Self { config, handshake_timeout: settings.handshake_timeout.get() })
    }
}

impl Tls {
    /// Reads the files of the settings; `alpn` are the protocols to choose from, the preferred one first.
    pub fn new(settings: &TlsSettings, alpn: &[&'static [u8]]) -> Result<Self, TlsFault> {
        let now = ArcSwap::from_pointee(Now::new(settings, alpn)?);
        Ok(Self(Arc::new(Shared { settings: settings.clone(), alpn: alpn.to_vec(), now })))
    }

    /// Reads the files again, for all handshakes from now on. A fault changes nothing.
    pub fn reload(&self) -> Result<(), TlsFault> {
        self.0.now.store(Arc::new(Now::new(&self.0.settings, &self.0.alpn)?));
        Ok(())
    }

    /// Does the handshake, and tells who the client is where it has shown a certificate.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(Stream, Option<Arc<ClientIdentity>>)> {
        let now = self.0.now.load_full();
        let handshake = TlsAcceptor::from(Arc::clone(&now.config)).accept(tcp);
        let stream = tokio::time::timeout(now.handshake_timeout, handshake).await??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let identity = certificate.map(ClientIdentity::read).transpose()?.map(Arc::new);
        Ok((Stream::Tls(Box::new(stream)), identity))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("handshake_timeout", &self.0.now.load().handshake_timeout)
            .finish_non_exhaustive()
    }
}
