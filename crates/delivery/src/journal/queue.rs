use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::{sync::Notify, task::spawn_blocking};
use transload_adapter::{
    Settlement, Share,
    store::{Depth, Leased, Position, Queue, QueueId, QueueSettings, Resolution, StoreError},
};
use transload_envelope::{Outgoing, Text, Timestamp};

use super::{
    checkpoint::SavedQueue,
    core::Shared,
    index::{Block, Index, Location, Place},
    reader::ReadError,
    record::{AppendBody, Record},
    runs::Runs,
};
use crate::{
    backlog::{Backlog, Entry as _},
    sync::{Look, lock, wait_until},
};

/// How often a lease follows records that are moved while it reads them.
const MOVES_MAX: usize = 8;

/// A queue whose messages are in the journal.
#[derive(Debug)]
pub(crate) struct DiskQueue {
    id: u32,
    name: Text,
    shared: Arc<Shared>,
    state: Mutex<State>,
    arrived: Notify,
    left: Notify,
}

#[derive(Debug)]
struct State {
    backlog: Backlog<Index>,
    /// Failed attempts, of the messages that have any.
    attempts: BTreeMap<u64, u32>,
    /// Shares that are to be settled by whoever leases the message.
    shares: BTreeMap<u64, Share>,
}

/// A message that is being leased.
#[derive(Debug)]
struct Taken {
    place: Place,
    attempts: u32,
    share: Option<Share>,
}

/// Puts what is being leased back, unless the lease comes to its end.
struct Lease<'a> {
    queue: &'a DiskQueue,
    taken: Vec<Taken>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let taken = mem::take(&mut self.taken);
        if taken.is_empty() {
            return;
        }
        let mut state = self.queue.lock();
        state.backlog.release(taken.iter().map(|one| one.place.position));
        // The shares of a queue that was removed meanwhile are released with `taken`.
        if !state.backlog.removed {
            let shares = taken.into_iter().filter_map(|one| Some((one.place.position, one.share?)));
            state.shares.extend(shares);
        }
        drop(state);
        self.queue.arrived.notify_waiters();
    }
}

impl DiskQueue {
    pub(crate) fn new(id: u32, name: Text, settings: QueueSettings, shared: Arc<Shared>) -> Self {
        let queue = SavedQueue { name, ..SavedQueue::default() };
        Self::recovered(id, queue, settings, shared)
    }

    pub(crate) fn recovered(
        id: u32,
        queue: SavedQueue,
        settings: QueueSettings,
        shared: Arc<Shared>,
    ) -> Self {
        let SavedQueue { name, index, attempts, load } = queue;
        let mut backlog = Backlog::new(settings);
        backlog.load = load;
        backlog.waiting = index;
        let state = State { backlog, attempts, shares: BTreeMap::new() };
        Self {
            id,
            name,
            shared,
            state: Mutex::new(state),
            arrived: Notify::new(),
            left: Notify::new(),
        }
    }

    /// Gives the queue new bounds; its storage stays.
    pub(crate) fn set_settings(&self, settings: QueueSettings) {
        self.lock().backlog.settings = settings;
        self.left.notify_waiters();
    }

    pub(crate) fn number(&self) -> u32 {
        self.id
    }

    pub(crate) fn name_text(&self) -> &Text {
        &self.name
    }

    /// Counts a message that has been handed over to the writer.
    pub(crate) fn expect(&self, size: u32) {
        self.lock().backlog.incoming.add(size.into());
    }

    /// Counts a message that the writer could not take after all.
    pub(crate) fn withdraw(&self, size: u32) {
        self.lock().backlog.incoming.remove(size.into());
        self.left.notify_waiters();
    }

    /// Adds a message that is durable now. Says whether the queue still takes messages.
    pub(crate) fn publish(&self, place: Place, share: Option<Share>) -> bool {
        let mut state = self.lock();
        state.backlog.incoming.remove(place.size());
        if state.backlog.removed {
            return false;
        }
        state.backlog.push(place);
        state.shares.extend(share.map(|share| (place.position, share)));
        true
    }

