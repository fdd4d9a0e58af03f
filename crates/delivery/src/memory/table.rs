use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use transload_adapter::store::{StoreError, Table};

use crate::sync::lock;

/// A map in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryTable(Mutex<BTreeMap<Bytes, Bytes>>);

#[async_trait]
impl Table for MemoryTable {
    async fn put(&self, key: Bytes, value: Bytes) -> Result<(), StoreError> {
        lock(&self.0).insert(key, value);
        Ok(())
    }

    async fn delete(&self, key: Bytes) -> Result<(), StoreError> {
        lock(&self.0).remove(&key);
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        lock(&self.0).get(key).cloned()
    }

    fn entries(&self) -> Vec<(Bytes, Bytes)> {
        lock(&self.0).iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
