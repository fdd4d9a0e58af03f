//! The one thread that writes.
//!
//! It takes whatever was handed over during the last sync, writes it with one write and one sync,
//! and then says so to all who wait. What only tells that messages are done is written without a
//! sync of its own.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use transload_adapter::{
    Settlement,
    store::{SettleOn, StoreError},
};
use transload_envelope::Text;

use super::{
    compaction::{Compaction, Moved},
    core::{Core, Shared},
    disk,
    index::{Location, Place},
    items::{Item, Message, Then, Work},
    queue::DiskQueue,
    record,
    saving::Saving,
    segment::{self, HEADER, Header, Segment},
    settings::Health,
};
use crate::sync::lock;

/// How long the writer sleeps when there is nothing to do, and how long something written may be
/// without a sync.
const TICK: Duration = Duration::from_secs(1);
/// How long appends are refused after there was no space.
const FULL_DELAY: Duration = Duration::from_secs(1);

/// Why the writer cannot go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no space; nothing has been changed.
    Full(Text),
    /// The store has failed.
    Fatal(Text),
}

impl Fault {
    /// What an error of the system means where nothing has been changed by the failed attempt.
    pub(crate) fn of(what: &str, error: &io::Error) -> Self {
        let text = Text::from(format!("{what}: {error}"));
        if disk::is_full(error) { Self::Full(text) } else { Self::Fatal(text) }
    }

    /// What an error means after which nothing can be trusted.
    pub(crate) fn fatal(what: &str, error: &io::Error) -> Self {
        Self::Fatal(format!("{what}: {error}").into())
    }
}

/// Where the log ends.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: File,
    pub(crate) number: u32,
    pub(crate) length: u64,
    pub(crate) salt: u64,
}

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) core: Arc<Core>,
    pub(crate) active: Active,
    pub(crate) next_sequence: u64,
    /// Whether everything that was written has been synced.
    pub(crate) synced: bool,
    pub(crate) compaction: Option<Compaction>,
    /// How many bytes have been written since the last checkpoint.
    pub(crate) since_checkpoint: u64,
    /// The size of the last checkpoint.
    pub(crate) checkpoint_bytes: u64,
    /// The size of the file that is given up when there is no space for a checkpoint.
    pub(crate) reserve_bytes: u64,
    /// The checkpoint that is being written beside this thread.
    pub(crate) saving: Option<Saving>,
}

/// Fails the store if the writer panics.
struct Watch(Arc<Core>);

impl Drop for Watch {
    fn drop(&mut self) {
        let shared = &self.0.shared;
        if std::thread::panicking() {
            shared.fail("the writer has panicked".into());
        }
        shared.set_closed();
        refuse(shared, shared.pending.end(), &shared.why_ended());
        for queue in self.0.disk_queues().into_values() {
            queue.wake_all();
        }
    }
}

impl Writer {
    /// Runs until the store is closed or fails.
    pub(crate) fn run(mut self) {
        let _watch = Watch(Arc::clone(&self.core));
        let core = Arc::clone(&self.core);
        let shared = &core.shared;
        while shared.usable().is_ok() {
            let patience = if self.compaction.is_some() { Duration::ZERO } else { TICK };
            let taken = shared.pending.take(patience);
            let idle = taken.work.is_empty();
            let outcome = self.turn(taken.work).and_then(|()| self.clean(idle));
            let outcome = match outcome {
                Ok(()) if taken.closing => self.finish(),
                outcome => outcome,
            };
            match outcome {
                Ok(()) if taken.closing => break,
                Ok(()) => {}
                Err(Fault::Full(reason)) if taken.closing => {
                    // What is left are resolutions: their messages come again.
                    tracing::warn!(reason = &*reason, "The store was closed without space.");
                    break;
                }
                Err(Fault::Full(reason)) => self.note_full(reason),
                Err(Fault::Fatal(reason)) => shared.fail(reason),
            }
        }
        if let Err(Fault::Full(reason) | Fault::Fatal(reason)) = self.finish_saving() {
            tracing::warn!(reason = &*reason, "The last checkpoint could not be written.");
        }
    }

    fn note_full(&mut self, reason: Text) {
        self.compaction = None;
        if self.core.shared.health() == Health::Ready {
            tracing::warn!(reason = &*reason, "There is no space for the journal.");
        }
        if let Some(until) = Instant::now().checked_add(FULL_DELAY) {
            self.core.shared.set_full(reason, until);
        }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.sync()?;
        self.finish_saving()?;
        if self.since_checkpoint > 0 { self.checkpoint() } else { Ok(()) }
    }

