//! What appending to a queue and taking from it costs, in memory and on disk. See
//! `docs/PERFORMANCE.md` for the figures and how they were got.

#![expect(clippy::unwrap_used, reason = "a benchmark may end at any fault")]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use transload_adapter::store::{
    Append, AppendTo, Queue, QueueSettings, Resolution, Storage, Store,
};
use transload_delivery::{JournalStore, MemoryStore, journal::JournalSettings};
use transload_envelope::{Arguments, Envelope, Origin};

/// As many as the worker of a destination takes at once.
const BATCH: usize = 256;
/// What waits in a queue whose receiver was away for long; about 4 GB on disk.
const WAITING: u64 = 10_000_000;

fn settings(storage: Storage) -> QueueSettings {
    QueueSettings { storage, messages_max: u64::MAX, bytes_max: u64::MAX, age_max: None }
}

fn batch(queue: &dyn Queue) -> Vec<Append> {
    let origin = Arc::new(Origin::new("devices", "mqtt", "plant/7/dev/d4711/telemetry"));
    let to = || AppendTo { queue: queue.id(), arguments: Arguments::default(), share: None };
    let append =
        || Append { envelope: Envelope::new(Arc::clone(&origin), vec![b'x'; 256]), to: vec![to()] };
    (0..BATCH).map(|_| append()).collect()
}

/// A batch goes in, comes out and is done.
async fn pass(store: &dyn Store, queue: &dyn Queue, durably: bool) {
    let batch = batch(queue);
    if durably {
        store.append_durably(batch).await.unwrap();
    } else {
        store.append(batch).await.unwrap();
    }
    let mut left = BATCH;
    while left > 0 {
        let leased = queue.lease(left, usize::MAX).await.unwrap();
        let positions: Vec<_> = leased.iter().map(|message| message.position).collect();
        left -= positions.len();
        queue.resolve(&positions, Resolution::Done);
    }
}

fn queue(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH as u64));
    let directory = tempfile::tempdir().unwrap();
    let memory = MemoryStore::new();
    let journal = JournalStore::open(directory.path(), JournalSettings::default()).unwrap();
    for (name, store, storage, durably) in [
        ("in memory", &memory as &dyn Store, Storage::Memory, false),
        ("on disk", &journal, Storage::Disk, false),
        ("on disk, durable before it goes on", &journal, Storage::Disk, true),
    ] {
        let queue = store.queue(name, settings(storage)).unwrap();
        group.bench_function(BenchmarkId::new("append, lease, done", name), |bencher| {
            bencher.iter(|| runtime.block_on(pass(store, &*queue, durably)));
        });
    }
    // What comes out was written long before what goes in.
    let queue = journal.queue("long", settings(Storage::Disk)).unwrap();
    for (name, waiting) in [("10 wait", 10), ("10 million wait", WAITING)] {
        while queue.depth().messages < waiting {
            let missing = waiting - queue.depth().messages;
            let mut appends = batch(&*queue);
            appends.truncate(usize::try_from(missing).unwrap());
            runtime.block_on(journal.append(appends)).unwrap();
        }
        group.bench_function(BenchmarkId::new("append, lease, done", name), |bencher| {
            bencher.iter(|| runtime.block_on(pass(&journal, &*queue, false)));
        });
    }
    group.finish();
    runtime.block_on(journal.close()).unwrap();
}

criterion_group!(benches, queue);
criterion_main!(benches);
