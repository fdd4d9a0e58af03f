//! Certificates in files, and TLS of the connections that the gateway opens.
//!
//! Invariants:
//! - A peer's certificate is always checked, for the name that is connected to: there is no setting
//!   that turns this off.
//! - No error holds the text of a file, which may be a key.

mod client;
mod pem;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    client::ClientTls,
    pem::{TlsFault, certificates, private_key},
};
