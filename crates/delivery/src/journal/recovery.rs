//! Opening: finds out what lives.
//!
//! Damage and a torn end look alike: something that is no record. It is a torn end only in the
//! last segment, and only if no batch behind it says that everything before had been synced.
//! What cannot be told apart is damage in the very last batch that was synced before a crash.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    checkpoint::{self, Saved},
    disk::Disk,
    index::Location,
    record,
    replay::{End, Replay},
    runs::Runs,
    segment::{self, BadHeader, HEADER, Header, Segment, Segments},
    settings::{JournalSettings, OnDamage, OpenError, Statistics},
};
use crate::backlog::{Entry as _, Load};

/// What was found in a directory.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) lock: File,
    pub(crate) saved: Saved,
    pub(crate) segments: Segments,
    pub(crate) figures: Statistics,
    /// How many bytes of the log were read.
    pub(crate) replayed: u64,
    /// Something was set aside, so the log cannot be read again from the old checkpoint.
    pub(crate) set_aside: bool,
}

/// Turns an error of the system into one that names the file.
pub(crate) fn io_error<'a>(
    action: &'static str,
    file: &'a Path,
) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { action, file: file.to_owned(), source }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    settings: JournalSettings,
    headers: BTreeMap<u32, Header>,
    lengths: BTreeMap<u32, u64>,
    figures: Statistics,
    replayed: u64,
    set_aside: bool,
}

/// Reads a directory, and makes it if it is not there.
pub(crate) fn recover(
    directory: &Path,
    settings: JournalSettings,
    disk: &dyn Disk,
) -> Result<Recovered, OpenError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(io_error("create", directory))?;
    let lock = take_lock(directory)?;
    let temporary = checkpoint::temporary(directory);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut recovery = Recovery {
        disk,
        directory,
        settings,
        headers: BTreeMap::new(),
        lengths: list(directory)?,
        figures: Statistics::default(),
        replayed: 0,
        set_aside: false,
    };
    let (saved, keep_unknown) = recovery.load()?;
    recovery.read_headers()?;
    let mut replay = Replay::new(saved, keep_unknown);
    if settings.verify {
        recovery.verify(&replay.saved)?;
    }
    recovery.replay(&mut replay)?;
    let mut saved = replay.saved;
    let segments = recovery.account(&mut saved)?;
    saved.queues.retain(|_, queue| queue.index.last().is_some());
    let Recovery { figures, replayed, set_aside, .. } = recovery;
    Ok(Recovered { lock, saved, segments, figures, replayed, set_aside })
}

fn take_lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let lock = segment::open(&path, true).map_err(io_error("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// The segments of a directory and their lengths.
fn list(directory: &Path) -> Result<BTreeMap<u32, u64>, OpenError> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        if let Some(number) = entry.file_name().to_str().and_then(segment::number) {
            let path = entry.path();
            let metadata = entry.metadata().map_err(io_error("look at", &path))?;
            found.insert(number, metadata.len());
        }
    }
    Ok(found)
}

