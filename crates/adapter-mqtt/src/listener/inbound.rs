use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use transload_adapter::{Delivery, Inbound, ReceiveError};

use super::Closing;

/// What devices publish, on its way to the gateway.
pub(super) struct DeviceInbound {
    deliveries: mpsc::Receiver<Delivery>,
    stop: CancellationToken,
    _closing: Closing,
}

impl DeviceInbound {
    pub(super) fn new(
        deliveries: mpsc::Receiver<Delivery>,
        stop: CancellationToken,
        closing: Closing,
    ) -> Self {
        Self { deliveries, stop, _closing: closing }
    }
}

#[async_trait]
impl Inbound for DeviceInbound {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        let received = tokio::select! {
            biased;
            received = self.deliveries.recv_many(into, limit) => received,
            () = self.stop.cancelled() => {
                // Who reserved a place before the signal may still use it.
                self.deliveries.close();
                self.deliveries.recv_many(into, limit).await
            }
        };
        if received == 0 { Err(ReceiveError::Ended) } else { Ok(received) }
    }
}
