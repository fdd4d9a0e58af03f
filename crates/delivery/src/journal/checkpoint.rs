//! What lives at one point of the log.
//!
//! ```text
//! checkpoint  magic "TRLDCHK\n", format version u32, body, crc u32 of all that
//! body        segment varint, offset varint, next sequence varint: where the log goes on
//!             next queue varint
//!             list of queue, list of table (forms as in transload_envelope::codec)
//! queue       number varint, name bytes,
//!             list of (position varint, attempts varint),
//!             list of (packed entries bytes), see `index`
//! table       name bytes, list of (key bytes, value bytes)
//! ```
//!
//! It is written beside the old one and renamed over it, so there always is a whole one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use transload_adapter::store::Table as _;
use transload_envelope::{
    Text,
    codec::{DecodeError, Reader, put_bytes, put_varint},
};

use super::{
    disk,
    index::{Block, Index},
    segment,
    settings::OpenError,
    writer::{Fault, Writer},
};
use crate::sync::lock;

/// The version of the format that is written.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"TRLDCHK\n";

/// A queue as it is recovered.
#[derive(Debug, Default)]
pub(crate) struct SavedQueue {
    pub(crate) name: Text,
    pub(crate) index: Index,
    pub(crate) attempts: BTreeMap<u64, u32>,
}

/// Everything that lives.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) next_sequence: u64,
    pub(crate) next_queue: u32,
    pub(crate) queues: BTreeMap<u32, SavedQueue>,
    pub(crate) tables: BTreeMap<Text, BTreeMap<Bytes, Bytes>>,
    /// The size of the file.
    pub(crate) bytes: u64,
}

/// The file.
pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join("checkpoint")
}

/// A file that takes space to be given up when there is none.
pub(crate) fn reserve(directory: &Path) -> PathBuf {
    directory.join("reserve")
}

/// The file while it is being written.
pub(crate) fn temporary(directory: &Path) -> PathBuf {
    directory.join("checkpoint.tmp")
}

impl Writer {
    /// Writes a checkpoint, and then deletes the segments in which nothing lives.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Fault> {
        self.sync()?;
        let shared = Arc::clone(&self.core.shared);
        let (temporary, place) = (temporary(&shared.directory), path(&shared.directory));
        let (file, length) = self.save_with_reserve(&temporary)?;
        shared
            .disk
            .sync(&file)
            .and_then(|()| shared.disk.rename(&temporary, &place))
            .and_then(|()| shared.disk.sync_directory(&shared.directory))
            .map_err(|error| Fault::fatal("cannot sync a checkpoint", &error))?;
        self.checkpoint_bytes = length;
        self.since_checkpoint = 0;
        {
            let mut figures = lock(&shared.figures);
            figures.checkpoints = figures.checkpoints.saturating_add(1);
        }
        self.delete_dead()?;
        self.keep_reserve();
        Ok(())
    }

    /// Writes the file, and gives up the reserve for it where there is no other space: what it
    /// takes to clean up must not hang on there being space.
    fn save_with_reserve(&mut self, temporary: &Path) -> Result<(File, u64), Fault> {
        let mut outcome = self.save(temporary);
        if outcome.as_ref().is_err_and(disk::is_full) {
            let reserve = reserve(&self.core.shared.directory);
            if fs::remove_file(&reserve).is_ok() {
                self.reserve_bytes = 0;
                outcome = self.save(temporary);
            }
        }
        outcome.map_err(|error| {
            // What is left of it is overwritten by the next attempt.
            drop(fs::remove_file(temporary));
            Fault::of("cannot write a checkpoint", &error)
        })
    }

    /// Sees to it that the reserve has room for a checkpoint; without space, it is tried again
    /// after the next checkpoint.
    pub(crate) fn keep_reserve(&mut self) {
        let shared = &self.core.shared;
        let least = (shared.settings.segment_bytes / 64).max(self.checkpoint_bytes);
        if self.reserve_bytes >= least {
            return;
        }
        let wanted = least.saturating_mul(5) / 4;
        let path = reserve(&shared.directory);
        let zeros = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let written =
            segment::open(&path, true).and_then(|file| shared.disk.write(&file, &zeros, 0));
        match written {
            Ok(()) => self.reserve_bytes = wanted,
            Err(error) => {
                tracing::info!(%error, "There is no space for the journal's reserve.");
                drop(fs::remove_file(&path));
                self.reserve_bytes = 0;
            }
        }
        self.count_bytes();
    }

    fn save(&self, temporary: &Path) -> io::Result<(File, u64)> {
        let file = segment::open(temporary, true)?;
        file.set_len(0)?;
        let length = self.save_to(&file)?;
        Ok((file, length))
    }

    fn save_to(&self, file: &File) -> io::Result<u64> {
        let mut out =
            Checked { out: io::BufWriter::new(file), crc: crc32fast::Hasher::new(), length: 0 };
        let mut piece = Vec::from(MAGIC);
        piece.extend(VERSION.to_le_bytes());
        put_varint(self.active.number.into(), &mut piece);
        put_varint(self.active.length, &mut piece);
        put_varint(self.next_sequence, &mut piece);
        let (next_queue, tables) = {
            let registry = lock(&self.core.registry);
            (registry.next_disk, registry.tables.clone())
        };
        put_varint(next_queue.into(), &mut piece);
        let snapshots = self.core.disk_queues().into_values().filter_map(|queue| {
            let (blocks, attempts) = queue.snapshot()?;
            Some((queue, blocks, attempts))
        });
        let snapshots: Vec<_> = snapshots.collect();
        put_count(snapshots.len(), &mut piece);
        for (queue, blocks, attempts) in snapshots {
            put_varint(queue.number().into(), &mut piece);
            put_bytes(queue.name_text().as_bytes(), &mut piece);
            put_count(attempts.len(), &mut piece);
            for (position, count) in attempts {
                put_varint(position, &mut piece);
                put_varint(count.into(), &mut piece);
            }
            put_count(blocks.len(), &mut piece);
            for block in blocks {
                put_bytes(block.packed(), &mut piece);
                out.put(&mut piece)?;
            }
        }
        put_count(tables.len(), &mut piece);
        for (name, table) in tables {
            put_bytes(name.as_bytes(), &mut piece);
            let entries = table.entries();
            put_count(entries.len(), &mut piece);
            for (key, value) in entries {
                put_bytes(&key, &mut piece);
                put_bytes(&value, &mut piece);
                out.put(&mut piece)?;
            }
        }
        out.put(&mut piece)?;
        out.finish()
    }
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

