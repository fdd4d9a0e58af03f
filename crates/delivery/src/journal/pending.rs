//! The hand-over to the writer: bounded, and one lock for a whole batch.

use std::{
    mem,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use transload_adapter::store::StoreError;

use super::items::{Item, Work};
use crate::sync::lock;

/// How long the fact that a message is done may wait for other records to be written with. What
/// has only been waiting is lost at a crash, and its message comes again.
pub(crate) const DONE_DELAY: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct State {
    work: Work,
    /// When resolutions without other records are to be written.
    due: Option<Instant>,
    /// Until when nothing is tried, since there was no space.
    held: Option<Instant>,
    nudged: bool,
    closing: bool,
    /// Nothing is taken any more.
    ended: bool,
}

/// What the writer gets.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) work: Work,
    pub(crate) closing: bool,
}

/// Where callers leave their work.
#[derive(Debug)]
pub(crate) struct Pending {
    state: Mutex<State>,
    wake: Condvar,
    credit: Semaphore,
    bytes_max: u32,
    message_cost: u32,
}

impl Pending {
    pub(crate) fn new(bytes_max: u32, messages_max: u32) -> Self {
        let bytes_max = bytes_max.max(1);
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            credit: Semaphore::new(usize::try_from(bytes_max).unwrap_or(usize::MAX)),
            bytes_max,
            message_cost: (bytes_max / messages_max.max(1)).max(1),
        }
    }

    /// Waits for room for so many records of so many bytes, first come, first served. More than
    /// fits at all waits for everything else. Cancel-safe: nothing is taken before this returns.
    pub(crate) async fn room(&self, records: usize, bytes: usize) -> Result<u32, StoreError> {
        let least = u32::try_from(records).unwrap_or(u32::MAX).saturating_mul(self.message_cost);
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX).max(least).min(self.bytes_max);
        let permit = self.credit.acquire_many(cost).await.map_err(|_| StoreError::Closed)?;
        permit.forget();
        Ok(cost)
    }

    /// How many bytes have been handed over, counted as [`Pending::room`] counts them.
    pub(crate) fn bytes(&self) -> u64 {
        let free = u64::try_from(self.credit.available_permits()).unwrap_or(u64::MAX);
        u64::from(self.bytes_max).saturating_sub(free)
    }

    /// Gives room back.
    pub(crate) fn give_back(&self, credit: u32) {
        self.credit.add_permits(usize::try_from(credit).unwrap_or(0));
    }

    /// Hands records and items over, and wakes the writer. Gives them back when it has ended.
    pub(crate) fn hand_over(
        &self,
        credit: u32,
        records: Vec<(Item, std::ops::Range<usize>)>,
        bytes: &[u8],
        waiter: Option<Item>,
    ) -> Result<(), Vec<Item>> {
        let mut state = lock(&self.state);
        if state.ended {
            drop(state);
            return Err(records.into_iter().map(|(item, _)| item).chain(waiter).collect());
        }
        state.work.credit = state.work.credit.saturating_add(credit);
        for (item, range) in records {
            state.work.push(item, bytes.get(range).unwrap_or_default());
        }
        state.work.items.extend(waiter);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Adds to what is written with the next batch, or after [`DONE_DELAY`].
    pub(crate) fn resolve(&self, add: impl FnOnce(&mut Work)) {
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        add(&mut state.work);
        if state.due.is_none() && !state.work.is_empty() {
            state.due = Instant::now().checked_add(DONE_DELAY);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Makes the writer look after the files.
    pub(crate) fn nudge(&self) {
        lock(&self.state).nudged = true;
        self.wake.notify_one();
    }

    /// Makes the writer end when everything that was handed over has been written.
    pub(crate) fn close(&self) {
        lock(&self.state).closing = true;
        self.wake.notify_one();
    }

    /// Takes everything there is, as soon as there is something, or nothing after `patience`.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let give_up = Instant::now().checked_add(patience);
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let held = state.held.is_some_and(|end| end > now) && !state.closing;
            let due = state.due.is_some_and(|due| due <= now) || !state.work.items.is_empty();
            if (due && !held) || state.closing {
                (state.due, state.held, state.nudged) = (None, None, false);
                return Taken { work: mem::take(&mut state.work), closing: state.closing };
            }
            if state.nudged || give_up.is_some_and(|end| end <= now) {
                state.nudged = false;
                return Taken { work: Work::default(), closing: false };
            }
            let wanted = if held { state.held } else { state.due };
            let until = [wanted, give_up].into_iter().flatten().min();
            let wait = until.map_or(patience, |until| until.saturating_duration_since(now));
            let woken = self.wake.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Puts back what is to be tried again after `delay`, and gives back what was refused.
    pub(crate) fn restore(&self, mut work: Work, delay: Duration) -> Work {
        let mut state = lock(&self.state);
        state.work.restore(&mut work);
        state.held = Instant::now().checked_add(delay);
        state.due = state.held;
        work
    }

    /// Takes nothing any more, and gives back what has not been written.
    pub(crate) fn end(&self) -> Work {
        self.credit.close();
        let mut state = lock(&self.state);
        state.ended = true;
        mem::take(&mut state.work)
    }
}