    /// Wakes those that wait, for messages or for room.
    pub(crate) fn wake(&self) {
        self.arrived.notify_waiters();
    }

    /// Wakes everybody, since the store has ended.
    pub(crate) fn wake_all(&self) {
        self.arrived.notify_waiters();
        self.left.notify_waiters();
    }

    /// Takes the queue out of use. Its messages go, and their shares are released.
    pub(crate) fn remove(&self) {
        let (backlog, shares) = {
            let mut state = self.lock();
            let empty = Backlog::new(state.backlog.settings);
            let backlog = mem::replace(&mut state.backlog, empty);
            state.backlog.removed = true;
            state.backlog.incoming = backlog.incoming;
            state.attempts.clear();
            (backlog, mem::take(&mut state.shares))
        };
        let mut segments = lock(&self.shared.segments);
        let apart = backlog.leased.values().chain(backlog.returned.values()).copied();
        apart.chain(backlog.waiting.iter()).for_each(|place| segments.release(place.location));
        drop(segments);
        drop(shares);
        self.wake_all();
    }

    /// Which of these messages are in the queue, and where.
    pub(crate) fn find(&self, wanted: &Runs) -> Vec<(u64, Location)> {
        let state = self.lock();
        let backlog = &state.backlog;
        let apart = backlog.leased.values().chain(backlog.returned.values());
        let apart = apart.filter(|place| wanted.contains(place.position));
        let mut found: Vec<_> = apart.map(|place| (place.position, place.location)).collect();
        found.extend(backlog.waiting.find(wanted));
        found
    }

    /// Says that messages have been moved; returns those that are still here, and where they were.
    pub(crate) fn relocate(&self, moved: &BTreeMap<u64, Location>) -> Vec<(u64, Location)> {
        let mut state = self.lock();
        let Backlog { leased, returned, waiting, .. } = &mut state.backlog;
        let mut found = waiting.relocate(moved);
        for place in leased.values_mut().chain(returned.values_mut()) {
            if let Some(to) = moved.get(&place.position) {
                found.push((place.position, mem::replace(&mut place.location, *to)));
            }
        }
        found
    }

    /// All messages and attempts, for a checkpoint; nothing when the queue has been removed.
    pub(crate) fn snapshot(&self) -> Option<(Vec<Block>, BTreeMap<u64, u32>)> {
        let state = self.lock();
        if state.backlog.removed {
            return None;
        }
        let mut front = Index::default();
        for place in state.backlog.apart() {
            crate::backlog::Waiting::push_back(&mut front, place);
        }
        let mut blocks = front.to_blocks();
        blocks.extend(state.backlog.waiting.to_blocks());
        Some((blocks, state.attempts.clone()))
    }

    /// The memory of the index, in bytes.
    pub(crate) fn index_bytes(&self) -> usize {
        self.lock().backlog.waiting.memory()
    }

    /// Reads messages without leasing them, in order.
    pub(crate) async fn browse(
        &self,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        let after = after.map(|position| position.0);
        for _ in 0..MOVES_MAX {
            let taken: Vec<_> = {
                let state = self.lock();
                let backlog = &state.backlog;
                let mut apart = backlog.apart();
                apart.retain(|place| after.is_none_or(|after| place.position > after));
                let waiting = backlog.waiting.after(after, limit);
                let attempts = |at| state.attempts.get(&at).copied().unwrap_or(0);
                apart
                    .into_iter()
                    .chain(waiting)
                    .take(limit)
                    .map(|place| Taken { place, attempts: attempts(place.position), share: None })
                    .collect()
            };
            let locations: Vec<_> = taken.iter().map(|one| one.place.location).collect();
            if let Some(records) = self.read(locations).await? {
                return self.decode(&taken, &records);
            }
        }
        Err(StoreError::failed("messages are moved faster than they can be read"))
    }

