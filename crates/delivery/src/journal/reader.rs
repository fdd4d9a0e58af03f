use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{
    index::Location,
    record::{self, Record},
    segment,
};
use crate::sync::lock;

/// How many segments are kept open for reading.
const FILES_MAX: usize = 64;
/// What is read at once where records lie close together.
const READ_BYTES_MAX: u64 = 1 << 20;
/// What may lie between records that are read at once.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// Why a record cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// Its segment has been deleted, so the record has been moved or is done.
    Gone,
    /// The file is damaged, or cannot be read.
    Bad(String),
}

/// Reads records by their location: from the end of the log that is kept in memory, or from disk.
#[derive(Debug)]
pub(crate) struct Reader {
    directory: PathBuf,
    salts: Mutex<HashMap<u32, u64>>,
    files: Mutex<BTreeMap<u32, Arc<File>>>,
    recent: Mutex<Recent>,
}

/// What was written last.
#[derive(Debug)]
struct Recent {
    pieces: VecDeque<(Location, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl Reader {
    pub(crate) fn new(directory: PathBuf, salts: HashMap<u32, u64>, bytes_max: usize) -> Self {
        let recent = Recent { pieces: VecDeque::new(), bytes: 0, bytes_max };
        Self {
            directory,
            salts: Mutex::new(salts),
            files: Mutex::default(),
            recent: Mutex::new(recent),
        }
    }

    /// Makes a new segment known.
    pub(crate) fn add_segment(&self, number: u32, salt: u64) {
        lock(&self.salts).insert(number, salt);
    }

    /// Forgets a segment.
    pub(crate) fn remove_segment(&self, number: u32) {
        lock(&self.salts).remove(&number);
        lock(&self.files).remove(&number);
    }

    /// Keeps what has just been written.
    pub(crate) fn keep(&self, at: Location, written: Vec<u8>) {
        let mut recent = lock(&self.recent);
        // A box has no spare room, so what is counted is what is held.
        let written = Bytes::from(written.into_boxed_slice());
        recent.bytes = recent.bytes.saturating_add(written.len());
        recent.pieces.push_back((at, written));
        while recent.bytes > recent.bytes_max {
            let Some((_, piece)) = recent.pieces.pop_front() else { break };
            recent.bytes = recent.bytes.saturating_sub(piece.len());
        }
    }

    /// Reads records that are all in memory; nothing if one is not. They are copied, since a
    /// message that is held for long would keep all that was written with it.
    pub(crate) fn read_recent(
        &self,
        wanted: &[Location],
    ) -> Option<Result<Vec<Record>, ReadError>> {
        let pieces: Option<Vec<_>> = {
            let recent = lock(&self.recent);
            wanted.iter().map(|at| recent.get(*at)).collect()
        };
        let read = |(at, piece): (&Location, Bytes)| self.parse(*at, &piece);
        Some(wanted.iter().zip(pieces?).map(read).collect())
    }

    /// Reads records in order; blocks. Those that lie close together are read at once.
    pub(crate) fn read(&self, wanted: &[Location]) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::with_capacity(wanted.len());
        let mut rest = wanted;
        while let Some(first) = rest.first() {
            let together = close_together(rest);
            let (group, behind) = rest.split_at_checked(together).unwrap_or((rest, &[]));
            rest = behind;
            let start = u64::from(first.offset);
            let end = group.last().map_or(start, |last| end(*last));
            let bytes = self.range(first.segment, start, end.saturating_sub(start))?;
            for at in group {
                let skip = usize::try_from(at.offset.saturating_sub(first.offset));
                let skip = skip.unwrap_or(usize::MAX);
                let until = skip.saturating_add(usize::try_from(at.length).unwrap_or(usize::MAX));
                let one = bytes.get(skip..until).unwrap_or_default();
                let one =
                    if group.len() == 1 { bytes.clone() } else { Bytes::copy_from_slice(one) };
                records.push(self.parse(*at, &one)?);
            }
        }
        Ok(records)
    }

    /// Reads a part of a segment.
    pub(crate) fn range(&self, number: u32, at: u64, length: u64) -> Result<Bytes, ReadError> {
        let file = self.file(number)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, at)
            .map_err(|error| self.bad(number, at, &error.to_string()))?;
        Ok(bytes.into())
    }

    /// Names a place in a file in an error.
    pub(crate) fn bad(&self, number: u32, at: u64, reason: &str) -> ReadError {
        let path = segment::path(&self.directory, number);
        ReadError::Bad(format!("{} is damaged at offset {at}: {reason}", path.display()))
    }

    /// The salt of a segment.
    pub(crate) fn salt(&self, number: u32) -> Option<u64> {
        lock(&self.salts).get(&number).copied()
    }

    fn parse(&self, at: Location, bytes: &Bytes) -> Result<Record, ReadError> {
        let salt = self.salt(at.segment).ok_or(ReadError::Gone)?;
        record::parse(bytes, salt).map_err(|reason| self.bad(at.segment, at.offset.into(), reason))
    }

    fn file(&self, number: u32) -> Result<Arc<File>, ReadError> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&number) {
            return Ok(Arc::clone(file));
        }
        let opened = File::open(segment::path(&self.directory, number));
        let file = opened.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ReadError::Gone
            } else {
                self.bad(number, 0, &error.to_string())
            }
        });
        let file = Arc::new(file?);
        if files.len() >= FILES_MAX {
            // Queues are read from old to new, so the oldest is the least likely to be needed.
            files.pop_first();
        }
        files.insert(number, Arc::clone(&file));
        Ok(file)
    }
}

impl Recent {
    fn get(&self, at: Location) -> Option<Bytes> {
        let place = |it: &Location| (it.segment, it.offset);
        let behind = self.pieces.partition_point(|(start, _)| place(start) <= place(&at));
        let (start, piece) = self.pieces.get(behind.checked_sub(1)?)?;
        if start.segment != at.segment {
            return None;
        }
        let skip = usize::try_from(at.offset.checked_sub(start.offset)?).ok()?;
        let until = skip.checked_add(usize::try_from(at.length).ok()?)?;
        piece.get(skip..until).map(Bytes::copy_from_slice)
    }
}

fn end(at: Location) -> u64 {
    u64::from(at.offset).saturating_add(u64::from(at.length))
}

/// How many of the first locations are read at once.
fn close_together(wanted: &[Location]) -> usize {
    let Some(first) = wanted.first() else { return 0 };
    let joins = |pair: &[Location]| {
        let [before, next] = pair else { return false };
        let gap = u64::from(next.offset).checked_sub(end(*before));
        next.segment == first.segment
            && gap.is_some_and(|gap| gap <= GAP_BYTES_MAX)
            && end(*next).saturating_sub(u64::from(first.offset)) <= READ_BYTES_MAX
    };
    wanted.windows(2).take_while(|pair| joins(pair)).count().saturating_add(1)
}
