use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;
use transload_adapter::{Context, Delivery, Inbound, Receipt, ReceiveError, SettlementSender, Tag};

use super::arrivals::{Arrival, Waiting};
use crate::client::link::Link;

/// The tag of messages that nobody waits for an acknowledgement of.
const UNACKNOWLEDGED: Tag = Tag(0);

/// Takes messages from the queue.
pub(super) struct ClientInbound {
    pub(super) queue: Waiting,
    pub(super) settle: SettlementSender,
    pub(super) context: Context,
    pub(super) link: Arc<Link>,
    /// Used again for every batch; empty between two.
    pub(super) batch: Vec<Arrival>,
}

#[async_trait]
impl Inbound for ClientInbound {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        let waiting = self.queue.until_any().await;
        if waiting == 0 {
            return Err(if self.link.is_lost() {
                ReceiveError::Disconnected(self.link.reason())
            } else {
                ReceiveError::Ended
            });
        }
        // Not bound to the stop signal: what has been read is still handed over. Nothing is taken
        // before there is a credit for it, so a dropped call loses nothing.
        let credits = Arc::clone(&self.context.credits);
        let credit = credits.acquire_owned().await.map_err(|_| ReceiveError::Ended)?;
        let more = self.more_credits(waiting.min(limit).saturating_sub(1));
        let count = 1 + more.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.queue.take(&mut self.batch, count);
        Ok(self.hand_over(into, credit, more))
    }
}

impl ClientInbound {
    /// As many credits at once as are free, and no more than these.
    fn more_credits(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        let count = most.min(self.context.credits.available_permits());
        let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
        // Somebody else may have taken some meanwhile; then one message goes alone.
        Arc::clone(&self.context.credits).try_acquire_many_owned(count).ok()
    }

    /// Gives each message of the batch its receipt.
    fn hand_over(
        &mut self,
        into: &mut Vec<Delivery>,
        first: OwnedSemaphorePermit,
        mut more: Option<OwnedSemaphorePermit>,
    ) -> usize {
        let count = self.batch.len();
        into.reserve(count);
        let mut credit = Some(first);
        for Arrival { tag, envelope } in self.batch.drain(..) {
            // There is one for each, since no more messages were taken.
            let one = credit.take().or_else(|| more.as_mut().and_then(|more| more.split(1)));
            let (tag, settle) = (tag.unwrap_or(UNACKNOWLEDGED), self.settle.clone());
            let receipt = match one {
                Some(credit) => Receipt::new(tag, credit, settle),
                None => Receipt::without_credit(tag, settle),
            };
            into.push(Delivery { envelope, receipt });
        }
        count
    }
}