impl Recovery<'_> {
    fn path(&self, number: u32) -> PathBuf {
        segment::path(self.directory, number)
    }

    /// Reads the checkpoint. Says also whether messages of unknown queues are to be kept.
    fn load(&mut self) -> Result<(Saved, bool), OpenError> {
        let first = self.lengths.keys().next().copied();
        let empty = |segment| Saved {
            segment,
            offset: HEADER as u64,
            next_sequence: 1,
            ..Saved::default()
        };
        match checkpoint::load(self.directory) {
            Ok(Some(saved)) => Ok((saved, false)),
            Ok(None) if first.is_none_or(|first| first == 1) => Ok((empty(1), false)),
            Ok(None) => {
                let file = checkpoint::path(self.directory);
                let reason = "the checkpoint is missing".to_owned();
                self.without_checkpoint(OpenError::Damaged { file, offset: 0, reason })?;
                Ok((empty(first.unwrap_or(1)), true))
            }
            Err(error @ OpenError::Damaged { .. }) => {
                self.without_checkpoint(error)?;
                let file = checkpoint::path(self.directory);
                let aside = unused(&file);
                fs::rename(&file, &aside).map_err(io_error("set aside", &file))?;
                Ok((empty(first.unwrap_or(1)), true))
            }
            Err(error) => Err(error),
        }
    }

    fn without_checkpoint(&mut self, error: OpenError) -> Result<(), OpenError> {
        if self.settings.on_damage == OnDamage::Stop {
            return Err(error);
        }
        tracing::error!(%error, "Opening the store without its checkpoint.");
        self.set_aside = true;
        Ok(())
    }

    fn read_headers(&mut self) -> Result<(), OpenError> {
        let last = self.lengths.keys().next_back().copied();
        for (number, length) in self.lengths.clone() {
            let file = self.path(number);
            let bytes = read_at(&file, 0, HEADER as u64)?;
            match Header::decode(&bytes) {
                Ok(header) if header.number == number => {
                    self.headers.insert(number, header);
                }
                Err(BadHeader::Version(version)) => {
                    return Err(OpenError::Version { file, version });
                }
                Err(BadHeader::Damaged(_)) if Some(number) == last && length <= HEADER as u64 => {
                    // It was being created when the process ended, so nothing was in it yet.
                    fs::remove_file(&file).map_err(io_error("remove", &file))?;
                    self.lengths.remove(&number);
                    self.figures.cut_bytes = length;
                }
                Ok(_) => self.damage(number, 0, "this is another segment by its header")?,
                Err(BadHeader::Damaged(reason)) => self.damage(number, 0, reason)?,
            }
        }
        Ok(())
    }

    /// Stops at damage, or sets the file aside and cuts it off there.
    fn damage(&mut self, number: u32, offset: u64, reason: &str) -> Result<(), OpenError> {
        let file = self.path(number);
        let reason = reason.to_owned();
        let error = OpenError::Damaged { file: file.clone(), offset, reason };
        if self.settings.on_damage == OnDamage::Stop {
            return Err(error);
        }
        self.set_aside = true;
        if !self.lengths.contains_key(&number) {
            tracing::error!(%error, "Opening the store without a segment.");
            return Ok(());
        }
        let aside = unused(&file);
        tracing::error!(%error, copy = %aside.display(), "Cutting a damaged segment off.");
        fs::copy(&file, &aside).map_err(io_error("copy", &file))?;
        self.sync(&aside)?;
        if offset < HEADER as u64 {
            fs::remove_file(&file).map_err(io_error("remove", &file))?;
            self.lengths.remove(&number);
            self.headers.remove(&number);
            return Ok(());
        }
        self.cut(number, offset)
    }

    fn cut(&mut self, number: u32, offset: u64) -> Result<(), OpenError> {
        let file = self.path(number);
        let opened = segment::open(&file, false).map_err(io_error("open", &file))?;
        opened
            .set_len(offset)
            .and_then(|()| self.disk.sync(&opened))
            .map_err(io_error("cut off", &file))?;
        self.lengths.insert(number, offset);
        Ok(())
    }

    /// Makes a file durable: what was read from the system's cache may not be on the disk.
    fn sync(&self, path: &Path) -> Result<(), OpenError> {
        let file = segment::open(path, false).map_err(io_error("open", path))?;
        self.disk.sync(&file).map_err(io_error("sync", path))
    }

    /// Checks all records before the checkpoint.
    fn verify(&mut self, saved: &Saved) -> Result<(), OpenError> {
        for (number, header) in self.headers.clone() {
            if number > saved.segment {
                break;
            }
            let length = self.lengths.get(&number).copied().unwrap_or(0);
            let until = if number == saved.segment { saved.offset.min(length) } else { length };
            let from = HEADER as u64;
            let bytes = read_at(&self.path(number), from, until.saturating_sub(from))?;
            if let Err((offset, reason)) = check(&bytes, &header) {
                self.damage(number, offset.saturating_add(from), reason)?;
            }
        }
        Ok(())
    }

    /// Reads the log from the checkpoint on.
    fn replay(&mut self, replay: &mut Replay) -> Result<(), OpenError> {
        let last = self.lengths.keys().next_back().copied();
        let (from, offset) = (replay.saved.segment, replay.saved.offset);
        for number in from..=last.unwrap_or(0).max(from) {
            let start = if number == from { offset } else { HEADER as u64 };
            self.replay_segment(replay, number, start, last == Some(number))?;
        }
        Ok(())
    }

    fn replay_segment(
        &mut self,
        replay: &mut Replay,
        number: u32,
        start: u64,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let found = self.headers.get(&number).copied().zip(self.lengths.get(&number).copied());
        let Some((header, length)) = found else {
            // Nothing at all is a store that is new; no last segment was being created.
            let new = self.lengths.is_empty() && number == 1 && replay.saved.bytes == 0;
            return if new || self.set_aside {
                Ok(())
            } else {
                self.damage(number, 0, "the segment is missing")
            };
        };
        if start > length {
            self.damage(number, length, "the segment is shorter than the checkpoint says")?;
            return Ok(());
        }
        if start == HEADER as u64 && header.first_sequence != replay.saved.next_sequence {
            if !self.set_aside {
                self.damage(
                    number,
                    0,
                    "records are missing between this segment and the one before",
                )?;
            }
            replay.saved.next_sequence = replay.saved.next_sequence.max(header.first_sequence);
        }
        let bytes = read_at(&self.path(number), start, length.saturating_sub(start))?;
        self.replayed = self.replayed.saturating_add(length.saturating_sub(start));
        let End::Bad { offset, reason } = replay.segment(number, header.salt, start, &bytes) else {
            return if is_last { self.sync(&self.path(number)) } else { Ok(()) };
        };
        let skip = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let behind = bytes.slice(skip.min(bytes.len())..);
        if is_last && !record::proves_sync(&behind, header.salt) {
            let cut = length.saturating_sub(offset);
            tracing::info!(bytes = cut, segment = number, "Cut an incomplete end off the journal.");
            self.figures.cut_bytes = cut;
            return self.cut(number, offset);
        }
        self.damage(number, offset, &reason)?;
        // There can be no more records than this in what is lost.
        let lost = behind.len() / record::HEAD;
        let lost = u64::try_from(lost).unwrap_or(u64::MAX).saturating_add(1);
        replay.saved.next_sequence = replay.saved.next_sequence.saturating_add(lost);
        Ok(())
    }

    /// Checks that everything that lives is in a file, and counts what lives where.
    fn account(&mut self, saved: &mut Saved) -> Result<Segments, OpenError> {
        let mut survey = Survey::of(saved, &self.lengths);
        if !survey.lost.is_empty() {
            self.drop_lost(saved, std::mem::take(&mut survey.lost))?;
            survey = Survey::of(saved, &self.lengths);
        }
        let mut segments = Segments::default();
        for (number, header) in &self.headers {
            let bytes = self.lengths.get(number).copied().unwrap_or(0);
            let segment = Segment::new(header.salt, bytes);
            segments.0.insert(*number, segment);
        }
        for (segment, mut records) in survey.places {
            records.sort_unstable();
            for same in records.chunk_by(|one, other| one.0 == other.0) {
                if let Some(&(offset, length)) = same.first() {
                    let queues = u32::try_from(same.len()).unwrap_or(u32::MAX);
                    segments.add(Location { segment, offset, length }, queues);
                }
            }
        }
        Ok(segments)
    }

    /// Stops at messages that are in no file, or takes them out of their queues.
    fn drop_lost(&mut self, saved: &mut Saved, lost: Lost) -> Result<(), OpenError> {
        for (number, (length, messages)) in lost {
            if !self.set_aside {
                self.damage(number, length, "messages are missing that are still to be delivered")?;
            }
            for (id, position) in messages {
                if let Some(queue) = saved.queues.get_mut(&id) {
                    queue.index.remove(&[position].into_iter().collect::<Runs>());
                    self.figures.lost_messages = self.figures.lost_messages.saturating_add(1);
                }
            }
        }
        Ok(())
    }
}

