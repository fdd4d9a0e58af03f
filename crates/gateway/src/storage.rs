//! The store of the gateway. It is in memory until the journal takes its place.

#![expect(
    clippy::unused_async,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the shape is that of the journal, which does I/O and can fail"
)]

use std::sync::Arc;

use transload_adapter::store::{Store, StoreError};
use transload_delivery::MemoryStore;

use crate::{config::GatewaySettings, run::RunError};

/// The open store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Storage(Arc<MemoryStore>);

impl Storage {
    /// Opens the store in the data directory.
    pub(crate) async fn open(_settings: &GatewaySettings) -> Result<Self, RunError> {
        Ok(Self(Arc::new(MemoryStore::default())))
    }

    /// The queues and tables.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    /// Whether messages can be stored.
    pub(crate) fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Writes what is open and closes.
    pub(crate) async fn close(&self) {}
}
