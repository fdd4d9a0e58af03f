//! The messages in hand, by their keys, and which of them may be sent.
//!
//! Invariants:
//! - Of one key at most one unit is on its way, and it holds the key's first messages. A unit that
//!   comes back has its old place, its members and its order.
//! - A key that waits holds up no other key.
//! - What is in hand is bounded in messages; beyond a bound in bytes, what waits behind others of its
//!   key is left in the queue, and is read again when its turn comes.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    mem,
    time::Duration,
};

use tokio::time::Instant;
use transload_adapter::store::Position;
use transload_envelope::{Outgoing, Timestamp};

use super::super::{BatchSettings, hand::InHand};
use crate::backoff::Backoff;

/// How many messages may be in hand.
const HELD_MAX: usize = 65_536;
/// How many bytes of messages are kept in memory, give or take a batch.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Stands for the text of a key, so that long keys take no memory. Two keys that come to the same
/// number wait for each other, and nothing worse.
type Key = u64;

/// A message in hand.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) message: InHand,
    /// Absent where it was left in the queue.
    pub(super) outgoing: Option<Outgoing>,
    size: usize,
    payload: usize,
    /// Equal where messages may be put together.
    stamp: u64,
}

/// What is sent as one: a message, or several that are put together.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) key: Key,
    pub(super) members: Vec<Held>,
    /// It has failed before.
    pub(super) failed: bool,
}

impl Unit {
    /// Its bytes.
    pub(super) fn size(&self) -> usize {
        self.members.iter().map(|held| held.size).sum()
    }
}

/// How far messages are put together.
#[derive(Clone, Copy, Debug)]
struct Limits {
    messages: usize,
    bytes: usize,
    wait: Duration,
    by_address: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its first unit waits for more members, or for its next attempt.
    Waiting(Instant, u64),
    /// Its first unit may be sent.
    Ready,
    /// Its first unit is on its way.
    Sending,
}

/// The messages of one key.
#[derive(Debug)]
struct Lane {
    held: VecDeque<Held>,
    state: State,
    front: Front,
    backoff: Option<Backoff>,
}

/// The first messages of a key that go together.
#[derive(Clone, Copy, Debug, Default)]
struct Front {
    count: usize,
    bytes: usize,
    /// Nothing more comes to them.
    complete: bool,
}

/// All messages in hand.
#[derive(Debug)]
pub(super) struct Window {
    limits: Limits,
    backoff: Backoff,
    lanes: HashMap<Key, Lane>,
    ready: VecDeque<Key>,
    /// Keys whose first unit has failed before; they are sent one by one.
    again: VecDeque<Key>,
    waiting: BTreeMap<(Instant, u64), Key>,
    tickets: u64,
    held: usize,
    kept_bytes: usize,
    hasher: RandomState,
    /// Nothing waits for more members any more.
    hurried: bool,
}

impl Window {
    pub(super) fn new(batch: Option<&BatchSettings>, backoff: Backoff) -> Self {
        let limits = batch.map_or(
            Limits { messages: 1, bytes: usize::MAX, wait: Duration::ZERO, by_address: false },
            |batch| Limits {
                messages: batch.messages_max.max(1),
                bytes: batch.bytes_max,
                wait: batch.wait_max,
                by_address: batch.by_address,
            },
        );
        Self {
            limits,
            backoff,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            again: VecDeque::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
            held: 0,
            kept_bytes: 0,
            hasher: RandomState::new(),
            hurried: false,
        }
    }

    /// Whether more messages may be taken in hand.
    pub(super) fn has_room(&self) -> bool {
        self.held < HELD_MAX && self.kept_bytes < KEPT_BYTES_MAX
    }