    /// Writes what has been handed over, and what is to be moved.
    fn turn(&mut self, mut work: Work) -> Result<(), Fault> {
        let moved = match self.compact(&mut work) {
            Ok(moved) => moved,
            Err(Fault::Full(reason) | Fault::Fatal(reason)) => {
                // A record that cannot be read will not be readable later.
                self.core.shared.fail(reason.clone());
                refuse(&self.core.shared, work, &StoreError::Failed(reason.clone()));
                return Err(Fault::Fatal(reason));
            }
        };
        if work.is_empty() && moved.is_empty() {
            return if self.synced { Ok(()) } else { self.sync() };
        }
        work.write_resolutions();
        match self.write(&mut work) {
            Ok(locations) => {
                self.publish(work, &moved, locations);
                Ok(())
            }
            Err(Fault::Full(reason)) => {
                // Whoever hears of the refusal and looks finds the store full.
                self.note_full(reason.clone());
                let shared = &self.core.shared;
                let refused = shared.pending.restore(work, FULL_DELAY);
                refuse(shared, refused, &StoreError::Full(reason.clone()));
                Err(Fault::Full(reason))
            }
            Err(Fault::Fatal(reason)) => {
                self.core.shared.fail(reason.clone());
                refuse(&self.core.shared, work, &StoreError::Failed(reason.clone()));
                Err(Fault::Fatal(reason))
            }
        }
    }

    /// Writes records, and syncs them unless they are only resolutions. Returns where they are.
    fn write(&mut self, work: &mut Work) -> Result<Vec<Location>, Fault> {
        let shared = Arc::clone(&self.core.shared);
        if self.active.length >= shared.settings.segment_bytes {
            self.next_segment()?;
        }
        if let Some(flag) = work.records.get_mut(record::HEAD) {
            *flag = u8::from(self.synced);
        }
        let locations = self.seal(&mut work.records)?;
        if let Err(error) = shared.disk.write(&self.active.file, &work.records, self.active.length)
        {
            self.cut_back()?;
            return Err(Fault::of("cannot write to the journal", &error));
        }
        let written = u64::try_from(work.records.len()).unwrap_or(u64::MAX);
        self.active.length = self.active.length.saturating_add(written);
        self.since_checkpoint = self.since_checkpoint.saturating_add(written);
        let count = u64::try_from(locations.len()).unwrap_or(u64::MAX);
        self.next_sequence = self.next_sequence.saturating_add(count);
        let only_resolutions = work.items.is_empty() && !self.compacts();
        self.synced = false;
        if !only_resolutions {
            self.sync()?;
        }
        let mut figures = lock(&shared.figures);
        figures.records = figures.records.saturating_add(count);
        drop(figures);
        shared.clear_full();
        Ok(locations)
    }

    /// Removes what a failed write has left behind.
    fn cut_back(&mut self) -> Result<(), Fault> {
        let cut = self.core.shared.disk.truncate(&self.active.file, self.active.length);
        cut.map_err(|error| Fault::fatal("cannot cut a failed write off the journal", &error))
    }

    /// Gives records their sequences and checksums. Returns where they will be.
    fn seal(&self, records: &mut [u8]) -> Result<Vec<Location>, Fault> {
        let broken = || Fault::Fatal("a record was to be written that is not whole".into());
        let mut locations = Vec::new();
        let mut sequence = self.next_sequence;
        let mut offset = self.active.length;
        let mut rest = records;
        while !rest.is_empty() {
            let length = record::length(rest).ok_or_else(broken)?;
            let (one, behind) = rest.split_at_mut_checked(length).ok_or_else(broken)?;
            record::seal(one, sequence, self.active.salt);
            let as_u32 = |number: u64| u32::try_from(number).map_err(|_| broken());
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            locations.push(Location {
                segment: self.active.number,
                offset: as_u32(offset)?,
                length: as_u32(length)?,
            });
            sequence = sequence.saturating_add(1);
            offset = offset.saturating_add(length);
            rest = behind;
        }
        Ok(locations)
    }

    /// Makes everything durable that has been written.
    pub(crate) fn sync(&mut self) -> Result<(), Fault> {
        if self.synced {
            return Ok(());
        }
        let start = Instant::now();
        let shared = &self.core.shared;
        let outcome = shared.disk.sync(&self.active.file);
        outcome.map_err(|error| Fault::fatal("cannot sync the journal", &error))?;
        self.synced = true;
        let mut figures = lock(&shared.figures);
        figures.syncs = figures.syncs.saturating_add(1);
        figures.last_sync = start.elapsed();
        Ok(())
    }

    /// Begins the next segment. Everything in the one before is synced first, so that only the
    /// last segment can be torn.
    pub(crate) fn next_segment(&mut self) -> Result<(), Fault> {
        self.sync()?;
        let shared = Arc::clone(&self.core.shared);
        let number = self.active.number.saturating_add(1);
        let salt = fastrand::u64(..);
        let header = Header { number, first_sequence: self.next_sequence, salt };
        let file = create(&shared, &header)?;
        self.active = Active { file, number, length: HEADER as u64, salt };
        let segment = Segment::new(salt, HEADER as u64);
        lock(&shared.segments).0.insert(number, segment);
        shared.reader.add_segment(number, salt);
        Ok(())
    }

