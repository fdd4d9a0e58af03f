//! What every queue has, wherever its messages are: order, leases, bounds and their counters.
//!
//! Invariant: positions that were leased once are smaller than all that were not, since leases
//! take from the head. So `returned` always comes before `waiting`, and a released message is
//! back at its old place without a search.

mod leases;

use std::{collections::BTreeMap, time::Duration};

use transload_adapter::store::{Depth, QueueSettings};
use transload_envelope::Timestamp;

use self::leases::Leases;

/// What a backlog has to know of a message.
pub(crate) trait Entry {
    /// Its place in the queue.
    fn position(&self) -> u64;
    /// Its size in bytes, by `Envelope::size`.
    fn size(&self) -> u64;

    /// What it takes of the bytes that may wait.
    fn bytes_taken(&self) -> u64 {
        self.size()
    }
    /// When it was appended.
    fn stored_at(&self) -> Timestamp;
}

/// The messages that have not been leased yet, in order.
pub(crate) trait Waiting: Default {
    /// One message.
    type Entry: Entry;
    /// Adds a message behind all others.
    fn push_back(&mut self, entry: Self::Entry);
    /// Takes the first message.
    fn pop_front(&mut self) -> Option<Self::Entry>;
    /// Looks at the first message.
    fn front(&self) -> Option<&Self::Entry>;
}

/// How much is on its way into a queue, or in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Load {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn remove(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// One queue's messages.
#[derive(Debug)]
pub(crate) struct Backlog<W: Waiting> {
    pub(crate) settings: QueueSettings,
    pub(crate) waiting: W,
    pub(crate) returned: BTreeMap<u64, W::Entry>,
    pub(crate) leased: Leases<W::Entry>,
    /// What is in the queue, leased messages included.
    pub(crate) load: Load,
    /// What has been handed over but cannot be leased yet.
    pub(crate) incoming: Load,
    /// How many messages have been dropped for their age since the queue was opened.
    pub(crate) dropped_by_age: u64,
    /// Set when the queue has been removed from its store.
    pub(crate) removed: bool,
}

impl<W: Waiting> Backlog<W> {
    pub(crate) fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            waiting: W::default(),
            returned: BTreeMap::new(),
            leased: Leases::default(),
            load: Load::default(),
            incoming: Load::default(),
            dropped_by_age: 0,
            removed: false,
        }
    }

    /// Adds a message behind all others.
    pub(crate) fn push(&mut self, entry: W::Entry) {
        self.load.add(entry.bytes_taken());
        self.waiting.push_back(entry);
    }

    /// Leases from the head, within the two bounds but at least one message where there is one,
    /// and returns what `give` makes of each.
    pub(crate) fn lease<T>(
        &mut self,
        messages_max: usize,
        bytes_max: usize,
        mut give: impl FnMut(&mut W::Entry) -> T,
    ) -> Vec<T> {
        let mut given = Vec::new();
        let mut room = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        while given.len() < messages_max.max(1) {
            let Some(size) = self.front().map(Entry::size) else { break };
            if size > room && !given.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            let Some(mut entry) = self.pop_front() else { break };
            given.push(give(&mut entry));
            self.leased.insert(entry);
        }
        given
    }

    /// Puts leased messages back; says whether there was one.
    pub(crate) fn release(&mut self, positions: impl Iterator<Item = u64>) -> bool {
        let before = self.returned.len();
        for position in positions {
            if let Some(entry) = self.leased.remove(position) {
                self.returned.insert(position, entry);
            }
        }
        self.returned.len() > before
    }

    /// Takes leased messages out of the queue.
    pub(crate) fn finish(&mut self, positions: impl Iterator<Item = u64>) -> Vec<W::Entry> {
        let gone: Vec<_> = positions.filter_map(|at| self.leased.remove(at)).collect();
        for entry in &gone {
            self.load.remove(entry.bytes_taken());
        }
        gone
    }

    /// Takes the messages out of the head that are older than they may be, and counts them.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<W::Entry> {
        let Some(age_max) = self.settings.age_max else { return Vec::new() };
        let mut gone = Vec::new();
        while self.front().is_some_and(|first| first.stored_at().after(age_max) < now) {
            gone.extend(self.drop_front());
        }
        let count = u64::try_from(gone.len()).unwrap_or(u64::MAX);
        self.dropped_by_age = self.dropped_by_age.saturating_add(count);
        gone
    }

    /// How long until the first message is older than it may be; absent when none ever is.
    pub(crate) fn next_expiry(&self, now: Timestamp) -> Option<Duration> {
        let age_max = self.settings.age_max?;
        let end = self.front()?.stored_at().after(age_max);
        // One more, since a message of exactly the age may stay.
        Some(end.remaining(now).saturating_add(Duration::from_millis(1)))
    }

    /// Takes the oldest messages that are not leased until no bound is reached.
    pub(crate) fn drop_to_bounds(&mut self) -> Vec<W::Entry> {
        let mut gone = Vec::new();
        while self.is_full() {
            let Some(entry) = self.drop_front() else { break };
            gone.push(entry);
        }
        gone
    }

    /// Whether a bound is reached.
    pub(crate) fn is_full(&self) -> bool {
        let messages = self.load.messages.saturating_add(self.incoming.messages);
        let bytes = self.load.bytes.saturating_add(self.incoming.bytes);
        !self.removed
            && (messages >= self.settings.messages_max || bytes >= self.settings.bytes_max)
    }

    /// How much there is, what has only been handed over included.
    pub(crate) fn depth(&self) -> Depth {
        let firsts = [self.leased.values().next(), self.front()];
        let oldest = firsts.into_iter().flatten().min_by_key(|entry| entry.position());
        Depth {
            messages: self.load.messages.saturating_add(self.incoming.messages),
            bytes: self.load.bytes.saturating_add(self.incoming.bytes),
            oldest: oldest.map(Entry::stored_at),
        }
    }

    /// The first message that can be given out.
    pub(crate) fn front(&self) -> Option<&W::Entry> {
        self.returned.values().next().or_else(|| self.waiting.front())
    }

    /// What is leased or has been, in order: all that is not among `waiting`.
    pub(crate) fn apart(&self) -> Vec<W::Entry>
    where
        W::Entry: Copy,
    {
        let mut apart: Vec<_> =
            self.leased.values().chain(self.returned.values()).copied().collect();
        apart.sort_by_key(Entry::position);
        apart
    }

    fn pop_front(&mut self) -> Option<W::Entry> {
        self.returned.pop_first().map(|(_, entry)| entry).or_else(|| self.waiting.pop_front())
    }

    fn drop_front(&mut self) -> Option<W::Entry> {
        let entry = self.pop_front()?;
        self.load.remove(entry.bytes_taken());
        Some(entry)
    }
}
