use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    thread::JoinHandle,
};

use async_trait::async_trait;
use smallvec::SmallVec;
use tokio::{sync::oneshot, task::spawn_blocking};
use transload_adapter::store::{
    Append, Depth, Leased, Position, Queue, QueueId, QueueSettings, Storage, Store, StoreError,
    Table,
};
use transload_envelope::{
    Text,
    codec::{put_bytes, put_varint},
};

use super::{
    batch::{self, Prepared},
    core::{AnyQueue, Core, Registry, Shared},
    disk::{Disk, RealDisk},
    items::{Item, Then, Waiter},
    queue::DiskQueue,
    record::{self, Kind},
    recovery::{self, Recovered},
    runs::Runs,
    segment::{self, HEADER, Header, Segment},
    settings::{Health, JournalSettings, OpenError, Statistics},
    table::DiskTable,
    writer::{self, Active, Fault, Writer},
};
use crate::{memory::MemoryQueue, sync::lock};

/// The bounds of a queue that was found on disk, until somebody opens it.
const FOUND: QueueSettings = QueueSettings {
    storage: Storage::Disk,
    messages_max: u64::MAX,
    bytes_max: u64::MAX,
    age_max: None,
};

/// A store whose disk queues and tables are in one journal; memory queues live beside them.
///
/// Dropping it waits for the writer, like [`JournalStore::close`] but blocking.
#[derive(Debug)]
pub struct JournalStore {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl JournalStore {
    /// Opens the journal in a directory, or creates it. Blocks: it reads the log from the last
    /// checkpoint on.
    pub fn open(directory: &Path, settings: JournalSettings) -> Result<Self, OpenError> {
        Self::open_on(directory, settings, Box::new(RealDisk))
    }

    pub(crate) fn open_on(
        directory: &Path,
        settings: JournalSettings,
        disk: Box<dyn Disk>,
    ) -> Result<Self, OpenError> {
        if !(1..=1 << 30).contains(&settings.segment_bytes) {
            return Err(OpenError::Settings("a segment has between one byte and 1 GiB"));
        }
        let recovered = recovery::recover(directory, settings, &*disk)?;
        let Recovered { lock, mut saved, segments, figures, replayed, set_aside } = recovered;
        let checkpoint_bytes = saved.bytes;
        let (next_sequence, next_disk) = (saved.next_sequence, saved.next_queue);
        let shared = Arc::new(Shared::new(settings, directory.to_owned(), disk, segments, figures));
        let active = active(&shared, next_sequence)?;
        let mut registry = Registry { next_disk, next_memory: u32::MAX, ..Registry::default() };
        for (id, queue) in std::mem::take(&mut saved.queues) {
            let name = queue.name.clone();
            let shared = Arc::clone(&shared);
            let queue = DiskQueue::recovered(id, queue, FOUND, shared);
            let queue = AnyQueue::Disk(Arc::new(queue));
            registry.by_id.insert(id, queue.clone());
            registry.by_name.insert(name, queue);
        }
        for (name, entries) in saved.tables {
            let table = DiskTable::new(name.clone(), Arc::clone(&shared), entries);
            registry.tables.insert(name, table);
        }
        let core = Arc::new(Core { shared, registry: Mutex::new(registry), _lock: lock });
        let mut writer = Writer {
            core: Arc::clone(&core),
            active,
            next_sequence,
            synced: true,
            compaction: None,
            since_checkpoint: replayed,
            checkpoint_bytes,
            reserve_bytes: 0,
            saving: None,
        };
        writer.keep_reserve();
        writer.count_bytes();
        if set_aside {
            let fresh = writer.next_segment().and_then(|()| writer.checkpoint());
            fresh.map_err(|fault| failed(directory, fault))?;
        }
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || writer.run());
        let thread = thread.map_err(recovery::io_error("start a thread for", directory))?;
        Ok(Self { core, thread: Mutex::new(Some(thread)) })
    }

