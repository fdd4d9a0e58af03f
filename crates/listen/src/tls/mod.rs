//! TLS of a listener: its settings, what is in a client's certificate, and the handshake.
//!
//! Invariants:
//! - New certificates hold for the handshakes that begin after them. Connections that are there stay
//!   as they are, and no session of the old certificates is resumed under the new ones.

mod handshake;
mod identity;
mod settings;
#[cfg(test)]
mod tests;

pub use self::{
    handshake::Tls,
    identity::ClientIdentity,
    settings::{ClientCertificate, MinimumVersion, TlsSettings},
};
pub use transload_tls::TlsFault;
