use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use transload_adapter::store::StoreError;
use transload_envelope::Text;

use super::{
    disk::Disk,
    pending::Pending,
    queue::DiskQueue,
    reader::Reader,
    segment::Segments,
    settings::{Health, JournalSettings, Statistics},
    table::DiskTable,
};
use crate::{memory::MemoryQueue, sync::lock};

/// What queues, tables and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: JournalSettings,
    pub(crate) directory: PathBuf,
    pub(crate) disk: Box<dyn Disk>,
    pub(crate) pending: Pending,
    pub(crate) segments: Mutex<Segments>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) figures: Mutex<Statistics>,
    /// What the files take.
    pub(crate) disk_bytes: AtomicU64,
    /// Whether the last append was refused for that.
    at_bound: AtomicBool,
    condition: Mutex<Condition>,
}

#[derive(Debug, Default)]
struct Condition {
    failed: Option<Text>,
    full: Option<(Text, Instant)>,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(
        settings: JournalSettings,
        directory: PathBuf,
        disk: Box<dyn Disk>,
        segments: Segments,
        figures: Statistics,
    ) -> Self {
        let salts = segments.0.iter().map(|(number, segment)| (*number, segment.salt)).collect();
        let reader = Reader::new(directory.clone(), salts, settings.cache_bytes_max);
        Self {
            pending: Pending::new(settings.hand_over_bytes_max, settings.hand_over_messages_max),
            reader: Arc::new(reader),
            settings,
            directory,
            disk,
            disk_bytes: AtomicU64::new(segments.totals().0),
            at_bound: AtomicBool::new(false),
            segments: Mutex::new(segments),
            figures: Mutex::new(figures),
            condition: Mutex::default(),
        }
    }

    /// Whether the store can be used at all.
    pub(crate) fn usable(&self) -> Result<(), StoreError> {
        let condition = lock(&self.condition);
        match &condition.failed {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            None if condition.closed => Err(StoreError::Closed),
            None => Ok(()),
        }
    }

    /// Whether so many bytes more may be appended.
    pub(crate) fn takes(&self, bytes: usize) -> Result<(), StoreError> {
        self.usable()?;
        {
            let mut condition = lock(&self.condition);
            match &condition.full {
                Some((reason, until)) if *until > Instant::now() => {
                    return Err(StoreError::Full(reason.clone()));
                }
                Some(_) => condition.full = None,
                None => {}
            }
        }
        let more = u64::try_from(bytes).unwrap_or(u64::MAX);
        let handed_over = self.pending.bytes();
        let all = self.disk_bytes.load(Ordering::Relaxed).saturating_add(handed_over);
        let refused = all.saturating_add(more) > self.append_bytes_max();
        self.at_bound.store(refused, Ordering::Relaxed);
        if !refused {
            return Ok(());
        }
        self.pending.nudge();
        Err(StoreError::Full("the bound of the data directory's size is reached".into()))
    }

    /// Notes what the files take.
    pub(crate) fn set_disk_bytes(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Ordering::Relaxed);
        if bytes < self.append_bytes_max() / 10 * 9 {
            self.at_bound.store(false, Ordering::Relaxed);
        }
    }

    /// Up to which size of the files appends are taken.
    pub(crate) fn append_bytes_max(&self) -> u64 {
        let JournalSettings { disk_bytes_max, segment_bytes, .. } = self.settings;
        disk_bytes_max.saturating_sub(segment_bytes.saturating_mul(2).min(disk_bytes_max / 4))
    }

    /// Notes that there is no space; appends are refused until `until`, and then tried again.
    pub(crate) fn set_full(&self, reason: Text, until: Instant) {
        lock(&self.condition).full = Some((reason, until));
    }

    /// Notes that a write has found space.
    pub(crate) fn clear_full(&self) {
        lock(&self.condition).full = None;
    }

    /// Notes that the store has failed; the first reason stays.
    pub(crate) fn fail(&self, reason: Text) {
        let mut condition = lock(&self.condition);
        if condition.failed.is_none() {
            tracing::error!(
                reason = &*reason,
                directory = %self.directory.display(),
                "The store has failed and takes nothing until it is opened anew."
            );
            condition.failed = Some(reason);
        }
        drop(condition);
        self.pending.nudge();
    }

    /// Notes that the store has been closed.
    pub(crate) fn set_closed(&self) {
        lock(&self.condition).closed = true;
    }

    /// Why nothing is taken any more.
    pub(crate) fn why_ended(&self) -> StoreError {
        self.usable().err().unwrap_or(StoreError::Closed)
    }

    pub(crate) fn health(&self) -> Health {
        if let Err(error) = self.usable() {
            return match error {
                StoreError::Failed(reason) => Health::Failed(reason),
                StoreError::Full(reason) => Health::Full(reason),
                StoreError::Closed => Health::Closed,
            };
        }
        if let Some((reason, _)) = &lock(&self.condition).full {
            return Health::Full(reason.clone());
        }
        if self.at_bound.load(Ordering::Relaxed) {
            return Health::Full("the bound of the data directory's size is reached".into());
        }
        Health::Ready
    }
}

/// A queue of either storage.
#[derive(Clone, Debug)]
pub(crate) enum AnyQueue {
    Memory(Arc<MemoryQueue>),
    Disk(Arc<DiskQueue>),
}

/// Queues and tables by their names and numbers.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) by_id: HashMap<u32, AnyQueue>,
    pub(crate) by_name: HashMap<Text, AnyQueue>,
    pub(crate) tables: BTreeMap<Text, Arc<DiskTable>>,
    /// The number of the next queue on disk. Numbers are never used again.
    pub(crate) next_disk: u32,
    /// The number of the next queue in memory, counted down from the end.
    pub(crate) next_memory: u32,
}

/// The store behind its handle.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Mutex<Registry>,
    /// Held as long as the store is open.
    pub(crate) _lock: File,
}

impl Core {
    /// The queues on disk, by number.
    pub(crate) fn disk_queues(&self) -> BTreeMap<u32, Arc<DiskQueue>> {
        let registry = lock(&self.registry);
        let disk = registry.by_id.iter().filter_map(|(id, queue)| match queue {
            AnyQueue::Disk(queue) => Some((*id, Arc::clone(queue))),
            AnyQueue::Memory(_) => None,
        });
        disk.collect()
    }
}
