use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::sync::Notify;
use transload_adapter::{
    Settlement, Share,
    store::{
        Depth, Leased, Position, Queue, QueueId, QueueSettings, Resolution, SettleOn, StoreError,
    },
};
use transload_envelope::{Arguments, Envelope, Outgoing, Text, Timestamp};

use crate::{
    backlog::{Backlog, Entry, Waiting},
    sync::{Look, lock, wait_until},
};

/// A message that waits in memory.
#[derive(Debug)]
pub(crate) struct Message {
    position: u64,
    size: u64,
    stored_at: Timestamp,
    attempts: u32,
    outgoing: Outgoing,
    share: Option<Share>,
}

impl Entry for Message {
    fn position(&self) -> u64 {
        self.position
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn bytes_taken(&self) -> u64 {
        self.size + Envelope::MEMORY_OVERHEAD_BYTES as u64
    }

    fn stored_at(&self) -> Timestamp {
        self.stored_at
    }
}

impl Waiting for VecDeque<Message> {
    type Entry = Message;

    fn push_back(&mut self, entry: Message) {
        Self::push_back(self, entry);
    }

    fn pop_front(&mut self) -> Option<Message> {
        Self::pop_front(self)
    }

    fn front(&self) -> Option<&Message> {
        Self::front(self)
    }
}

/// A queue in memory.
#[derive(Debug)]
pub(crate) struct MemoryQueue {
    id: QueueId,
    name: Text,
    state: Mutex<State>,
    arrived: Notify,
    left: Notify,
}

#[derive(Debug)]
struct State {
    backlog: Backlog<VecDeque<Message>>,
    next_position: u64,
}

impl MemoryQueue {
    pub(crate) fn new(id: QueueId, name: Text, settings: QueueSettings) -> Self {
        let state = State { backlog: Backlog::new(settings), next_position: 0 };
        Self { id, name, state: Mutex::new(state), arrived: Notify::new(), left: Notify::new() }
    }

    /// Gives the queue new bounds.
    pub(crate) fn set_settings(&self, settings: QueueSettings) {
        self.lock().backlog.settings = settings;
        self.left.notify_waiters();
    }

    /// Adds a message. Whoever appends a batch calls [`MemoryQueue::wake`] behind it.
    pub(crate) fn push(
        &self,
        envelope: Envelope,
        arguments: Arguments,
        share: Option<(Share, SettleOn)>,
        now: Timestamp,
    ) {
        let mut state = self.lock();
        if state.backlog.removed {
            // As if the queue had been removed just after: the share is released with the message.
            return;
        }
        let share = match share {
            Some((share, SettleOn::Delivered)) => Some(share),
            Some((share, SettleOn::Stored)) => {
                share.settle(Settlement::Accepted);
                None
            }
            None => None,
        };
        let position = state.next_position;
        state.next_position = position.saturating_add(1);
        let size = u64::try_from(envelope.size()).unwrap_or(u64::MAX);
        let outgoing = Outgoing { envelope, arguments };
        state.backlog.push(Message {
            position,
            size,
            stored_at: now,
            attempts: 0,
            outgoing,
            share,
        });
    }

    /// Wakes those that wait for messages.
    pub(crate) fn wake(&self) {
        self.arrived.notify_waiters();
    }

    /// Takes the queue out of use. Its messages go, and their shares are released.
    pub(crate) fn remove(&self) {
        let messages = {
            let mut state = self.lock();
            let empty = Backlog::new(state.backlog.settings);
            let messages = std::mem::replace(&mut state.backlog, empty);
            state.backlog.removed = true;
            messages
        };
        drop(messages);
        self.arrived.notify_waiters();
        self.left.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state without the messages that have grown too old.
    fn lock_current(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.backlog.settings.age_max.is_none() {
            return state;
        }
        let gone = state.backlog.expire(Timestamp::now());
        if !gone.is_empty() {
            tracing::warn!(
                queue = &*self.name,
                messages = gone.len(),
                "Dropped messages that had waited longer than the queue allows."
            );
            accept(gone);
            self.left.notify_waiters();
        }
        state
    }

    fn take(&self, messages_max: usize, bytes_max: usize) -> Result<Vec<Leased>, StoreError> {
        let mut state = self.lock_current();
        if state.backlog.removed {
            return Err(StoreError::Closed);
        }
        Ok(state.backlog.lease(messages_max, bytes_max, |message| Leased {
            position: Position(message.position),
            outgoing: message.outgoing.clone(),
            attempts: message.attempts,
            stored_at: message.stored_at,
            share: message.share.take(),
        }))
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn id(&self) -> QueueId {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    async fn lease(
        &self,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        wait_until(&self.arrived, || match self.take(messages_max, bytes_max) {
            Ok(leased) if leased.is_empty() => Look::Wait(None),
            outcome => Look::Met(outcome),
        })
        .await
    }

    async fn try_lease(
        &self,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        self.take(messages_max, bytes_max)
    }

    async fn reread(
        &self,
        positions: &[Position],
    ) -> Result<Vec<(Position, Outgoing)>, StoreError> {
        let state = self.lock();
        let found = positions.iter().filter_map(|position| {
            let message = state.backlog.leased.get(position.0)?;
            Some((*position, message.outgoing.clone()))
        });
        Ok(found.collect())
    }

    fn resolve(&self, positions: &[Position], how: Resolution) {
        let positions = positions.iter().map(|position| position.0);
        let mut state = self.lock();
        match how {
            Resolution::Done => {
                let gone = state.backlog.finish(positions);
                drop(state);
                if !gone.is_empty() {
                    self.left.notify_waiters();
                }
            }
            Resolution::Released => {
                if state.backlog.release(positions) {
                    drop(state);
                    self.arrived.notify_waiters();
                }
            }
            Resolution::Failed { attempts } => {
                for position in positions {
                    if let Some(message) = state.backlog.leased.get_mut(position) {
                        message.attempts = attempts;
                    }
                }
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
            if state.backlog.is_full() {
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
        accept(gone);
        if count > 0 {
            self.left.notify_waiters();
        }
        count
    }

    fn dropped_by_age(&self) -> u64 {
        self.lock_current().backlog.dropped_by_age
    }
}

/// Settles the shares of messages that a bound's policy has decided on.
fn accept(messages: Vec<Message>) {
    for share in messages.into_iter().filter_map(|message| message.share) {
        share.settle(Settlement::Accepted);
    }
}
