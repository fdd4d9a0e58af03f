//! What is handed over to the writer.

use std::{collections::BTreeMap, mem, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use transload_adapter::{
    Share,
    store::{SettleOn, StoreError},
};
use transload_envelope::Timestamp;

use super::{queue::DiskQueue, record, runs::Runs, table::DiskTable};

/// Tells whoever waits for something to be durable.
pub(crate) type Waiter = oneshot::Sender<Result<(), StoreError>>;

/// A share, and when it is to be settled.
pub(crate) type SharePart = (Share, SettleOn);

/// A queue, and the share that is to be settled for it.
pub(crate) type Target = (Arc<DiskQueue>, Option<SharePart>);
/// Most messages go to one queue.
pub(crate) type Targets = SmallVec<[Target; 1]>;

/// A message that is to be in some queues.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) stored_at: Timestamp,
    pub(crate) size: u32,
    pub(crate) targets: Targets,
}

/// What is to happen when the record beside it is durable. Each has one record, but `Waiter`.
#[derive(Debug)]
pub(crate) enum Item {
    Message(Message),
    Put {
        table: Arc<DiskTable>,
        key: Bytes,
        value: Bytes,
        waiter: Waiter,
    },
    /// What makes room or names a queue, and so is kept and tried again when there is no space.
    Control {
        record: Vec<u8>,
        then: Then,
        waiter: Option<Waiter>,
    },
    Waiter(Waiter),
}

/// What follows a control record.
#[derive(Debug)]
pub(crate) enum Then {
    Nothing,
    Delete { table: Arc<DiskTable>, key: Bytes },
}

/// What has been handed over and is not on disk.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// A batch record and the records of `items`, in their order.
    pub(crate) records: Vec<u8>,
    pub(crate) items: Vec<Item>,
    /// What goes back to the hand-over's bound.
    pub(crate) credit: u32,
    pub(crate) done: BTreeMap<u32, Runs>,
    pub(crate) failed: BTreeMap<(u32, u64), u32>,
}

impl Work {
    /// Adds an item and its record.
    pub(crate) fn push(&mut self, item: Item, record: &[u8]) {
        if self.records.is_empty() {
            record::write_batch(false, &mut self.records);
        }
        self.records.extend_from_slice(record);
        self.items.push(item);
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.done.is_empty() && self.failed.is_empty()
    }

    /// Writes what has been done and what has failed behind the other records.
    pub(crate) fn write_resolutions(&mut self) {
        if self.records.is_empty() {
            record::write_batch(false, &mut self.records);
        }
        let mut failed: BTreeMap<(u32, u32), Runs> = BTreeMap::new();
        for (&(queue, position), &attempts) in &self.failed {
            failed.entry((queue, attempts)).or_default().push(position);
        }
        for ((queue, attempts), runs) in failed {
            record::write_runs(queue, Some(attempts), &runs, &mut self.records);
        }
        for (&queue, runs) in &mut self.done {
            runs.sort();
            record::write_runs(queue, None, runs, &mut self.records);
        }
    }

    /// Puts back, in front of what has come since, what is to be tried again. The rest stays in
    /// `refused`.
    pub(crate) fn restore(&mut self, refused: &mut Self) {
        let later = mem::take(self);
        for item in mem::take(&mut refused.items) {
            if let Item::Control { record, then, waiter } = item {
                let copy = record.clone();
                self.push(Item::Control { record, then, waiter }, &copy);
            } else {
                refused.items.push(item);
            }
        }
        let behind_batch = later.records.get(record::BATCH..).unwrap_or_default();
        if !behind_batch.is_empty() && self.records.is_empty() {
            record::write_batch(false, &mut self.records);
        }
        self.records.extend_from_slice(behind_batch);
        self.items.extend(later.items);
        self.credit = later.credit;
        self.done = mem::take(&mut refused.done);
        for (queue, runs) in later.done {
            self.done.entry(queue).or_default().extend(&runs);
        }
        self.failed = mem::take(&mut refused.failed);
        self.failed.extend(later.failed);
    }
}
