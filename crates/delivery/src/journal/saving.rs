//! Writing a checkpoint.
//!
//! Invariants:
//! - A snapshot holds everything that lives at its point of the log. Which segments are dead is asked
//!   before it is taken, so nothing that it names is in a segment that goes with it.
//! - What takes long, which is writing and syncing a large file, is done beside the writer, so that
//!   commits go on. One checkpoint is written at a time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    mem,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use transload_adapter::store::Table as _;
use transload_envelope::{
    Text,
    codec::{put_bytes, put_varint},
};

use super::{
    checkpoint::{MAGIC, VERSION, path, reserve, temporary},
    core::{Core, Shared},
    disk,
    index::Block,
    segment,
    writer::{Fault, Writer},
};
use crate::sync::lock;

/// How much of the reserve is written at once.
const PIECE_BYTES: usize = 1 << 20;

/// Everything that lives at one point of the log. Shares the memory of the queues' indexes.
#[derive(Debug)]
pub(crate) struct Snapshot {
    segment: u32,
    offset: u64,
    next_sequence: u64,
    next_queue: u32,
    queues: Vec<QueueSnapshot>,
    tables: Vec<(Text, Vec<(Bytes, Bytes)>)>,
    /// Segments in which nothing lived before it was taken.
    dead: Vec<u32>,
    /// About how large its file will be.
    bytes: u64,
    /// How much of the log the checkpoint before it leaves to be read.
    covers: u64,
}

#[derive(Debug)]
struct QueueSnapshot {
    number: u32,
    name: Text,
    blocks: Vec<Block>,
    attempts: BTreeMap<u64, u32>,
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub(crate) struct Saving {
    thread: JoinHandle<Result<Saved, Fault>>,
    dead: Vec<u32>,
    covers: u64,
}

/// A checkpoint that is durable.
#[derive(Debug)]
struct Saved {
    length: u64,
    reserve_bytes: u64,
    took: Duration,
}

impl Writer {
    /// Writes a checkpoint here and now, and then deletes the segments in which nothing lives.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Fault> {
        self.finish_saving()?;
        self.sync()?;
        let snapshot = self.snapshot();
        self.save_here(&snapshot)
    }

