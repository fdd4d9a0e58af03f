//! The connection that takes messages in, with a session that the broker keeps.
//!
//! It is our own and not `rumqttc`'s, which writes each acknowledgement by itself, reads more
//! meanwhile, and cannot be told to hold reads back.
//!
//! Invariants:
//! - A message is acknowledged when its receipt is settled, in the order in which messages came, and
//!   all whose turn has come leave in one write, whether or not the connection is read.
//! - The connection is read while there is room for what must not be dropped, and no further: what
//!   waits is bounded here, and the rest waits at the broker.
//! - MQTT knows no negative acknowledgement: a message that is released is offered again here, and
//!   what is never settled comes again with the next connection.

mod arrivals;
mod driver;
mod handshake;
mod inbound;
mod keep_alive;
mod subscription;
#[cfg(test)]
mod tests;
mod transport;
mod unsettled;

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use transload_adapter::{ConnectError, Context, Inbound, settlement_channel};

use self::{
    arrivals::{Bound, Limits, arrivals},
    driver::{Driver, Unowned},
    inbound::ClientInbound,
    subscription::Subscription,
};
use super::{config::ClientConfig, error::Broken, link::Link, options::Peer};
use crate::{codec::QoS, io::Io};

/// Connects, subscribes, and starts to take messages in.
pub(super) async fn open(
    config: &ClientConfig,
    peer: &Peer,
    context: &Context,
    link: &Arc<Link>,
    filters: Vec<(String, QoS)>,
) -> Result<Box<dyn Inbound>, ConnectError> {
    let client_id = super::options::client_id(config, &context.name);
    let bytes_max = config.max_packet_bytes.as_usize();
    let connecting = async {
        let wire = transport::connect(peer, bytes_max).await?;
        let mut io = Io::new(wire).copying_frames();
        let granted = handshake::connect(&mut io, config, peer, &client_id).await?;
        Ok::<_, Broken>((io, granted))
    };
    let end = Instant::now() + config.connect_timeout.get();
    let (io, granted) = timeout_at(end, connecting)
        .await
        .unwrap_or_else(|_| Err(Broken::Lost("the broker does not answer".to_owned())))?;
    tracing::debug!(adapter = %context.name, ?granted, "The connection that takes messages in is open.");

    let (subscribed, answer) = oneshot::channel();
    let subscription = Subscription::new(filters, granted.resumed, subscribed);
    let (arrivals, waiting) = arrivals(limits(config));
    let (settle, settlements) = settlement_channel();
    let connection =
        Unowned { io, config, granted: &granted, subscription, queue: arrivals, settlements };
    context.tasks.spawn(Driver::new(connection, client_id, context, link)?.run());
    let inbound = ClientInbound {
        queue: waiting,
        settle,
        context: context.clone(),
        link: Arc::clone(link),
        batch: Vec::new(),
    };
    let end = Instant::now() + config.connect_timeout.get();
    match timeout_at(end, answer).await {
        Ok(Ok(Ok(()))) => Ok(Box::new(inbound)),
        Ok(Ok(Err(refusal))) => {
            link.lose(refusal.clone());
            Err(ConnectError::Refused { reason: refusal.into() })
        }
        Ok(Err(_)) => Err(ConnectError::Unreachable(link.reason())),
        Err(_) => {
            link.lose("the broker does not answer to the subscriptions");
            Err(ConnectError::Unreachable(link.reason()))
        }
    }
}

/// A quarter of the bytes is enough for what must not be dropped: it waits at the broker as well.
fn limits(config: &ClientConfig) -> Limits {
    let bytes = config.buffer_bytes.as_usize();
    Limits {
        kept: Bound { messages: config.max_inflight.into(), bytes: bytes / 4 },
        droppable: Bound { messages: config.buffer_messages, bytes },
    }
}
