//! Where a server is.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;
use url::Url;

/// The port of NATS.
const PORT: u16 = 4222;

/// The URL of a server: `nats://host:4222`, `tls://host` or `host`, perhaps with a login.
#[derive(Clone)]
pub(crate) struct ServerAddress(Url);

/// Why a text is no address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// It is not the URL of a NATS server.
    #[error("this is not the URL of a NATS server")]
    Unreadable,
    /// It asks for WebSocket.
    #[error("NATS over WebSocket is not supported")]
    WebSocket,
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url =
            if text.contains("://") { text.parse() } else { format!("nats://{text}").parse() };
        let url: Url = url.map_err(|_| AddressError::Unreadable)?;
        match url.scheme() {
            "nats" | "tls" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(Self(url)),
            "ws" | "wss" => Err(AddressError::WebSocket),
            _ => Err(AddressError::Unreadable),
        }
    }
}

impl ServerAddress {
    /// Whether only TLS will do.
    pub(crate) fn needs_tls(&self) -> bool {
        self.0.scheme() == "tls"
    }

    /// The name or the address of the host, without the brackets of IPv6.
    pub(crate) fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.0.port().unwrap_or(PORT)
    }

    /// What stands before the `@` and the colon in it.
    pub(crate) fn username(&self) -> Option<String> {
        Some(self.0.username()).filter(|user| !user.is_empty()).map(decoded)
    }

    /// What stands behind that colon.
    pub(crate) fn password(&self) -> Option<String> {
        self.0.password().map(decoded)
    }
}

/// Without the login.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme(), self.0.host_str().unwrap_or_default());
        write!(f, "{scheme}://{host}:{}", self.port())
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerAddress({self})")
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_secrets() {
        for (text, wanted) in [
            ("nats://h", Ok("nats://h:4222")),
            ("h", Ok("nats://h:4222")),
            ("h:1", Ok("nats://h:1")),
            ("tls://a:geheim@h:4443", Ok("tls://h:4443")),
            ("nats://[::1]:5", Ok("nats://[::1]:5")),
            ("ws://h", Err(AddressError::WebSocket)),
            ("http://h", Err(AddressError::Unreadable)),
            ("nats://", Err(AddressError::Unreadable)),
            ("nats://h:x", Err(AddressError::Unreadable)),
        ] {
            let read = text.parse::<ServerAddress>().map(|address| address.to_string());
            assert_eq!(read, wanted.map(str::to_owned), "{text}");
        }
        let address: ServerAddress = "tls://a%40b:p%3Aq@[::1]".parse().unwrap();
        assert_eq!((address.host(), address.needs_tls()), ("::1", true));
        assert_eq!(address.username().as_deref(), Some("a@b"));
        assert_eq!(address.password().as_deref(), Some("p:q"));
        assert!(!format!("{address:?}").contains("p:q"));
    }
}