    /// The same, beside the writer if the file is large. Does nothing while one is being written.
    pub(crate) fn begin_checkpoint(&mut self) -> Result<(), Fault> {
        if self.saving.is_some() {
            return Ok(());
        }
        self.sync()?;
        let mut snapshot = self.snapshot();
        if snapshot.bytes <= self.core.shared.settings.checkpoint_here_bytes_max {
            return self.save_here(&snapshot);
        }
        let (core, reserve_bytes) = (Arc::clone(&self.core), self.reserve_bytes);
        let (dead, covers) = (mem::take(&mut snapshot.dead), snapshot.covers);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || {
            let saved = save(&core, &snapshot, reserve_bytes);
            core.shared.pending.nudge();
            saved
        });
        let thread = thread
            .map_err(|error| Fault::fatal("cannot start a thread for a checkpoint", &error))?;
        self.since_checkpoint = 0;
        self.saving = Some(Saving { thread, dead, covers });
        Ok(())
    }

    /// Takes note of a checkpoint that has been written beside the writer.
    pub(crate) fn look_after_saving(&mut self) -> Result<(), Fault> {
        if self.saving.as_ref().is_some_and(|saving| saving.thread.is_finished()) {
            self.finish_saving()
        } else {
            Ok(())
        }
    }

    /// The same, waiting for it.
    pub(crate) fn finish_saving(&mut self) -> Result<(), Fault> {
        let Some(Saving { thread, dead, covers }) = self.saving.take() else { return Ok(()) };
        let outcome = thread
            .join()
            .unwrap_or_else(|_| Err(Fault::Fatal("writing a checkpoint has panicked".into())));
        match outcome {
            Ok(saved) => self.note_saved(&saved, &dead),
            Err(fault) => {
                self.since_checkpoint = self.since_checkpoint.saturating_add(covers);
                Err(fault)
            }
        }
    }

    fn save_here(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        let saved = save(&self.core, snapshot, self.reserve_bytes)?;
        self.since_checkpoint = 0;
        self.note_saved(&saved, &snapshot.dead)
    }

    fn note_saved(&mut self, saved: &Saved, dead: &[u32]) -> Result<(), Fault> {
        self.checkpoint_bytes = saved.length;
        self.reserve_bytes = saved.reserve_bytes;
        {
            let mut figures = lock(&self.core.shared.figures);
            figures.checkpoints = figures.checkpoints.saturating_add(1);
            figures.last_checkpoint = saved.took;
        }
        self.delete_dead(dead)
    }

    /// Sees to it at opening that the reserve has room for a checkpoint.
    pub(crate) fn keep_reserve(&mut self) {
        self.reserve_bytes =
            keep_reserve(&self.core.shared, self.checkpoint_bytes, self.reserve_bytes);
        self.count_bytes();
    }

    fn snapshot(&self) -> Snapshot {
        // First of all: what dies from now on is still named by the snapshot.
        let dead: Vec<u32> = {
            let segments = lock(&self.core.shared.segments);
            let dead = segments.sealed().filter(|(_, segment)| segment.live_records == 0);
            dead.map(|(number, _)| number).collect()
        };
        let (next_queue, tables) = {
            let registry = lock(&self.core.registry);
            (registry.next_disk, registry.tables.clone())
        };
        let queues = self.core.disk_queues().into_values().filter_map(|queue| {
            let (blocks, attempts) = queue.snapshot()?;
            let name = queue.name_text().clone();
            Some(QueueSnapshot { number: queue.number(), name, blocks, attempts })
        });
        let queues: Vec<_> = queues.collect();
        let tables = tables.into_iter().map(|(name, table)| (name, table.entries()));
        let tables: Vec<_> = tables.collect();
        let blocks =
            queues.iter().flat_map(|queue| &queue.blocks).map(|block| block.packed().len());
        let entries = tables.iter().flat_map(|(_, entries)| entries);
        let entries = entries.map(|(key, value)| key.len().saturating_add(value.len()));
        Snapshot {
            segment: self.active.number,
            offset: self.active.length,
            next_sequence: self.next_sequence,
            next_queue,
            bytes: u64::try_from(blocks.chain(entries).sum::<usize>()).unwrap_or(u64::MAX),
            queues,
            tables,
            dead,
            covers: self.since_checkpoint,
        }
    }
}

/// Writes a snapshot as the directory's checkpoint, durably.
fn save(core: &Core, snapshot: &Snapshot, reserve_bytes: u64) -> Result<Saved, Fault> {
    let start = Instant::now();
    let shared = &core.shared;
    let (temporary, place) = (temporary(&shared.directory), path(&shared.directory));
    let mut reserve_bytes = reserve_bytes;
    let (file, length) = save_with_reserve(shared, snapshot, &temporary, &mut reserve_bytes)?;
    shared
        .disk
        .sync(&file)
        .and_then(|()| shared.disk.rename(&temporary, &place))
        .and_then(|()| shared.disk.sync_directory(&shared.directory))
        .map_err(|error| Fault::fatal("cannot sync a checkpoint", &error))?;
    let reserve_bytes = keep_reserve(shared, length, reserve_bytes);
    Ok(Saved { length, reserve_bytes, took: start.elapsed() })
}

/// Writes the file, and gives up the reserve for it where there is no other space: what it takes
/// to clean up must not hang on there being space.
fn save_with_reserve(
    shared: &Shared,
    snapshot: &Snapshot,
    temporary: &Path,
    reserve_bytes: &mut u64,
) -> Result<(File, u64), Fault> {
    let mut outcome = save_as(snapshot, temporary);
    if outcome.as_ref().is_err_and(disk::is_full)
        && fs::remove_file(reserve(&shared.directory)).is_ok()
    {
        *reserve_bytes = 0;
        outcome = save_as(snapshot, temporary);
    }
    outcome.map_err(|error| {
        // What is left of it is overwritten by the next attempt.
        drop(fs::remove_file(temporary));
        Fault::of("cannot write a checkpoint", &error)
    })
}

