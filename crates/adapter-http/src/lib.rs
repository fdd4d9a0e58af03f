//! The HTTP adapter: a listener for webhooks and event streams, and a client.
//!
//! Invariants:
//! - A request is answered with 2xx only after the gateway has accepted its message under the
//!   route's guarantee; whatever else happens, the sender is told to send it again, or why not to.
//! - Neither role retries, queues or backs off; both have a bound on everything that a peer can
//!   make them hold.
//! - No credential of one hop becomes part of a message, and nothing in a message can change where
//!   a request goes.

mod carriage;
mod client;
mod error;
mod listener;
mod mapping;
#[cfg(feature = "testing")]
mod round_trip;
mod secrets;
#[cfg(test)]
mod testing;

pub use self::{
    carriage::{EVENT_STREAM, REQUESTS},
    client::{
        ClientConfig, ClientTarget, CredentialsIn, HttpClient, Method, OAuth2Settings, SignSettings,
    },
    listener::{
        Algorithm, AuthSettings, BasicUser, BearerToken, CorsSettings, Encoding, HttpListener,
        IntakeMethod, ListenerConfig, ListenerTarget, PathSettings, Patterns, ProxyHeader, Rate,
        RateLimitSettings, SchemeName, StreamSettings, VerifySettings,
    },
};
#[cfg(feature = "testing")]
pub use self::{listener::fuzz, round_trip::round_trip};
