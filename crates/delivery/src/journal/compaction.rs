//! Getting rid of segments.
//!
//! A segment in which nothing lives is deleted as soon as a checkpoint is durable that was taken
//! after its last record. A segment in which little lives is first emptied: what lives is copied to the
//! end of the log, a piece at a time, with the batches that are written anyway.
//!
//! A copy keeps its position, and so its place in every queue. It names only the queues in which
//! the message lives when the copy is made; a message that is done between that and the sync is
//! done for both, since its `done` is written behind the copy.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{
    index::Location,
    items::Work,
    queue::DiskQueue,
    reader::ReadError,
    record::{self, AppendBody, Kind},
    runs::Runs,
    segment::{self, HEADER},
    writer::{Fault, Writer},
};
use crate::sync::lock;

/// How much of a segment is looked at with one batch.
const PIECE_BYTES: u64 = 1 << 20;
/// After how many segments' worth of records a checkpoint is written in any case, so that opening
/// never has to read more.
const REPLAY_SEGMENTS: u64 = 16;

/// A segment that is being emptied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compaction {
    number: u32,
    offset: u64,
    copied: bool,
}

/// A message that has been copied.
#[derive(Debug)]
pub(crate) struct Moved {
    position: u64,
    queues: Vec<u32>,
}

impl Writer {
    /// Whether this batch holds copies.
    pub(crate) fn compacts(&self) -> bool {
        self.compaction.is_some_and(|compaction| compaction.copied)
    }

    /// Adds copies of the next piece of the segment that is being emptied, if there is one.
    pub(crate) fn compact(&mut self, work: &mut Work) -> Result<Vec<Moved>, Fault> {
        let Some(mut compaction) = self.compaction.take() else { return Ok(Vec::new()) };
        let length = {
            let segments = lock(&self.core.shared.segments);
            let segment = segments.0.get(&compaction.number);
            segment.filter(|segment| segment.live_records > 0).map_or(0, |segment| segment.bytes)
        };
        if compaction.offset >= length {
            return Ok(Vec::new());
        }
        let piece = self.piece(&mut compaction, length)?;
        let moved = self.copy(compaction.number, piece, work);
        compaction.copied = !moved.is_empty();
        self.compaction = Some(compaction);
        Ok(moved)
    }

    /// Reads the next messages of a segment.
    fn piece(
        &self,
        compaction: &mut Compaction,
        length: u64,
    ) -> Result<Vec<(Location, AppendBody)>, Fault> {
        let shared = &self.core.shared;
        let fault = |error: ReadError| match error {
            ReadError::Gone => Fault::Fatal("a segment of the journal has vanished".into()),
            ReadError::Bad(reason) => Fault::Fatal(reason.into()),
        };
        let number = compaction.number;
        let start = compaction.offset;
        let bad = |at: u64, reason: &str| fault(shared.reader.bad(number, at, reason));
        let salt = shared.reader.salt(number).ok_or(ReadError::Gone).map_err(fault)?;
        let mut bytes = self.read_piece(number, start, length).map_err(fault)?;
        let mut found = Vec::new();
        while let Some(length) = record::length(&bytes) {
            if length > bytes.len() {
                break;
            }
            let at = compaction.offset;
            let record = record::parse(&bytes, salt).map_err(|reason| bad(at, reason))?;
            bytes = bytes.slice(record.length..);
            let length = u32::try_from(record.length).unwrap_or(u32::MAX);
            compaction.offset = at.saturating_add(u64::from(length));
            if record.kind == Kind::Append {
                let body = AppendBody::decode(&record);
                let body = body.map_err(|error| bad(at, &error.to_string()))?;
                let offset = u32::try_from(at).unwrap_or(u32::MAX);
                found.push((Location { segment: number, offset, length }, body));
            }
        }
        if compaction.offset == start {
            return Err(bad(start, "a record is cut off"));
        }
        Ok(found)
    }

    /// Reads a piece that holds at least one whole record.
    fn read_piece(&self, number: u32, start: u64, end: u64) -> Result<Bytes, ReadError> {
        let reader = &self.core.shared.reader;
        let left = end.saturating_sub(start);
        let bytes = reader.range(number, start, left.min(PIECE_BYTES))?;
        match record::length(&bytes).map(|length| u64::try_from(length).unwrap_or(u64::MAX)) {
            Some(length) if length > PIECE_BYTES => reader.range(number, start, left.min(length)),
            _ => Ok(bytes),
        }
    }

    /// Copies what lives behind the records of the batch.
    fn copy(&self, number: u32, piece: Vec<(Location, AppendBody)>, work: &mut Work) -> Vec<Moved> {
        let mut wanted: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (_, body) in &piece {
            for (queue, _) in &body.targets {
                wanted.entry(*queue).or_default().push(body.position);
            }
        }
        let queues = self.core.disk_queues();
        let mut live: HashMap<(u32, u64), Location> = HashMap::new();
        for (id, positions) in wanted {
            if let Some(queue) = queues.get(&id) {
                let found = queue.find(&positions.into_iter().collect::<Runs>());
                live.extend(found.into_iter().map(|(position, at)| ((id, position), at)));
            }
        }
        let mut moved = Vec::new();
        for (from, mut body) in piece {
            // A message that was moved before has a newer copy elsewhere.
            body.targets.retain(|(id, _)| live.get(&(*id, body.position)) == Some(&from));
            if body.targets.is_empty() {
                continue;
            }
            if work.records.is_empty() {
                record::write_batch(false, &mut work.records);
            }
            body.write(&mut work.records);
            let queues = body.targets.iter().map(|(id, _)| *id).collect();
            moved.push(Moved { position: body.position, queues });
        }
        tracing::trace!(segment = number, messages = moved.len(), "Copied what lives.");
        moved
    }

