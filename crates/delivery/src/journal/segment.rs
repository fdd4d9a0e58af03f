//! Segments: their files, and how much of each lives.
//!
//! ```text
//! header   magic "TRLDSEG\n", format version u32, number u32, first sequence u64, salt u64,
//!          crc u32 of all that; then records. This form stays in all versions.
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use super::index::Location;

/// Length of a segment's header.
pub(crate) const HEADER: usize = 36;
/// The version of the format that is written.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"TRLDSEG\n";

/// What stands at the front of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u32,
    pub(crate) first_sequence: u64,
    pub(crate) salt: u64,
}

/// Why a header cannot be used.
#[derive(Debug)]
pub(crate) enum BadHeader {
    /// It is not whole, or not a header at all.
    Damaged(&'static str),
    /// It is of another version.
    Version(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.first_sequence.to_le_bytes());
        bytes.extend(self.salt.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let short = || BadHeader::Damaged("the header is cut off");
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        if *magic != MAGIC {
            return Err(BadHeader::Damaged("this is no segment of a journal"));
        }
        let (number, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (first_sequence, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (salt, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let crc = rest.first_chunk::<4>().ok_or_else(short)?;
        let covered = bytes.get(..HEADER.saturating_sub(4)).ok_or_else(short)?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return Err(BadHeader::Damaged("the checksum of the header is wrong"));
        }
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        Ok(Self {
            number: u32::from_le_bytes(*number),
            first_sequence: u64::from_le_bytes(*first_sequence),
            salt: u64::from_le_bytes(*salt),
        })
    }
}

/// The file of a segment.
pub(crate) fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:08}.journal"))
}

/// The number of a segment, if that is what a file's name says.
pub(crate) fn number(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_suffix(".journal")?;
    (digits.len() >= 8).then(|| digits.parse().ok()).flatten()
}

/// Opens a file that only its owner may read and write. One that is made belongs to the owner of its
/// directory: the administrator may look after a stopped gateway's files, and it can start again.
pub(crate) fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(create).truncate(false).mode(0o600).open(path)?;
    if create {
        give_to_owner_of_directory(&file, path)?;
    }
    Ok(file)
}

fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    let Some(Ok(directory)) = path.parent().map(fs::metadata) else { return Ok(()) };
    if file.metadata()?.uid() == directory.uid() {
        return Ok(());
    }
    match fchown(file, Some(directory.uid()), Some(directory.gid())) {
        // Who may not give files away is not the administrator, and keeps what is his.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// What is known of one segment.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) salt: u64,
    /// The length of its file.
    pub(crate) bytes: u64,
    pub(crate) live_records: u64,
    pub(crate) live_bytes: u64,
    /// In how many queues a record lives, by its offset, where that is more than one.
    shared: HashMap<u32, u32>,
}

impl Segment {
    /// A segment in which nothing is known to live.
    pub(crate) fn new(salt: u64, bytes: u64) -> Self {
        Self { salt, bytes, ..Self::default() }
    }
}

/// All segments by number; the last one is written to.
#[derive(Debug, Default)]
pub(crate) struct Segments(pub(crate) BTreeMap<u32, Segment>);

impl Segments {
    /// Says that a record lives in so many queues.
    pub(crate) fn add(&mut self, at: Location, queues: u32) {
        let Some(segment) = self.0.get_mut(&at.segment) else { return };
        if queues == 0 {
            return;
        }
        segment.live_records = segment.live_records.saturating_add(1);
        segment.live_bytes = segment.live_bytes.saturating_add(u64::from(at.length));
        if queues > 1 {
            segment.shared.insert(at.offset, queues);
        }
    }

    /// Says that a record lives in one queue less.
    pub(crate) fn release(&mut self, at: Location) {
        let Some(segment) = self.0.get_mut(&at.segment) else { return };
        if let Some(queues) = segment.shared.get_mut(&at.offset) {
            *queues = queues.saturating_sub(1);
            if *queues <= 1 {
                segment.shared.remove(&at.offset);
            }
            return;
        }
        segment.live_records = segment.live_records.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(u64::from(at.length));
    }

    /// Bytes of all segments, and how many of them live.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(bytes, live), segment| {
            (bytes.saturating_add(segment.bytes), live.saturating_add(segment.live_bytes))
        })
    }

    /// The segments that are no longer written to.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = (u32, &Segment)> {
        let last = self.0.keys().next_back().copied();
        self.0
            .iter()
            .map(|(number, segment)| (*number, segment))
            .filter(move |(number, _)| Some(*number) != last)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    /// Only root can make what this is about: for anybody else every file is his own.
    #[test]
    fn a_file_belongs_to_the_owner_of_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let _ = chown(folder.path(), Some(4711), Some(4712));
        let owner = fs::metadata(folder.path()).unwrap();
        let file = open(&folder.path().join("lock"), true).unwrap().metadata().unwrap();
        assert_eq!((file.uid(), file.mode() & 0o777), (owner.uid(), 0o600));
    }
}
