//! From routes to streams.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use transload_adapter::{Destination, Outbound, SendError, Sent};
use transload_envelope::{Outgoing, Text};

use super::hub::Hub;
use crate::{
    listener::config::{ListenerTarget, StreamSettings},
    mapping::{self, check_address},
};

/// How long subscribers may take to read what they have not read when the listener closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Puts messages into streams. A message is confirmed when it is in the history of its stream.
pub(in crate::listener) struct StreamOutbound {
    hub: Arc<Hub>,
    end: CancellationToken,
    _open: Arc<DropGuard>,
}

impl StreamOutbound {
    pub(in crate::listener) fn new(
        hub: Arc<Hub>,
        end: CancellationToken,
        open: Arc<DropGuard>,
    ) -> Self {
        Self { hub, end, _open: open }
    }

    fn publish(&self, target: &ListenerTarget, message: &Outgoing) -> Result<Sent, SendError> {
        let name = name(&self.hub.settings, target, message)?;
        let id = mapping::event_id(&message.envelope.id);
        match self.hub.publish(&name, id, mapping::render(&message.envelope)) {
            0 => Ok(Sent::NoReceiver),
            _ => Ok(Sent::Confirmed),
        }
    }
}

/// The address of the stream that a message goes to.
pub(in crate::listener) fn name(
    settings: &StreamSettings,
    target: &ListenerTarget,
    message: &Outgoing,
) -> Result<Text, SendError> {
    let path = message.arguments.get("stream").map(|path| &**path);
    let name = if let Some(path) = path.or(target.stream.as_deref()) {
        Text::from(path.strip_prefix('/').unwrap_or(path))
    } else {
        let prefix = settings.prefix.trim_matches('/');
        let separator = if prefix.is_empty() { "" } else { "/" };
        Text::from(format!("{prefix}{separator}{}", message.envelope.address))
    };
    if !settings.contain(&name) {
        let reason = format!("no stream is at `/{name}`");
        return Err(SendError::Rejected { reason: reason.into() });
    }
    match check_address(&name) {
        Ok(()) => Ok(name),
        Err(error) => Err(SendError::Rejected { reason: error.to_string().into() }),
    }
}

#[async_trait]
impl Outbound<ListenerTarget> for StreamOutbound {
    async fn send(
        &self,
        to: Destination<'_, ListenerTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        batch.iter().map(|message| self.publish(to.target, message)).collect()
    }

    async fn close(&self) {
        self.end.cancel();
        // Who has not read by then gets the rest by `Last-Event-ID`, or not at all.
        drop(timeout(CLOSE_TIMEOUT, self.hub.unsubscribed()).await);
    }
}
