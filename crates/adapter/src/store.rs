//! Queues and small durable tables, as adapters and the gateway use them.
//!
//! The device listener keeps its sessions, their messages and the retained messages here, and the
//! gateway its destinations, so that no adapter depends on how a queue is made.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use transload_envelope::{Arguments, Envelope, Outgoing, Text, Timestamp};

use crate::{BoxError, Share};

/// Where a queue keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Gone with the process.
    Memory,
    /// In the journal: survives the process.
    Disk,
}

/// The bounds of a queue. They are checked before each append, so a queue can exceed them by the
/// batch that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Where the messages are.
    pub storage: Storage,
    /// How many messages may wait.
    pub messages_max: u64,
    /// How many bytes of messages may wait, by [`Envelope::size`].
    pub bytes_max: u64,
    /// How long a message may wait; older ones are dropped from the head and counted.
    pub age_max: Option<Duration>,
}

/// Names a queue inside one store, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// The place of a message in its queue; grows from message to message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// When a share is settled as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOn {
    /// When the message is in the queue: on disk for a disk queue, after the sync.
    Stored,
    /// When whoever leased the message settles it.
    Delivered,
}

/// One queue that a message is to go to.
#[derive(Debug)]
pub struct AppendTo {
    /// The queue.
    pub queue: QueueId,
    /// What the rule made for this target.
    pub arguments: Arguments,
    /// The source's receipt, as far as this target is concerned, and when it is settled.
    pub share: Option<(Share, SettleOn)>,
}

/// One message and all the queues that it goes to: one record and one sync, however many.
#[derive(Debug)]
pub struct Append {
    /// The message.
    pub envelope: Envelope,
    /// Where it goes.
    pub to: Vec<AppendTo>,
}

/// A message that was leased: it is not given out again until it is released.
#[derive(Debug)]
pub struct Leased {
    /// Its place.
    pub position: Position,
    /// The message.
    pub outgoing: Outgoing,
    /// How many attempts have failed before, also before a restart.
    pub attempts: u32,
    /// When it was appended.
    pub stored_at: Timestamp,
    /// To be settled by the lease's holder, where it was appended with [`SettleOn::Delivered`]
    /// and the process has not restarted since.
    pub share: Option<Share>,
}

/// What became of a leased message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is done with, and leaves the queue.
    Done,
    /// It is to be given out again, at its old place.
    Released,
    /// An attempt failed; it stays leased, and the count of its attempts is kept.
    Failed {
        /// The number of failed attempts so far.
        attempts: u32,
    },
}

/// How much waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages, those that are leased included.
    pub messages: u64,
    /// Bytes, by [`Envelope::size`].
    pub bytes: u64,
    /// When the oldest of them was appended.
    pub oldest: Option<Timestamp>,
}

/// Why a queue or a table cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no space, or a bound of the whole store is reached: nothing was taken; it may work
    /// again later.
    #[error("the store is full: {0}")]
    Full(Text),
    /// A write or a sync failed, or a file is damaged. Nothing more is accepted until the store
    /// has been opened anew.
    #[error("the store has failed: {0}")]
    Failed(Text),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// A failure with its cause.
    pub fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed(error.into().to_string().into())
    }
}

/// One queue: first in, first out, with leases that may be resolved in any order.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// The id under which messages are appended.
    fn id(&self) -> QueueId;

    /// The name, unique in the store and the same across restarts.
    fn name(&self) -> &str;

    /// Waits until at least one message can be given out, and takes up to `messages_max` from the
    /// head, but not more than `bytes_max` bytes unless a single message is larger. Cancel-safe.
    async fn lease(&self, messages_max: usize, bytes_max: usize)
    -> Result<Vec<Leased>, StoreError>;

    /// The same without waiting; empty when nothing can be given out.
    async fn try_lease(
        &self,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Leased>, StoreError>;

    /// Reads messages again that are leased, in the order of their positions; what is not leased is
    /// left out.
    async fn reread(&self, positions: &[Position])
    -> Result<Vec<(Position, Outgoing)>, StoreError>;

    /// Says what became of leased messages. Returns at once; for a disk queue the fact is written
    /// with the next sync, so after a crash a message that was done may come again.
    fn resolve(&self, positions: &[Position], how: Resolution);

    /// How much waits.
    fn depth(&self) -> Depth;

    /// Whether a bound is reached.
    fn is_full(&self) -> bool;

    /// Waits until no bound is reached. Cancel-safe.
    async fn room(&self);

    /// Drops the oldest messages that are not leased until no bound is reached, and returns how
    /// many. Their shares are settled as accepted: the bound's policy has decided on them.
    fn drop_oldest(&self) -> u64;

    /// How many messages have been dropped for their age since the queue was opened.
    fn dropped_by_age(&self) -> u64 {
        0
    }
}

/// A small durable map of bytes to bytes.
#[async_trait]
pub trait Table: Send + Sync + fmt::Debug {
    /// Writes an entry; resolves when it is durable.
    async fn put(&self, key: Bytes, value: Bytes) -> Result<(), StoreError>;

    /// Removes an entry; resolves when that is durable.
    async fn delete(&self, key: Bytes) -> Result<(), StoreError>;

    /// The entry of this key.
    fn get(&self, key: &[u8]) -> Option<Bytes>;

    /// All entries in the order of their keys.
    fn entries(&self) -> Vec<(Bytes, Bytes)>;
}

/// The queues and tables of one gateway.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Opens a queue, or creates it. Opening a queue that is open gives the same one, with the new
    /// bounds.
    fn queue(&self, name: &str, settings: QueueSettings) -> Result<Arc<dyn Queue>, StoreError>;

    /// The names of all queues that hold messages or are open.
    fn queue_names(&self) -> Vec<Text>;

    /// Removes a queue and the messages in it; resolves when that is durable.
    async fn remove_queue(&self, name: &str) -> Result<(), StoreError>;

    /// Appends messages in order. Resolves when the store has taken them over, which is before
    /// they are on disk: their shares tell of that. On an error, the shares are released.
    async fn append(&self, batch: Vec<Append>) -> Result<(), StoreError>;

    /// The same, resolving when everything is durable.
    async fn append_durably(&self, batch: Vec<Append>) -> Result<(), StoreError>;

    /// Opens a table, or creates it.
    fn table(&self, name: &str) -> Result<Arc<dyn Table>, StoreError>;
}