    /// Takes messages out of the queue that are not leased; returns how many there were.
    pub(crate) fn discard(&self, positions: &Runs) -> u64 {
        let gone = {
            let mut state = self.lock();
            let backlog = &mut state.backlog;
            let mut gone: Vec<_> = backlog
                .returned
                .extract_if(.., |at, _| positions.contains(*at))
                .map(|it| it.1)
                .collect();
            gone.extend(backlog.waiting.remove(positions));
            for place in &gone {
                backlog.load.remove(place.size());
            }
            gone
        };
        let count = u64::try_from(gone.len()).unwrap_or(u64::MAX);
        self.accept_gone(&gone);
        count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state without the messages that have grown too old.
    fn lock_current(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let gone = state.backlog.expire(Timestamp::now());
        if gone.is_empty() {
            return state;
        }
        drop(state);
        tracing::warn!(
            queue = &*self.name,
            messages = gone.len(),
            "Dropped messages that had waited longer than the queue allows."
        );
        self.accept_gone(&gone);
        self.lock()
    }

    /// Settles and forgets messages that a bound's policy has decided on.
    fn accept_gone(&self, gone: &[Place]) {
        if gone.is_empty() {
            return;
        }
        let shares: Vec<_> = {
            let mut state = self.lock();
            gone.iter().filter_map(|place| state.shares.remove(&place.position)).collect()
        };
        self.forget(gone);
        for share in shares {
            share.settle(Settlement::Accepted);
        }
    }

    /// Says in the journal that messages have left the queue.
    fn forget(&self, gone: &[Place]) {
        if gone.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            if !state.attempts.is_empty() {
                for place in gone {
                    state.attempts.remove(&place.position);
                }
            }
        }
        {
            let mut segments = lock(&self.shared.segments);
            for place in gone {
                segments.release(place.location);
            }
        }
        self.shared.pending.resolve(|work| {
            let runs = work.done.entry(self.id).or_default();
            for place in gone {
                runs.push(place.position);
            }
        });
        self.left.notify_waiters();
    }

    fn take(&self, messages_max: usize, bytes_max: usize) -> Result<Vec<Taken>, StoreError> {
        self.shared.usable()?;
        let mut state = self.lock_current();
        let State { backlog, attempts, shares } = &mut *state;
        if backlog.removed {
            return Err(StoreError::Closed);
        }
        Ok(backlog.lease(messages_max, bytes_max, |place| Taken {
            place: *place,
            attempts: attempts.get(&place.position).copied().unwrap_or(0),
            share: shares.remove(&place.position),
        }))
    }

    /// Reads what has been taken; puts it back when that fails or is given up.
    async fn fetch(&self, taken: Vec<Taken>) -> Result<Vec<Leased>, StoreError> {
        let mut lease = Lease { queue: self, taken };
        for _ in 0..MOVES_MAX {
            let locations: Vec<_> = {
                let state = self.lock();
                let now = |one: &Taken| state.backlog.leased.get(one.place.position).copied();
                let places = lease.taken.iter().map(|one| now(one).unwrap_or(one.place));
                places.map(|place| place.location).collect()
            };
            if let Some(records) = self.read(locations).await? {
                let leased = self.decode(&lease.taken, &records)?;
                let taken = mem::take(&mut lease.taken);
                let with_share = |(mut one, taken): (Leased, Taken)| {
                    one.share = taken.share;
                    one
                };
                return Ok(leased.into_iter().zip(taken).map(with_share).collect());
            }
        }
        Err(StoreError::failed("messages are moved faster than they can be read"))
    }

    /// Reads records; nothing when one has been moved meanwhile.
    ///
    /// What is in memory is read here and now. Anything else may have to come from the disk, which
    /// would hold up the runtime's other tasks, so it is read on a thread for that, a whole lease
    /// at once.
    async fn read(&self, locations: Vec<Location>) -> Result<Option<Vec<Record>>, StoreError> {
        let outcome = if let Some(outcome) = self.shared.reader.read_recent(&locations) {
            outcome
        } else {
            let reader = Arc::clone(&self.shared.reader);
            let read = spawn_blocking(move || reader.read(&locations));
            read.await.map_err(|_| StoreError::Closed)?
        };
        match outcome {
            Ok(records) => Ok(Some(records)),
            Err(ReadError::Gone) => Ok(None),
            Err(ReadError::Bad(reason)) => Err(self.fail(reason.into())),
        }
    }