/// Messages that are in no file: by segment, how long that is, and the queues and positions.
type Lost = BTreeMap<u32, (u64, Vec<(u32, u64)>)>;

/// What one walk through all indexes finds; with very many waiting messages each walk takes long.
#[derive(Debug, Default)]
struct Survey {
    lost: Lost,
    /// Offsets and lengths by segment, once for each queue.
    places: BTreeMap<u32, Vec<(u32, u32)>>,
}

impl Survey {
    /// Walks through all indexes, and notes in each queue how much it holds.
    fn of(saved: &mut Saved, lengths: &BTreeMap<u32, u64>) -> Self {
        let mut survey = Self::default();
        for (id, queue) in &mut saved.queues {
            queue.load = Load::default();
            for place in queue.index.iter() {
                queue.load.add(place.size());
                let Location { segment, offset, length } = place.location;
                let end = u64::from(offset).saturating_add(length.into());
                let there = lengths.get(&segment).copied().unwrap_or(0);
                if end > there {
                    let lost = survey.lost.entry(segment).or_insert((there, Vec::new()));
                    lost.1.push((*id, place.position));
                } else {
                    survey.places.entry(segment).or_default().push((offset, length));
                }
            }
        }
        survey
    }
}

/// Finds the first bad record.
fn check(bytes: &Bytes, header: &Header) -> Result<(), (u64, &'static str)> {
    let mut at = 0;
    let mut sequence = header.first_sequence;
    while at < bytes.len() {
        let place = u64::try_from(at).unwrap_or(u64::MAX);
        let record = record::parse(&bytes.slice(at..), header.salt).map_err(|why| (place, why))?;
        if record.sequence != sequence {
            return Err((place, "a record is missing"));
        }
        sequence = sequence.saturating_add(1);
        at = at.saturating_add(record.length);
    }
    Ok(())
}

/// Reads up to so many bytes of a file.
fn read_at(path: &Path, at: u64, length: u64) -> Result<Bytes, OpenError> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(at))?;
        file.take(length).read_to_end(&mut bytes)
    });
    read.map_err(io_error("read", path))?;
    Ok(bytes.into())
}

/// A name beside a file that nothing has yet.
fn unused(file: &Path) -> PathBuf {
    let names = (0_u32..).map(|count| {
        let mut name = file.as_os_str().to_owned();
        name.push(if count == 0 { ".damaged".to_owned() } else { format!(".{count}.damaged") });
        PathBuf::from(name)
    });
    names.into_iter().find(|path| !path.exists()).unwrap_or_else(|| file.with_extension("damaged"))
}