    /// Whether nothing is in hand but what is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// How many keys have something that may be sent and has not failed before.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether any key has something that may be sent.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.again.is_empty()
    }

    /// When a key that waits is to be looked at.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Lets nothing wait for more members any more.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
        for (_, key) in mem::take(&mut self.waiting) {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.state = State::Ready;
            let ready = if lane.backoff.is_some() { &mut self.again } else { &mut self.ready };
            ready.push_back(key);
        }
    }

    /// Lets what waits for more members go as it is, to make room.
    pub(super) fn flush(&mut self) {
        let mut waiting: Vec<_> =
            self.waiting.iter().map(|((_, ticket), key)| (*ticket, *key)).collect();
        // As they came, whatever the clock said meanwhile.
        waiting.sort_unstable();
        for (_, key) in waiting {
            if self.lanes.get(&key).is_some_and(|lane| lane.backoff.is_none()) {
                self.make_ready(key);
            }
        }
    }

    /// Takes a message in hand, behind all others of its key.
    pub(super) fn push(&mut self, key: &str, message: InHand, outgoing: Outgoing) {
        let key = self.hasher.hash_one(key);
        let stamp = self.stamp(&outgoing);
        let size = outgoing.envelope.size().saturating_add(outgoing.arguments.size());
        let payload = outgoing.envelope.payload.len();
        let stored_at = message.stored_at;
        let lane = self.lanes.entry(key).or_insert_with(Lane::new);
        let behind = !lane.held.is_empty() || lane.state == State::Sending;
        let left = behind && self.kept_bytes > KEPT_BYTES_MAX / 2;
        let outgoing = (!left).then_some(outgoing);
        self.kept_bytes = self.kept_bytes.saturating_add(if left { 0 } else { size });
        self.held = self.held.saturating_add(1);
        lane.held.push_back(Held { message, outgoing, size, payload, stamp });
        lane.grow(&self.limits);
        match lane.state {
            // The first of a new lane, or one more of a unit that waits for members.
            State::Waiting(..) if lane.backoff.is_some() => {}
            State::Waiting(..) if lane.front.complete || self.hurried => self.make_ready(key),
            State::Waiting(..) if lane.held.len() == 1 => {
                let wait = stored_at.after(self.limits.wait).remaining(Timestamp::now());
                self.wait(key, wait);
            }
            State::Sending | State::Ready | State::Waiting(..) => {}
        }
    }

    fn stamp(&self, outgoing: &Outgoing) -> u64 {
        if self.limits.messages <= 1 {
            return 0;
        }
        let address = self.limits.by_address.then_some(&*outgoing.envelope.address);
        let arguments: Vec<_> = outgoing.arguments.iter().collect();
        self.hasher.hash_one((address, arguments))
    }

    /// Lets those be ready whose wait is over.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.make_ready(key);
        }
    }

    /// Takes the next unit; of those that have failed before only if `again` says so.
    pub(super) fn next(&mut self, again: bool) -> Option<Unit> {
        let from = if again { &mut self.again } else { &mut self.ready };
        let key = from.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        lane.state = State::Sending;
        let count = lane.front.count.max(1).min(lane.held.len());
        let members: Vec<_> = lane.held.drain(..count).collect();
        lane.front = Front::default();
        let kept = members.iter().filter(|held| held.outgoing.is_some()).map(|held| held.size);
        self.kept_bytes = self.kept_bytes.saturating_sub(kept.sum());
        self.held = self.held.saturating_sub(count);
        Some(Unit { key, members, failed: lane.backoff.is_some() })
    }

    /// The unit of a key has left for good; the next one may go.
    pub(super) fn finished(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.backoff = None;
        if lane.held.is_empty() {
            self.lanes.remove(&key);
            return;
        }
        lane.grow(&self.limits);
        let first = lane.held.front().map(|held| held.message.stored_at);
        let complete = lane.front.complete || self.hurried;
        let wait = first.map_or(Duration::ZERO, |first| {
            first.after(self.limits.wait).remaining(Timestamp::now())
        });
        if complete || wait.is_zero() { self.make_ready(key) } else { self.wait(key, wait) }
    }

    /// A unit was not sent, and goes as soon as it may.
    pub(super) fn put_back(&mut self, unit: Unit) {
        let key = unit.key;
        self.restore(unit);
        self.make_ready(key);
    }

    /// A unit has failed, and goes again after a wait that grows with its failures.
    pub(super) fn retry(&mut self, unit: Unit) {
        let key = unit.key;
        self.restore(unit);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let backoff = lane.backoff.get_or_insert_with(|| self.backoff.clone());
        let wait = backoff.next_wait();
        self.wait(key, wait);
    }

    /// All positions in hand that are not on their way.
    pub(super) fn positions(&self) -> Vec<Position> {
        let held = self.lanes.values().flat_map(|lane| &lane.held);
        held.map(|held| held.message.position).collect()
    }

    fn restore(&mut self, unit: Unit) {
        let Unit { key, mut members, .. } = unit;
        let lane = self.lanes.entry(key).or_insert_with(Lane::new);
        // Its composition stays, so that its id does.
        lane.front = Front { count: members.len(), bytes: 0, complete: true };
        for held in &mut members {
            if self.kept_bytes > KEPT_BYTES_MAX / 2 {
                held.outgoing = None;
            }
            let kept = if held.outgoing.is_some() { held.size } else { 0 };
            self.kept_bytes = self.kept_bytes.saturating_add(kept);
        }
        self.held = self.held.saturating_add(members.len());
        for held in members.into_iter().rev() {
            lane.held.push_front(held);
        }
    }

    fn make_ready(&mut self, key: Key) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let State::Waiting(due, ticket) = lane.state {
            self.waiting.remove(&(due, ticket));
        }
        lane.state = State::Ready;
        let ready = if lane.backoff.is_some() { &mut self.again } else { &mut self.ready };
        ready.push_back(key);
    }

    fn wait(&mut self, key: Key, wait: Duration) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let now = Instant::now();
        let due = now.checked_add(wait).unwrap_or(now);
        self.tickets = self.tickets.wrapping_add(1);
        lane.state = State::Waiting(due, self.tickets);
        self.waiting.insert((due, self.tickets), key);
    }
}

impl Lane {
    fn new() -> Self {
        let state = State::Waiting(Instant::now(), 0);
        Self { held: VecDeque::new(), state, front: Front::default(), backoff: None }
    }

    /// Adds to the first unit what goes with it.
    fn grow(&mut self, limits: &Limits) {
        // What is on its way has been taken out, and a unit that comes back is complete.
        while !self.front.complete {
            let Some(next) = self.held.get(self.front.count) else { return };
            let first = self.held.front().map_or(next.stamp, |first| first.stamp);
            let bytes = self.front.bytes.saturating_add(next.payload);
            if self.front.count > 0 && (next.stamp != first || bytes > limits.bytes) {
                self.front.complete = true;
                return;
            }
            self.front = Front {
                count: self.front.count + 1,
                bytes,
                complete: self.front.count + 1 >= limits.messages || bytes >= limits.bytes,
            };
        }
    }
}
