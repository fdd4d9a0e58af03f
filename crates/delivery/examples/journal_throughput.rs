//! Measures the journal: appends from some tasks, with or without a drains that keeps up, and
//! then opening it again. `journal_throughput DIRECTORY [MESSAGES] [BYTES] [TASKS] [BATCH] [consume]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on is to stop, and is to print"
)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::task::JoinSet;
use transload_adapter::store::{
    Append, AppendTo, Queue, QueueSettings, Resolution, Storage, Store,
};
use transload_delivery::{JournalStore, journal::JournalSettings};
use transload_envelope::{Arguments, Envelope, Origin};

const DISK: QueueSettings = QueueSettings {
    storage: Storage::Disk,
    messages_max: u64::MAX,
    bytes_max: u64::MAX,
    age_max: None,
};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let directory = PathBuf::from(&words[0]);
    let word =
        |at: usize, otherwise: u64| words.get(at).map_or(otherwise, |it| it.parse().unwrap());
    let (messages, bytes, tasks, batch) =
        (word(1, 1_000_000), word(2, 200), word(3, 4), word(4, 64));
    // Every task appends whole batches.
    let messages = messages / (tasks * batch) * tasks * batch;
    let consume = words.iter().any(|it| it == "consume");
    let settings = JournalSettings::default();
    let store = Arc::new(JournalStore::open(&directory, settings).unwrap());
    let queue = store.queue("q", DISK).unwrap();

    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        running.spawn(produce(Arc::clone(&store), queue.id(), messages / tasks, bytes, batch));
    }
    let taken = Arc::new(AtomicU64::new(0));
    let mut drains = JoinSet::new();
    if consume {
        drains.spawn(drain(Arc::clone(&queue), messages, Arc::clone(&taken)));
    }
    running.join_all().await;
    let took = start.elapsed();
    let figures = store.statistics();
    println!(
        "appended durably: {:.0} msg/s, {} syncs, {} bytes on disk, last sync {:?}",
        messages as f64 / took.as_secs_f64(),
        figures.syncs,
        figures.disk_bytes,
        figures.last_sync
    );
    drains.join_all().await;
    if consume {
        let rate = messages as f64 / start.elapsed().as_secs_f64();
        println!("and delivered: {rate:.0} msg/s");
    }
    let depth = queue.depth();
    if depth.messages > 0 {
        let each = store.statistics().index_bytes as f64 / depth.messages as f64;
        println!("memory for each of {} waiting messages: {each:.1} bytes", depth.messages);
    }
    drop(queue);
    let start = Instant::now();
    store.close().await.unwrap();
    println!("closed in {:?}", start.elapsed());
    drop(store);
    let start = Instant::now();
    let store = JournalStore::open(&directory, settings).unwrap();
    println!("opened in {:?}: {:?}", start.elapsed(), store.statistics());
    let queue = store.queue("q", DISK).unwrap();
    let (start, waiting) = (Instant::now(), queue.depth().messages);
    if waiting > 0 {
        drain(queue, waiting, taken).await;
        let rate = waiting as f64 / start.elapsed().as_secs_f64();
        println!("drained {waiting} from disk: {rate:.0} msg/s");
    }
}

async fn produce(
    store: Arc<JournalStore>,
    queue: transload_adapter::store::QueueId,
    messages: u64,
    bytes: u64,
    batch: u64,
) {
    let payload = vec![7_u8; usize::try_from(bytes).unwrap()];
    let origin = Arc::new(Origin::new("devices", "mqtt", "sensors/17/telemetry"));
    for _ in 0..messages / batch {
        let one = || Append {
            envelope: Envelope::new(Arc::clone(&origin), payload.clone()),
            to: vec![AppendTo { queue, arguments: Arguments::default(), share: None }],
        };
        store.append_durably((0..batch).map(|_| one()).collect()).await.unwrap();
    }
}

async fn drain(queue: Arc<dyn Queue>, messages: u64, taken: Arc<AtomicU64>) {
    let mut left = messages;
    while left > 0 {
        let leased = queue.lease(256, 1 << 20).await.unwrap();
        let positions: Vec<_> = leased.iter().map(|one| one.position).collect();
        queue.resolve(&positions, Resolution::Done);
        let count = u64::try_from(positions.len()).unwrap();
        taken.fetch_add(count, Ordering::Relaxed);
        left = left.saturating_sub(count);
    }
}
