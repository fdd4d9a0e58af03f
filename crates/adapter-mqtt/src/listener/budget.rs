use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// What all sessions together may have waiting, in bytes.
///
/// What waits in memory is counted as it comes and goes. What waits in queues on disk is counted as it
/// comes, and measured once a second, so the bound can be held a second too long and exceeded by the
/// message that reaches it.
#[derive(Debug)]
pub(super) struct Budget {
    max: u64,
    memory: AtomicUsize,
    disk: AtomicU64,
}

impl Budget {
    pub(super) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, memory: AtomicUsize::new(0), disk: AtomicU64::new(0) })
    }

    /// Whether one more message may wait.
    pub(super) fn has_room(&self) -> bool {
        let memory = self.memory.load(Ordering::Relaxed) as u64;
        memory.saturating_add(self.disk.load(Ordering::Relaxed)) < self.max
    }

    /// So much waits in memory.
    pub(super) fn add(&self, bytes: usize) {
        self.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much does not any more.
    pub(super) fn remove(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// So much goes into a queue.
    pub(super) fn queued(&self, bytes: usize) {
        self.disk.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So much is in all queues.
    pub(super) fn measured(&self, bytes: u64) {
        self.disk.store(bytes, Ordering::Relaxed);
    }
}
