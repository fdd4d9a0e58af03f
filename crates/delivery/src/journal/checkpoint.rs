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
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use transload_envelope::{
    Text,
    codec::{DecodeError, Reader},
};

use super::{
    index::{Block, Index},
    settings::OpenError,
};
use crate::backlog::Load;

/// The version of the format that is written.
pub(crate) const VERSION: u32 = 1;
pub(super) const MAGIC: [u8; 8] = *b"TRLDCHK\n";

/// A queue as it is recovered.
#[derive(Debug, Default)]
pub(crate) struct SavedQueue {
    pub(crate) name: Text,
    pub(crate) index: Index,
    pub(crate) attempts: BTreeMap<u64, u32>,
    /// How much the index holds, once everything has been read.
    pub(crate) load: Load,
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
