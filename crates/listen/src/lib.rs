//! The accept loop that every listener of the gateway shares.
//!
//! Invariants:
//! - At most as many peers are served at once as there are [`Places`], in all and of one address. A
//!   peer beyond that is closed at once and reported: left in the backlog it would look like a
//!   gateway that hangs, while a closed connection lets it try another address or come back later.
//! - A failing `accept` (no file descriptors left, a peer that vanished) never ends the loop and
//!   never spins: the loop waits and tries again.
//! - A peer that is gone without a word is noticed by the system within minutes, whatever the protocol
//!   asks itself.
//! - A TLS handshake runs in the task of its own connection and within a time, so one slow peer
//!   holds up nobody.
//! - Each connection is one task of the tracker that the caller owns; the loop ends with the stop
//!   signal, and what becomes of the connections then is for their server to decide.

mod bind;
mod places;
mod serve;
mod stream;
mod tcp;
mod tls;

pub use self::{
    bind::{BindError, Bound},
    places::{Place, Places, origin},
    serve::{Connection, Refused, Serve, Settings, serve},
    stream::Stream,
    tls::{ClientCertificate, ClientIdentity, MinimumVersion, Tls, TlsFault, TlsSettings},
};
