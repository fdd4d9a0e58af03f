use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::TcpListener;

/// A listening socket.
#[derive(Debug)]
pub struct Bound {
    pub(crate) socket: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds and listens. Port 0 takes any free port; see [`Bound::address`].
    pub async fn new(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// The address that was really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why an address cannot be listened on, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}", self.cure())]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl BindError {
    /// What would make it work.
    fn cure(&self) -> &'static str {
        let kind = self.source.kind();
        if kind == io::ErrorKind::AddrInUse {
            "another program uses this address: stop it, or choose another port"
        } else if kind == io::ErrorKind::PermissionDenied {
            "ports below 1024 need a privilege: choose a higher port, or grant CAP_NET_BIND_SERVICE"
        } else if kind == io::ErrorKind::AddrNotAvailable {
            match self.address.ip() {
                IpAddr::V4(_) => "this machine has no such address: use 127.0.0.1 or 0.0.0.0",
                IpAddr::V6(_) => "this machine has no such address: use [::1] or [::]",
            }
        } else {
            "check the address"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bound_port_zero_is_known() {
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(bound.address().port(), 0);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_cure() {
        let first = Bound::new("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = Bound::new(first.address()).await.unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()), "{error}");
        assert!(error.contains("another program uses this address"), "{error}");
    }
}
