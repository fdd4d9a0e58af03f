use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use transload_adapter::store::{StoreError, Table};
use transload_envelope::{Text, codec::put_bytes};

use super::{
    core::Shared,
    items::{Item, Then},
    record::{self, Kind},
};
use crate::sync::lock;

/// A map whose changes are in the journal. Its entries are in memory as a whole.
#[derive(Debug)]
pub(crate) struct DiskTable {
    name: Text,
    shared: Arc<Shared>,
    entries: Mutex<BTreeMap<Bytes, Bytes>>,
    this: Weak<Self>,
}

impl DiskTable {
    pub(crate) fn new(
        name: Text,
        shared: Arc<Shared>,
        entries: BTreeMap<Bytes, Bytes>,
    ) -> Arc<Self> {
        let entries = Mutex::new(entries);
        Arc::new_cyclic(|this| Self { name, shared, entries, this: this.clone() })
    }

    /// Applies a change that is durable.
    pub(crate) fn apply(&self, key: Bytes, value: Option<Bytes>) {
        let mut entries = lock(&self.entries);
        match value {
            Some(value) => drop(entries.insert(key, value)),
            None => drop(entries.remove(&key)),
        }
    }

    fn record(&self, kind: Kind, fields: &[&Bytes]) -> Vec<u8> {
        let mut bytes = Vec::new();
        record::write(kind, &mut bytes, |into| {
            put_bytes(self.name.as_bytes(), into);
            for field in fields {
                put_bytes(field, into);
            }
        });
        bytes
    }

    fn this(&self) -> Result<Arc<Self>, StoreError> {
        self.this.upgrade().ok_or(StoreError::Closed)
    }

    fn hand_over(&self, credit: u32, item: Item, record: &[u8]) -> Result<(), StoreError> {
        let handed =
            self.shared.pending.hand_over(credit, vec![(item, 0..record.len())], record, None);
        handed.map_err(|_| self.shared.why_ended())
    }
}

#[async_trait]
impl Table for DiskTable {
    async fn put(&self, key: Bytes, value: Bytes) -> Result<(), StoreError> {
        // What is kept is not to hold on to the larger piece of memory that it may be a slice of.
        let (key, value) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value));
        let record = self.record(Kind::Put, &[&key, &value]);
        if record.len() > record::RECORD_BYTES_MAX {
            return Err(StoreError::Full("an entry is larger than the journal takes".into()));
        }
        self.shared.takes(record.len())?;
        let credit = self.shared.pending.room(1, record.len()).await;
        let credit = credit.map_err(|_| self.shared.why_ended())?;
        let (waiter, written) = oneshot::channel();
        let item = Item::Put { table: self.this()?, key, value, waiter };
        self.hand_over(credit, item, &record)?;
        written.await.unwrap_or_else(|_| Err(self.shared.why_ended()))
    }

    async fn delete(&self, key: Bytes) -> Result<(), StoreError> {
        self.shared.usable()?;
        let record = self.record(Kind::Deleted, &[&key]);
        let credit = self.shared.pending.room(1, record.len()).await;
        let credit = credit.map_err(|_| self.shared.why_ended())?;
        let (waiter, written) = oneshot::channel();
        let then = Then::Delete { table: self.this()?, key };
        let item = Item::Control { record: record.clone(), then, waiter: Some(waiter) };
        self.hand_over(credit, item, &record)?;
        written.await.unwrap_or_else(|_| Err(self.shared.why_ended()))
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        lock(&self.entries).get(key).cloned()
    }

    fn entries(&self) -> Vec<(Bytes, Bytes)> {
        lock(&self.entries).iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