    fn decode(&self, taken: &[Taken], records: &[Record]) -> Result<Vec<Leased>, StoreError> {
        let decoded = taken.iter().zip(records).map(|(one, record)| {
            let body = AppendBody::decode(record)?;
            Ok(Leased {
                position: Position(one.place.position),
                outgoing: body.outgoing(self.id)?,
                attempts: one.attempts,
                stored_at: one.place.stored_at,
                share: None,
            })
        });
        let decoded: Result<_, transload_envelope::codec::DecodeError> = decoded.collect();
        decoded.map_err(|error| {
            let places: Vec<_> = taken.iter().map(|one| one.place.location.segment).collect();
            self.fail(
                format!("a record of one of the segments {places:?} cannot be read: {error}")
                    .into(),
            )
        })
    }

    fn fail(&self, reason: Text) -> StoreError {
        self.shared.fail(reason);
        self.shared.why_ended()
    }
}

#[async_trait]
impl Queue for DiskQueue {
    fn id(&self) -> QueueId {
        QueueId(self.id)
    }

    fn name(&self) -> &str {
        &self.name
    }

    async fn lease(
        &self,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        let taken = wait_until(&self.arrived, || match self.take(messages_max, bytes_max) {
            Ok(taken) if taken.is_empty() => Look::Wait(None),
            outcome => Look::Met(outcome),
        });
        self.fetch(taken.await?).await
    }

    async fn try_lease(
        &self,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        match self.take(messages_max, bytes_max)? {
            taken if taken.is_empty() => Ok(Vec::new()),
            taken => self.fetch(taken).await,
        }
    }

    async fn reread(
        &self,
        positions: &[Position],
    ) -> Result<Vec<(Position, Outgoing)>, StoreError> {
        for _ in 0..MOVES_MAX {
            let taken: Vec<_> = {
                let state = self.lock();
                let places = positions.iter().filter_map(|at| state.backlog.leased.get(at.0));
                places.map(|place| Taken { place: *place, attempts: 0, share: None }).collect()
            };
            let locations = taken.iter().map(|one| one.place.location).collect();
            if let Some(records) = self.read(locations).await? {
                let leased = self.decode(&taken, &records)?;
                return Ok(leased.into_iter().map(|one| (one.position, one.outgoing)).collect());
            }
        }
        Err(StoreError::failed("messages are moved faster than they can be read"))
    }

    fn resolve(&self, positions: &[Position], how: Resolution) {
        let positions = positions.iter().map(|position| position.0);
        match how {
            Resolution::Done => {
                let gone = self.lock().backlog.finish(positions);
                self.forget(&gone);
            }
            Resolution::Released => {
                let any = self.lock().backlog.release(positions);
                if any {
                    self.arrived.notify_waiters();
                }
            }
            Resolution::Failed { attempts } => {
                let mut state = self.lock();
                let leased = &state.backlog.leased;
                let known: Vec<_> = positions.filter(|at| leased.get(*at).is_some()).collect();
                state.attempts.extend(known.iter().map(|at| (*at, attempts)));
                drop(state);
                self.shared.pending.resolve(|work| {
                    work.failed.extend(known.iter().map(|at| ((self.id, *at), attempts)));
                });
            }
        }
    }

    fn depth(&self) -> Depth {
        self.lock_current().backlog.depth()
    }

    fn is_full(&self) -> bool {
        self.lock_current().backlog.is_full()
    }

    async fn room(&self) {
        wait_until(&self.left, || {
            let state = self.lock_current();
            // A store that has ended says so when it is appended to.
            if state.backlog.is_full() && self.shared.usable().is_ok() {
                Look::Wait(state.backlog.next_expiry(Timestamp::now()))
            } else {
                Look::Met(())
            }
        })
        .await;
    }

    fn drop_oldest(&self) -> u64 {
        let gone = self.lock_current().backlog.drop_to_bounds();
        let count = u64::try_from(gone.len()).unwrap_or(u64::MAX);
        self.accept_gone(&gone);
        count
    }

    fn dropped_by_age(&self) -> u64 {
        self.lock_current().backlog.dropped_by_age
    }
}