/// Reads the checkpoint of a directory; nothing when there is none.
pub(crate) fn load(directory: &Path) -> Result<Option<Saved>, OpenError> {
    let file = path(directory);
    let bytes = match fs::read(&file) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { action: "read", file, source }),
    };
    let damaged = |reason: &str| OpenError::Damaged {
        file: file.clone(),
        offset: 0,
        reason: reason.to_owned(),
    };
    let front = bytes.split_first_chunk::<8>();
    let front = front.and_then(|(magic, rest)| Some((magic, rest.first_chunk::<4>()?)));
    let (magic, version) = front.ok_or_else(|| damaged("the checkpoint is cut off"))?;
    if *magic != MAGIC {
        return Err(damaged("this is no checkpoint of a journal"));
    }
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(OpenError::Version { file, version });
    }
    let ends = bytes.split_last_chunk::<4>().filter(|(covered, _)| covered.len() >= 12);
    let (covered, crc) = ends.ok_or_else(|| damaged("the checkpoint is cut off"))?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return Err(damaged("the checksum of the checkpoint is wrong"));
    }
    let mut reader = Reader::new(&bytes.slice(12..covered.len()));
    let saved = read(&mut reader).and_then(|saved| reader.end().map(|()| saved));
    let mut saved = saved.map_err(|error| damaged(&error.to_string()))?;
    saved.bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Ok(Some(saved))
}

fn read(reader: &mut Reader) -> Result<Saved, DecodeError> {
    let narrow = |number: u64| u32::try_from(number).map_err(|_| DecodeError::Unknown("a number"));
    let mut saved = Saved {
        segment: narrow(reader.varint()?)?,
        offset: reader.varint()?,
        next_sequence: reader.varint()?,
        next_queue: narrow(reader.varint()?)?,
        ..Saved::default()
    };
    for _ in 0..reader.varint()? {
        let number = narrow(reader.varint()?)?;
        // Names, keys and values are copied so that the file does not stay in memory with them.
        let mut queue = SavedQueue { name: Text::from(&*reader.text()?), ..SavedQueue::default() };
        for _ in 0..reader.varint()? {
            queue.attempts.insert(reader.varint()?, narrow(reader.varint()?)?);
        }
        for _ in 0..reader.varint()? {
            let packed = Bytes::copy_from_slice(&reader.bytes()?);
            let (block, _) = Block::read(packed)?;
            queue.index.push_block(block);
        }
        saved.queues.insert(number, queue);
    }
    for _ in 0..reader.varint()? {
        let table = saved.tables.entry(Text::from(&*reader.text()?)).or_default();
        for _ in 0..reader.varint()? {
            let key = Bytes::copy_from_slice(&reader.bytes()?);
            table.insert(key, Bytes::copy_from_slice(&reader.bytes()?));
        }
    }
    Ok(saved)
}