    /// Tells the queues of copies that are durable.
    pub(crate) fn publish_moved(
        &mut self,
        moved: &[Moved],
        locations: impl Iterator<Item = Location>,
    ) {
        if moved.is_empty() {
            return;
        }
        let shared = &self.core.shared;
        let count = u64::try_from(moved.len()).unwrap_or(u64::MAX);
        let mut by_queue: BTreeMap<u32, BTreeMap<u64, Location>> = BTreeMap::new();
        let mut gone: HashMap<(u32, u64), Location> = HashMap::new();
        for (one, to) in moved.iter().zip(locations) {
            let queues = u32::try_from(one.queues.len()).unwrap_or(u32::MAX);
            lock(&shared.segments).add(to, queues);
            for id in &one.queues {
                by_queue.entry(*id).or_default().insert(one.position, to);
                gone.insert((*id, one.position), to);
            }
        }
        let queues = self.core.disk_queues();
        for (id, moved) in by_queue {
            let found = queues.get(&id).map(|queue: &Arc<DiskQueue>| queue.relocate(&moved));
            let mut segments = lock(&shared.segments);
            for (position, from) in found.unwrap_or_default() {
                gone.remove(&(id, position));
                segments.release(from);
            }
        }
        // What was done meanwhile has released its old place itself, and never had the new one.
        let mut segments = lock(&shared.segments);
        for to in gone.into_values() {
            segments.release(to);
        }
        drop(segments);
        let mut figures = lock(&shared.figures);
        figures.moved_messages = figures.moved_messages.saturating_add(count);
    }

    /// Looks after the files: begins to empty a segment, writes a checkpoint, deletes segments.
    pub(crate) fn clean(&mut self, idle: bool) -> Result<(), Fault> {
        self.look_after_saving()?;
        let shared = Arc::clone(&self.core.shared);
        let settings = shared.settings;
        let used = shared.disk_bytes.load(Ordering::Relaxed);
        let pressed = used > shared.append_bytes_max() / 4 * 3;
        if pressed && self.active_is_waste() {
            self.next_segment()?;
        }
        let (dead, victim) = self.survey(pressed);
        let least = settings.segment_bytes.saturating_mul(2).max(self.checkpoint_bytes);
        let replay = settings.segment_bytes.saturating_mul(REPLAY_SEGMENTS);
        let replay = replay.max(self.checkpoint_bytes.saturating_mul(4));
        if dead >= least || (dead > 0 && (pressed || idle)) || self.since_checkpoint >= replay {
            self.begin_checkpoint()?;
        }
        if self.compaction.is_none()
            && let Some(number) = victim
        {
            self.compaction = Some(Compaction { number, offset: HEADER as u64, copied: false });
        }
        Ok(())
    }

    /// Whether most of the segment that is written to does not live.
    fn active_is_waste(&self) -> bool {
        let segments = lock(&self.core.shared.segments);
        let least = self.core.shared.settings.segment_bytes / 4;
        segments
            .0
            .get(&self.active.number)
            .is_some_and(|active| active.bytes > least && active.live_bytes < active.bytes / 2)
    }

    /// How many bytes are in segments in which nothing lives, and which segment to empty next.
    fn survey(&self, pressed: bool) -> (u64, Option<u32>) {
        let segments = lock(&self.core.shared.segments);
        let (bytes, live) = segments.totals();
        let waste = bytes.saturating_sub(live);
        let worth = self.core.shared.settings.waste_bytes_max.max(bytes / 2);
        let mut dead = 0_u64;
        let mut best: Option<(u64, u32)> = None;
        for (number, segment) in segments.sealed() {
            if segment.live_records == 0 {
                dead = dead.saturating_add(segment.bytes);
                continue;
            }
            let percent = segment.live_bytes.saturating_mul(100) / segment.bytes.max(1);
            if best.is_none_or(|(least, _)| percent < least) {
                best = Some((percent, number));
            }
        }
        // Segments in which nothing lives go without being emptied, so they do not count.
        let waste = waste.saturating_sub(dead);
        let victim =
            best.filter(
                |(percent, _)| {
                    if pressed { *percent <= 75 } else { *percent <= 50 && waste > worth }
                },
            );
        (dead, victim.map(|(_, number)| number))
    }

    /// Deletes segments in which nothing lived when the checkpoint was taken that is durable now.
    /// What has died since goes with the next one: the checkpoint still names it.
    pub(crate) fn delete_dead(&mut self, dead: &[u32]) -> Result<(), Fault> {
        let shared = Arc::clone(&self.core.shared);
        for number in dead {
            lock(&shared.segments).0.remove(number);
            shared.reader.remove_segment(*number);
            let removed = shared.disk.remove(&segment::path(&shared.directory, *number));
            removed.map_err(|error| Fault::fatal("cannot delete a segment", &error))?;
        }
        if !dead.is_empty() {
            let synced = shared.disk.sync_directory(&shared.directory);
            synced.map_err(|error| Fault::fatal("cannot sync the data directory", &error))?;
        }
        self.count_bytes();
        Ok(())
    }
}
