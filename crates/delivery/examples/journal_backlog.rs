//! Measures the journal with a very large backlog: how long commits take while checkpoints are
//! written, and how long opening takes.
//!
//! ```text
//! journal_backlog DIRECTORY fill [MESSAGES] [BYTES] [here]
//!     appends so many waiting messages, closes, and opens again; with `here`, checkpoints are
//!     written by the thread that commits
//! journal_backlog DIRECTORY crash [MESSAGES] [BYTES]
//!     appends, and ends the process without closing
//! journal_backlog DIRECTORY open
//!     opens what is there
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot go on is to stop, and is to print"
)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use transload_adapter::store::{Append, AppendTo, QueueId, QueueSettings, Storage, Store};
use transload_delivery::{JournalStore, journal::JournalSettings};
use transload_envelope::{Arguments, Envelope, Origin};

const DISK: QueueSettings = QueueSettings {
    storage: Storage::Disk,
    messages_max: u64::MAX,
    bytes_max: u64::MAX,
    age_max: None,
};
const TASKS: u64 = 4;
const BATCH: u64 = 256;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let directory = PathBuf::from(&words[0]);
    let word =
        |at: usize, otherwise: u64| words.get(at).map_or(otherwise, |it| it.parse().unwrap());
    let settings = JournalSettings {
        disk_bytes_max: u64::MAX,
        checkpoint_here_bytes_max: if words.iter().any(|it| it == "here") {
            u64::MAX
        } else {
            JournalSettings::default().checkpoint_here_bytes_max
        },
        ..JournalSettings::default()
    };
    if words[1] == "open" {
        return open(&directory, settings);
    }
    let store = Arc::new(JournalStore::open(&directory, settings).unwrap());
    fill(&store, word(2, 1_000_000), word(3, 200)).await;
    if words[1] == "crash" {
        std::process::abort();
    }
    let start = Instant::now();
    store.close().await.unwrap();
    println!("closed in {:?}", start.elapsed());
    drop(store);
    open(&directory, settings);
}

async fn fill(store: &Arc<JournalStore>, messages: u64, bytes: u64) {
    let queue = store.queue("q", DISK).unwrap().id();
    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..TASKS {
        running.spawn(produce(Arc::clone(store), queue, messages / TASKS / BATCH, bytes));
    }
    let mut waits: Vec<Duration> = running.join_all().await.into_iter().flatten().collect();
    waits.sort_unstable();
    let took = start.elapsed().as_secs_f64();
    let part = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    let figures = store.statistics();
    println!(
        "{} messages, {:.0} a second; a durable append of {BATCH}: median {:?}, 99.9 % {:?}, longest \
         {:?}",
        waits.len() as u64 * BATCH,
        waits.len() as f64 * BATCH as f64 / took,
        part(0.5),
        part(0.999),
        part(1.0),
    );
    println!(
        "{} checkpoints, the last one took {:?}; {} MiB on disk; index {} MiB; largest memory {} MiB",
        figures.checkpoints,
        figures.last_checkpoint,
        figures.disk_bytes >> 20,
        figures.index_bytes >> 20,
        memory_peak_mebibytes(),
    );
}

/// Appends batches; returns how long each took to be durable.
async fn produce(
    store: Arc<JournalStore>,
    queue: QueueId,
    batches: u64,
    bytes: u64,
) -> Vec<Duration> {
    let payload = bytes::Bytes::from(vec![7_u8; usize::try_from(bytes).unwrap()]);
    let origin = Arc::new(Origin::new("devices", "mqtt", "sensors/17/telemetry"));
    let one = || Append {
        envelope: Envelope::new(Arc::clone(&origin), payload.clone()),
        to: vec![AppendTo { queue, arguments: Arguments::default(), share: None }],
    };
    let mut waits = Vec::new();
    for _ in 0..batches {
        let batch: Vec<_> = (0..BATCH).map(|_| one()).collect();
        let start = Instant::now();
        store.append_durably(batch).await.unwrap();
        waits.push(start.elapsed());
    }
    waits
}

fn open(directory: &Path, settings: JournalSettings) {
    let log: u64 = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let start = Instant::now();
    let store = JournalStore::open(directory, settings).unwrap();
    let took = start.elapsed();
    let waiting: u64 = store.depths().iter().map(|(_, _, depth)| depth.messages).sum();
    println!(
        "opened {} MiB of files with {waiting} waiting messages in {took:?}; index {} MiB; largest \
         memory {} MiB",
        log >> 20,
        store.statistics().index_bytes >> 20,
        memory_peak_mebibytes(),
    );
}

/// The most memory that the process has had.
fn memory_peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.and_then(|peak| peak.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) >> 10
}
