//! One-shot acknowledgement tokens.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{Occupied, Settlement};

/// Identifies one unsettled delivery inside one inbound endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// A settlement on its way back to the endpoint that owns the tag.
#[derive(Debug)]
pub struct Settled {
    /// The delivery.
    pub tag: Tag,
    /// The verdict.
    pub settlement: Settlement,
    /// Goes back to the source's bound when this value is dropped, which is to happen when the
    /// settlement has been applied.
    _held: Held,
}

/// What a delivery takes of the bounds on what is unsettled, until this is dropped: its credit, and
/// the room that its payload occupies.
type Held = (Option<OwnedSemaphorePermit>, Occupied);

/// The receipts' end of a settlement channel.
#[derive(Clone, Debug)]
pub struct SettlementSender(mpsc::UnboundedSender<Settled>);

/// The endpoint's end of a settlement channel.
pub type SettlementQueue = mpsc::UnboundedReceiver<Settled>;

/// Creates the channel on which receipts report back. Take settlements in runs, with `recv_many`.
#[expect(
    clippy::disallowed_methods,
    reason = "each message in the channel holds one credit of a bounded semaphore, and nobody \
              may be made to wait when a receipt is dropped"
)]
pub fn settlement_channel() -> (SettlementSender, SettlementQueue) {
    let (sender, queue) = mpsc::unbounded_channel();
    (SettlementSender(sender), queue)
}

/// The obligation to settle one delivery, exactly once.
///
/// Dropping an unsettled receipt releases the delivery, so a panic or an early return can
/// duplicate a message and never lose one.
#[derive(Debug)]
#[must_use = "dropping a receipt releases the delivery back to its source"]
pub struct Receipt {
    tag: Tag,
    open: Option<(SettlementSender, Held)>,
}

impl Receipt {
    /// Issues a receipt; `credit` is returned when the endpoint has applied the settlement.
    pub fn new(tag: Tag, credit: OwnedSemaphorePermit, settle: SettlementSender) -> Self {
        Self { tag, open: Some((settle, (Some(credit), Occupied::default()))) }
    }

    /// Issues a receipt whose bound is kept by the endpoint itself, in another way than by credits
    /// (such as the receive maximum of a connection).
    pub fn without_credit(tag: Tag, settle: SettlementSender) -> Self {
        Self { tag, open: Some((settle, (None, Occupied::default()))) }
    }

    /// Takes the room that the message occupies, which is given back as the credit is.
    pub fn occupy(&mut self, room: Occupied) {
        if let Some((_, (_, occupied))) = &mut self.open {
            *occupied = room;
        }
    }

    /// Settles the delivery.
    pub fn settle(mut self, settlement: Settlement) {
        self.close(settlement);
    }

    /// Splits the obligation between destinations: the delivery is settled when the last share
    /// is, with the worst verdict. Released outranks rejected, so that one destination's refusal
    /// cannot lose another's copy; of several replies the first one counts.
    pub fn share(self) -> Share {
        Share {
            joint: Arc::new(Joint {
                receipt: Mutex::new(Some(self)),
                verdict: Mutex::new(Settlement::Unrouted),
            }),
            settled: false,
        }
    }

    fn close(&mut self, settlement: Settlement) {
        if let Some((settle, held)) = self.open.take() {
            // When the endpoint is gone, its broker redelivers whatever was unsettled.
            drop(settle.0.send(Settled { tag: self.tag, settlement, _held: held }));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.close(Settlement::RELEASED);
    }
}

/// One destination's part of a receipt. Clone it once for each destination.
#[derive(Debug)]
#[must_use = "dropping a share releases the delivery back to its source"]
pub struct Share {
    joint: Arc<Joint>,
    settled: bool,
}

impl Share {
    /// Settles this destination's part.
    pub fn settle(mut self, settlement: Settlement) {
        self.joint.worsen(settlement);
        self.settled = true;
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        Self { joint: Arc::clone(&self.joint), settled: false }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.settled {
            self.joint.worsen(Settlement::RELEASED);
        }
    }
}

#[derive(Debug)]
struct Joint {
    receipt: Mutex<Option<Receipt>>,
    verdict: Mutex<Settlement>,
}

impl Joint {
    fn worsen(&self, settlement: Settlement) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if rank(&settlement) > rank(&verdict) {
            *verdict = settlement;
        }
    }
}

impl Drop for Joint {
    fn drop(&mut self) {
        let verdict = self.verdict.get_mut().unwrap_or_else(PoisonError::into_inner);
        let verdict = mem::replace(verdict, Settlement::Accepted);
        let receipt = self.receipt.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(receipt) = receipt.take() {
            receipt.settle(verdict);
        }
    }
}

fn rank(settlement: &Settlement) -> u8 {
    match settlement {
        Settlement::Unrouted => 0,
        Settlement::Accepted => 1,
        Settlement::Replied(_) => 2,
        Settlement::Rejected { .. } => 3,
        Settlement::Released { .. } => 4,
    }
}
