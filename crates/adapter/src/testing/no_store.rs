use std::sync::Arc;

use async_trait::async_trait;
use transload_envelope::Text;

use crate::store::{Append, Queue, QueueSettings, Store, StoreError, Table};

/// A store for adapters that need none: everything fails as if it were closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

#[async_trait]
impl Store for NoStore {
    fn queue(&self, _: &str, _: QueueSettings) -> Result<Arc<dyn Queue>, StoreError> {
        Err(StoreError::Closed)
    }

    fn queue_names(&self) -> Vec<Text> {
        Vec::new()
    }

    async fn remove_queue(&self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn append(&self, _: Vec<Append>) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    async fn append_durably(&self, _: Vec<Append>) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    fn table(&self, _: &str) -> Result<Arc<dyn Table>, StoreError> {
        Err(StoreError::Closed)
    }
}
