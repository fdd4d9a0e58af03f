use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use transload_adapter::store::{Append, Queue, QueueId, QueueSettings, Store, StoreError, Table};
use transload_envelope::{Text, Timestamp};

use super::{queue::MemoryQueue, table::MemoryTable};
use crate::sync::lock;

/// A store without files, for tests and for a gateway without a data directory.
///
/// Queues that are asked for with `Storage::Disk` are in memory too, and a share that asks for
/// `SettleOn::Stored` is settled when the message is in memory: whoever chooses this store has
/// chosen that nothing survives the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    by_id: HashMap<QueueId, Arc<MemoryQueue>>,
    by_name: HashMap<Text, Arc<MemoryQueue>>,
    tables: HashMap<Text, Arc<MemoryTable>>,
    next_id: u32,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn append_now(&self, batch: Vec<Append>) {
        let now = Timestamp::now();
        let mut touched = HashMap::new();
        for Append { envelope, to } in batch {
            for target in to {
                let queue = lock(&self.0).by_id.get(&target.queue).map(Arc::clone);
                // A queue that is gone has taken its message with it: the share is released.
                let Some(queue) = queue else { continue };
                queue.push(envelope.clone(), target.arguments, target.share, now);
                touched.insert(target.queue, queue);
            }
        }
        for queue in touched.into_values() {
            queue.wake();
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn queue(&self, name: &str, settings: QueueSettings) -> Result<Arc<dyn Queue>, StoreError> {
        let mut contents = lock(&self.0);
        if let Some(queue) = contents.by_name.get(name) {
            queue.set_settings(settings);
            return Ok(Arc::clone(queue) as Arc<dyn Queue>);
        }
        let id = QueueId(contents.next_id);
        contents.next_id = contents.next_id.saturating_add(1);
        let name = Text::from(name);
        let queue = Arc::new(MemoryQueue::new(id, name.clone(), settings));
        contents.by_id.insert(id, Arc::clone(&queue));
        contents.by_name.insert(name, Arc::clone(&queue));
        Ok(queue)
    }

    fn queue_names(&self) -> Vec<Text> {
        let contents = lock(&self.0);
        let mut names: Vec<_> = contents.by_name.keys().cloned().collect();
        names.sort();
        names
    }

    async fn remove_queue(&self, name: &str) -> Result<(), StoreError> {
        let removed = {
            let mut contents = lock(&self.0);
            let removed = contents.by_name.remove(name);
            if let Some(queue) = &removed {
                contents.by_id.remove(&queue.id());
            }
            removed
        };
        if let Some(queue) = removed {
            queue.remove();
        }
        Ok(())
    }

    async fn append(&self, batch: Vec<Append>) -> Result<(), StoreError> {
        self.append_now(batch);
        Ok(())
    }

    async fn append_durably(&self, batch: Vec<Append>) -> Result<(), StoreError> {
        self.append_now(batch);
        Ok(())
    }

    fn table(&self, name: &str) -> Result<Arc<dyn Table>, StoreError> {
        let mut contents = lock(&self.0);
        let table = contents.tables.entry(Text::from(name)).or_default();
        Ok(Arc::clone(table) as Arc<dyn Table>)
    }
}