/// Sees to it that the reserve has room for the next checkpoint, and says how large it is; without
/// space, it is tried again after the next checkpoint.
fn keep_reserve(shared: &Shared, checkpoint_bytes: u64, reserve_bytes: u64) -> u64 {
    let least = (shared.settings.segment_bytes / 64).max(checkpoint_bytes);
    if reserve_bytes >= least {
        return reserve_bytes;
    }
    let wanted = least.saturating_mul(5) / 4;
    let path = reserve(&shared.directory);
    let zeros = vec![0; usize::try_from(wanted).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
    let written = segment::open(&path, true).and_then(|file| {
        let mut at = reserve_bytes;
        while at < wanted {
            let left = usize::try_from(wanted - at).unwrap_or(PIECE_BYTES);
            let piece = zeros.get(..left.min(zeros.len())).unwrap_or(&zeros);
            shared.disk.write(&file, piece, at)?;
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    });
    match written {
        Ok(()) => wanted,
        Err(error) => {
            tracing::info!(%error, "There is no space for the journal's reserve.");
            drop(fs::remove_file(&path));
            0
        }
    }
}

fn save_as(snapshot: &Snapshot, temporary: &Path) -> io::Result<(File, u64)> {
    let file = segment::open(temporary, true)?;
    file.set_len(0)?;
    let length = write(snapshot, &file)?;
    Ok((file, length))
}

/// Writes the file as `checkpoint` describes it; returns its length.
fn write(snapshot: &Snapshot, file: &File) -> io::Result<u64> {
    let mut out =
        Checked { out: io::BufWriter::new(file), crc: crc32fast::Hasher::new(), length: 0 };
    let mut piece = Vec::from(MAGIC);
    piece.extend(VERSION.to_le_bytes());
    put_varint(snapshot.segment.into(), &mut piece);
    put_varint(snapshot.offset, &mut piece);
    put_varint(snapshot.next_sequence, &mut piece);
    put_varint(snapshot.next_queue.into(), &mut piece);
    put_count(snapshot.queues.len(), &mut piece);
    for queue in &snapshot.queues {
        put_varint(queue.number.into(), &mut piece);
        put_bytes(queue.name.as_bytes(), &mut piece);
        put_count(queue.attempts.len(), &mut piece);
        for (position, count) in &queue.attempts {
            put_varint(*position, &mut piece);
            put_varint((*count).into(), &mut piece);
        }
        put_count(queue.blocks.len(), &mut piece);
        for block in &queue.blocks {
            put_bytes(block.packed(), &mut piece);
            out.put(&mut piece)?;
        }
    }
    put_count(snapshot.tables.len(), &mut piece);
    for (name, entries) in &snapshot.tables {
        put_bytes(name.as_bytes(), &mut piece);
        put_count(entries.len(), &mut piece);
        for (key, value) in entries {
            put_bytes(key, &mut piece);
            put_bytes(value, &mut piece);
            out.put(&mut piece)?;
        }
    }
    out.put(&mut piece)?;
    out.finish()
}

fn put_count(count: usize, into: &mut Vec<u8>) {
    put_varint(u64::try_from(count).unwrap_or(u64::MAX), into);
}

/// Writes and sums up.
struct Checked<'a> {
    out: io::BufWriter<&'a File>,
    crc: crc32fast::Hasher,
    length: u64,
}

impl Checked<'_> {
    fn put(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        self.crc.update(piece);
        self.length = self.length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.out.write_all(piece)?;
        piece.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.out.write_all(&self.crc.finalize().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.length.saturating_add(4))
    }
}
