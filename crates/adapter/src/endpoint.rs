use std::{fmt, future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use transload_envelope::{Envelope, Outgoing};

use crate::{BoxError, Receipt, ReceiveError, Replies, RequestError, SendError};

/// Resolves when the connection is lost, with the reason; never for a listener.
pub type Lost = Pin<Box<dyn Future<Output = BoxError> + Send>>;

/// The two directions of one connection; a protocol may offer either or both.
pub struct Endpoints<Target> {
    /// Messages from the protocol.
    pub inbound: Option<Box<dyn Inbound>>,
    /// Messages to the protocol.
    pub outbound: Option<Arc<dyn Outbound<Target>>>,
    /// Tells of a loss also when nothing is being sent.
    pub lost: Lost,
}

impl<Target> fmt::Debug for Endpoints<Target> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("inbound", &self.inbound.is_some())
            .field("outbound", &self.outbound.is_some())
            .finish_non_exhaustive()
    }
}

/// A message and the obligation that comes with it.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub envelope: Envelope,
    /// To be settled once the guarantee of its routes is met.
    pub receipt: Receipt,
}

/// Messages from a protocol.
#[async_trait]
pub trait Inbound: Send {
    /// Appends up to `limit` deliveries, waiting for at least one, and returns how many. Takes
    /// what is there without waiting for more. Cancel-safe.
    ///
    /// Settlements are applied by the adapter whether or not this is being called, so that an
    /// acknowledgement never waits behind a blocked route.
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError>;
}

/// A target of a route, as the adapter sees it.
#[derive(Debug)]
pub struct Destination<'a, Target> {
    /// The name of the destination, unique in the gateway and the same across restarts.
    pub name: &'a str,
    /// Its settings.
    pub target: &'a Target,
}

impl<Target> Clone for Destination<'_, Target> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Target> Copy for Destination<'_, Target> {}

/// Messages to a protocol.
#[async_trait]
pub trait Outbound<Target>: Send + Sync {
    /// Sends a batch and waits for the peer's confirmations: one result for each message, in
    /// order. Messages go out in the order of the batch.
    ///
    /// Calls for different destinations overlap. Calls for one destination may overlap too; they
    /// take effect in the order in which they were first polled.
    ///
    /// Dropping the call leaves open which messages were sent; they will be sent again.
    async fn send(
        &self,
        to: Destination<'_, Target>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>>;

    /// Sends one message and puts what is answered to it into `replies`. Resolves when no further
    /// reply can come: at once where the protocol tells that nobody is there, after the response
    /// where there is one, and otherwise when the connection is lost. The caller drops the call as
    /// soon as it has what it wants; a reply that comes later is counted and dropped.
    ///
    /// Calls overlap, and go out in the order in which they were first polled.
    async fn request(
        &self,
        _to: Destination<'_, Target>,
        _message: &Outgoing,
        _replies: &Replies,
    ) -> Result<(), RequestError>
    where
        Target: Sync,
    {
        Err(RequestError::Rejected { reason: "this target gives no replies".into() })
    }

    /// Sends the answer to a request that came in over this connection or one before it: to the
    /// reply address of `request`, which is the message as it came in. The answer has the
    /// request's correlation already.
    async fn answer(&self, _request: &Envelope, _answer: &Envelope) -> Result<Sent, SendError> {
        Err(SendError::Rejected { reason: "this source takes no replies".into() })
    }

    /// Waits until everything sent is on the wire, then closes.
    async fn close(&self);
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The peer confirmed that it has the message.
    Confirmed,
    /// The protocol has no confirmation; the message is on the wire.
    Unconfirmed,
    /// The peer took the message, and nobody was there to receive it (MQTT 5 reason code 0x10,
    /// AMQP returned, a publish that no subscription wanted).
    NoReceiver,
}
