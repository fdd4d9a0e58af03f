//! The contract between the gateway and a protocol.
//!
//! Invariants:
//! - An adapter holds no retry, no back-off and no queue of its own: it connects once, receives,
//!   sends, and says what it sees. The gateway decides what happens next.
//! - An acknowledgement is a value ([`Receipt`]) that must be spent; dropping it releases the
//!   message to its source, so a fault can duplicate a message and never lose one.
//! - Errors are named by the reaction they need; the client library's error is only their source.
//! - No type of a client library appears here.

mod adapter;
mod capability;
mod carriage;
mod context;
mod endpoint;
mod error;
mod lint;
mod observe;
mod payload;
mod receipt;
mod registry;
mod request;
mod room;
mod secret;
mod settlement;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;
pub mod units;
pub mod wire;

pub use self::{
    adapter::Adapter,
    capability::{ReplyPath, SourceCapabilities, TargetCapabilities},
    carriage::{Carriage, Part},
    context::{Context, Interest, UpdateSender, Updates, updates},
    endpoint::{Delivery, Destination, Endpoints, Inbound, Lost, Outbound, Sent},
    error::{BoxError, ConnectError, ReceiveError, SendError},
    lint::{Lint, Severity},
    observe::{Event, NoObserver, Observer},
    payload::detached,
    receipt::{
        Receipt, Settled, SettlementQueue, SettlementSender, Share, Tag, settlement_channel,
    },
    registry::{
        AnyEndpoints, AnyOutbound, AnyTarget, Kind, Prepared, PreparedTarget, Registry, SelectError,
    },
    request::{Replies, RequestError, Waiters, Waiting},
    room::{ByteRoom, Occupied},
    secret::Secret,
    settlement::{Refusal, Settlement},
};
