//! What the tests of both roles share.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{
    Context, Interest, NoObserver,
    store::{Append, Queue, QueueSettings, Store, StoreError, Table},
};
use transload_envelope::{Envelope, MessageId, Origin, Outgoing, Text};

/// The deadline of everything that a test waits for.
pub(crate) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), wait).await.expect("it takes too long")
}

/// The adapter of a test asks for no storage.
#[derive(Debug)]
struct NoStore;

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

pub(crate) fn context(patterns: &[&str], credits: usize) -> Context {
    let patterns = patterns.iter().map(|pattern| Text::from(*pattern)).collect();
    Context {
        name: "web".into(),
        credits: Arc::new(Semaphore::new(credits)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        interest: Arc::new(Interest { patterns }),
        updates: transload_adapter::Updates::default(),
        store: Arc::new(NoStore),
        observer: Arc::new(NoObserver),
    }
}

pub(crate) fn outgoing(id: &str, address: &str, payload: impl Into<Vec<u8>>) -> Outgoing {
    let envelope = Envelope::new(Origin::new("devices", "mqtt", address), payload.into())
        .with_id(MessageId::from_source(id));
    Outgoing { envelope, arguments: transload_envelope::Arguments::default() }
}