    /// Does what was to happen when the records are durable.
    fn publish(&mut self, work: Work, moved: &[Moved], at: Vec<Location>) {
        let shared = Arc::clone(&self.core.shared);
        if let Some(segment) = lock(&shared.segments).0.get_mut(&self.active.number) {
            segment.bytes = self.active.length;
        }
        let first = at.first().copied().unwrap_or_default();
        let sequence = self.next_sequence.saturating_sub(u64::try_from(at.len()).unwrap_or(0));
        // The first record is the batch's own.
        let mut places = at.into_iter().zip(sequence..).skip(1);
        shared.reader.keep(first, work.records);
        let mut touched = HashMap::new();
        for item in work.items {
            apply(&shared, item, &mut places, &mut touched);
        }
        self.publish_moved(moved, places.map(|(location, _)| location));
        for queue in touched.into_values() {
            queue.wake();
        }
        shared.pending.give_back(work.credit);
        self.count_bytes();
    }

    /// Counts anew what the files take.
    pub(crate) fn count_bytes(&self) {
        let shared = &self.core.shared;
        let (bytes, live) = lock(&shared.segments).totals();
        let bytes = bytes.saturating_add(self.checkpoint_bytes).saturating_add(self.reserve_bytes);
        shared.set_disk_bytes(bytes);
        let mut figures = lock(&shared.figures);
        figures.disk_bytes = bytes;
        figures.live_bytes = live;
    }
}

/// Creates the file of a segment, durably.
pub(crate) fn create(shared: &Shared, header: &Header) -> Result<File, Fault> {
    let path = segment::path(&shared.directory, header.number);
    let file = segment::open(&path, true)
        .map_err(|error| Fault::of("cannot create a segment of the journal", &error))?;
    if let Err(error) = shared.disk.write(&file, &header.encode(), 0) {
        shared
            .disk
            .remove(&path)
            .map_err(|error| Fault::fatal("cannot remove an empty segment", &error))?;
        return Err(Fault::of("cannot begin a segment of the journal", &error));
    }
    shared
        .disk
        .sync(&file)
        .and_then(|()| shared.disk.sync_directory(&shared.directory))
        .map_err(|error| Fault::fatal("cannot sync a new segment of the journal", &error))?;
    Ok(file)
}

/// Does what one item is for.
fn apply(
    shared: &Shared,
    item: Item,
    places: &mut impl Iterator<Item = (Location, u64)>,
    touched: &mut HashMap<u32, Arc<DiskQueue>>,
) {
    match item {
        Item::Message(message) => {
            if let Some((location, position)) = places.next() {
                publish_message(shared, message, location, position, touched);
            }
        }
        Item::Put { table, key, value, waiter } => {
            places.next();
            table.apply(key, Some(value));
            tell(waiter, Ok(()));
        }
        Item::Control { then, waiter, .. } => {
            places.next();
            match then {
                Then::Nothing => {}
                Then::Delete { table, key } => table.apply(key, None),
            }
            if let Some(waiter) = waiter {
                tell(waiter, Ok(()));
            }
        }
        Item::Waiter(waiter) => tell(waiter, Ok(())),
    }
}

fn publish_message(
    shared: &Shared,
    message: Message,
    location: Location,
    position: u64,
    touched: &mut HashMap<u32, Arc<DiskQueue>>,
) {
    let Message { stored_at, size, targets } = message;
    let queues = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    // Before any queue has it, since it may be done at once.
    lock(&shared.segments).add(location, queues);
    let place = Place { position, location, size, stored_at };
    for (queue, share) in targets {
        let (stored, delivered) = match share {
            Some((share, SettleOn::Stored)) => (Some(share), None),
            Some((share, SettleOn::Delivered)) => (None, Some(share)),
            None => (None, None),
        };
        if !queue.publish(place, delivered) {
            // The queue has been removed meanwhile, with this message: the share is released.
            lock(&shared.segments).release(location);
            continue;
        }
        if let Some(share) = stored {
            share.settle(Settlement::Accepted);
        }
        touched.insert(queue.number(), queue);
    }
}

/// Releases the shares of work that is not done, and says why to those who wait.
pub(crate) fn refuse(shared: &Shared, work: Work, why: &StoreError) {
    for item in work.items {
        match item {
            Item::Message(message) => {
                for (queue, _) in &message.targets {
                    queue.withdraw(message.size);
                }
            }
            Item::Put { waiter, .. } | Item::Waiter(waiter) => tell(waiter, Err(why.clone())),
            Item::Control { waiter, .. } => {
                if let Some(waiter) = waiter {
                    tell(waiter, Err(why.clone()));
                }
            }
        }
    }
    shared.pending.give_back(work.credit);
}

fn tell(waiter: super::items::Waiter, outcome: Result<(), StoreError>) {
    // Whoever does not wait any more does not need to know.
    drop(waiter.send(outcome));
}