    /// Writes what was handed over, syncs, and ends the writer. The store takes nothing more.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.core.shared.pending.close();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic of the writer has failed the store, which is told below.
            drop(spawn_blocking(move || thread.join()).await);
        }
        match self.core.shared.usable() {
            Ok(()) | Err(StoreError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        self.core.shared.health()
    }

    /// Figures, as they are now.
    pub fn statistics(&self) -> Statistics {
        let shared = &self.core.shared;
        let queues = self.core.disk_queues();
        let index_bytes: usize = queues.values().map(|queue| queue.index_bytes()).sum();
        let (segments, live_bytes) = {
            let segments = lock(&shared.segments);
            (segments.0.len(), segments.totals().1)
        };
        let health = shared.health();
        Statistics {
            disk_bytes: shared.disk_bytes.load(Ordering::Relaxed),
            live_bytes,
            segments: u64::try_from(segments).unwrap_or(u64::MAX),
            index_bytes: u64::try_from(index_bytes).unwrap_or(u64::MAX),
            poisoned: matches!(health, Health::Failed(_)),
            full: matches!(health, Health::Full(_)),
            ..lock(&shared.figures).clone()
        }
    }

    /// Where each queue is and how much waits in it, in the order of their names.
    pub fn depths(&self) -> Vec<(Text, Storage, Depth)> {
        let queues = lock(&self.core.registry).by_name.clone();
        let mut depths: Vec<_> = queues
            .into_iter()
            .map(|(name, queue)| match queue {
                AnyQueue::Memory(queue) => (name, Storage::Memory, queue.depth()),
                AnyQueue::Disk(queue) => (name, Storage::Disk, queue.depth()),
            })
            .collect();
        depths.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        depths
    }

    /// Reads up to `limit` messages of a queue on disk behind a position, in order, whether they
    /// are leased or not, and without leasing them. Empty for a queue that is not there.
    pub async fn browse(
        &self,
        queue: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        match self.disk_queue(queue) {
            Some(queue) => queue.browse(after, limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// Takes messages out of a queue on disk that are not leased; returns how many there were.
    pub fn discard(&self, queue: &str, positions: &[Position]) -> u64 {
        let positions: Runs = positions.iter().map(|position| position.0).collect();
        self.disk_queue(queue).map_or(0, |queue| queue.discard(&positions))
    }

    fn disk_queue(&self, name: &str) -> Option<Arc<DiskQueue>> {
        match lock(&self.core.registry).by_name.get(name) {
            Some(AnyQueue::Disk(queue)) => Some(Arc::clone(queue)),
            Some(AnyQueue::Memory(_)) | None => None,
        }
    }

    async fn hand_over(
        &self,
        batch: Vec<Append>,
        waiter: Option<Waiter>,
    ) -> Result<(), StoreError> {
        let shared = &self.core.shared;
        shared.usable()?;
        let queues = self.queues_of(&batch);
        let Prepared { now, bytes, records, memory, .. } = Prepared::new(batch, queues)?;
        if !records.is_empty() {
            shared.takes(bytes.len())?;
            let credit = shared.pending.room(records.len(), bytes.len()).await;
            let credit = credit.map_err(|_| shared.why_ended())?;
            for (item, _) in &records {
                if let Item::Message(message) = item {
                    message.targets.iter().for_each(|(queue, _)| queue.expect(message.size));
                }
            }
            let waiter = waiter.map(Item::Waiter);
            let handed = shared.pending.hand_over(credit, records, &bytes, waiter);
            handed.map_err(|_| shared.why_ended())?;
        } else if let Some(waiter) = waiter {
            drop(waiter.send(Ok(())));
        }
        batch::to_memory(memory, now);
        Ok(())
    }

    /// The queue of each target, one after the other: the lock that all share is taken once.
    fn queues_of(&self, batch: &[Append]) -> SmallVec<[Option<AnyQueue>; 4]> {
        let targets = batch.iter().flat_map(|append| &append.to);
        let registry = lock(&self.core.registry);
        targets.map(|target| registry.by_id.get(&target.queue.0).cloned()).collect()
    }

    fn create_disk(
        &self,
        registry: &mut Registry,
        name: &Text,
        settings: QueueSettings,
    ) -> Result<Arc<DiskQueue>, StoreError> {
        let id = registry.next_disk;
        registry.next_disk = id.saturating_add(1);
        let shared = Arc::clone(&self.core.shared);
        let queue = Arc::new(DiskQueue::new(id, name.clone(), settings, shared));
        let mut record = Vec::new();
        record::write(Kind::Created, &mut record, |into| {
            put_varint(id.into(), into);
            put_bytes(name.as_bytes(), into);
        });
        let item = Item::Control { record: record.clone(), then: Then::Nothing, waiter: None };
        let pending = &self.core.shared.pending;
        pending
            .hand_over(0, vec![(item, 0..record.len())], &record, None)
            .map_err(|_| self.core.shared.why_ended())?;
        Ok(queue)
    }
}

impl Drop for JournalStore {
    fn drop(&mut self) {
        self.core.shared.pending.close();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the writer has been logged as a failure of the store.
            drop(thread.join());
        }
    }
}

/// Opens the segment that the log goes on in, or creates the first.
fn active(shared: &Shared, next_sequence: u64) -> Result<Active, OpenError> {
    let last = {
        let segments = lock(&shared.segments);
        segments.0.last_key_value().map(|(number, last)| (*number, last.bytes, last.salt))
    };
    if let Some((number, length, salt)) = last {
        let path = segment::path(&shared.directory, number);
        let file = segment::open(&path, false).map_err(recovery::io_error("open", &path))?;
        return Ok(Active { file, number, length, salt });
    }
    let salt = fastrand::u64(..);
    let header = Header { number: 1, first_sequence: next_sequence, salt };
    let file = writer::create(shared, &header).map_err(|fault| failed(&shared.directory, fault))?;
    let segment = Segment::new(salt, HEADER as u64);
    lock(&shared.segments).0.insert(1, segment);
    shared.reader.add_segment(1, salt);
    Ok(Active { file, number: 1, length: HEADER as u64, salt })
}

fn failed(directory: &Path, fault: Fault) -> OpenError {
    let (Fault::Full(reason) | Fault::Fatal(reason)) = fault;
    let source = std::io::Error::other(reason.to_string());
    OpenError::Io { action: "write to", file: directory.to_owned(), source }
}

fn as_queue(queue: &AnyQueue) -> Arc<dyn Queue> {
    match queue {
        AnyQueue::Memory(queue) => Arc::clone(queue) as Arc<dyn Queue>,
        AnyQueue::Disk(queue) => Arc::clone(queue) as Arc<dyn Queue>,
    }
}

#[async_trait]
impl Store for JournalStore {
    /// A queue keeps its storage as long as it is open. One that is asked for in memory but has
    /// messages on disk stays on disk until the store is opened with none of them left.
    fn queue(&self, name: &str, settings: QueueSettings) -> Result<Arc<dyn Queue>, StoreError> {
        self.core.shared.usable()?;
        let mut registry = lock(&self.core.registry);
        match registry.by_name.get(name) {
            Some(AnyQueue::Memory(_)) if settings.storage == Storage::Disk => {
                let reason = format!("the queue {name} is in memory until the next start");
                return Err(StoreError::Failed(reason.into()));
            }
            Some(AnyQueue::Memory(queue)) => {
                queue.set_settings(settings);
                return Ok(Arc::clone(queue) as Arc<dyn Queue>);
            }
            Some(AnyQueue::Disk(queue)) => {
                if settings.storage == Storage::Memory {
                    tracing::warn!(queue = name, "The queue stays on disk, where it has messages.");
                }
                queue.set_settings(QueueSettings { storage: Storage::Disk, ..settings });
                return Ok(Arc::clone(queue) as Arc<dyn Queue>);
            }
            None => {}
        }
        let name = Text::from(name);
        let (id, queue) = match settings.storage {
            Storage::Memory => {
                let id = registry.next_memory;
                registry.next_memory = id.saturating_sub(1);
                let queue = MemoryQueue::new(QueueId(id), name.clone(), settings);
                (id, AnyQueue::Memory(Arc::new(queue)))
            }
            Storage::Disk => {
                let queue = self.create_disk(&mut registry, &name, settings)?;
                (queue.number(), AnyQueue::Disk(queue))
            }
        };
        registry.by_id.insert(id, queue.clone());
        registry.by_name.insert(name, queue.clone());
        Ok(as_queue(&queue))
    }

    fn queue_names(&self) -> Vec<Text> {
        let mut names: Vec<_> = lock(&self.core.registry).by_name.keys().cloned().collect();
        names.sort();
        names
    }

    async fn remove_queue(&self, name: &str) -> Result<(), StoreError> {
        self.core.shared.usable()?;
        let removed = {
            let mut registry = lock(&self.core.registry);
            let removed = registry.by_name.remove(name);
            match &removed {
                Some(AnyQueue::Memory(queue)) => registry.by_id.remove(&queue.id().0),
                Some(AnyQueue::Disk(queue)) => registry.by_id.remove(&queue.number()),
                None => None,
            };
            removed
        };
        let queue = match removed {
            None => return Ok(()),
            Some(AnyQueue::Memory(queue)) => {
                queue.remove();
                return Ok(());
            }
            Some(AnyQueue::Disk(queue)) => queue,
        };
        queue.remove();
        let mut record = Vec::new();
        record::write(Kind::Removed, &mut record, |into| put_varint(queue.number().into(), into));
        let (waiter, written) = oneshot::channel();
        let then = Then::Nothing;
        let item = Item::Control { record: record.clone(), then, waiter: Some(waiter) };
        let shared = &self.core.shared;
        shared
            .pending
            .hand_over(0, vec![(item, 0..record.len())], &record, None)
            .map_err(|_| shared.why_ended())?;
        written.await.unwrap_or_else(|_| Err(shared.why_ended()))
    }

    async fn append(&self, batch: Vec<Append>) -> Result<(), StoreError> {
        self.hand_over(batch, None).await
    }

    async fn append_durably(&self, batch: Vec<Append>) -> Result<(), StoreError> {
        let (waiter, written) = oneshot::channel();
        self.hand_over(batch, Some(waiter)).await?;
        written.await.unwrap_or_else(|_| Err(self.core.shared.why_ended()))
    }

    fn table(&self, name: &str) -> Result<Arc<dyn Table>, StoreError> {
        self.core.shared.usable()?;
        let mut registry = lock(&self.core.registry);
        if let Some(table) = registry.tables.get(name) {
            return Ok(Arc::clone(table) as Arc<dyn Table>);
        }
        let name = Text::from(name);
        let table = DiskTable::new(name.clone(), Arc::clone(&self.core.shared), BTreeMap::new());
        registry.tables.insert(name, Arc::clone(&table));
        Ok(table)
    }
}
