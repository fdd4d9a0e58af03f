use std::{fmt, time::Duration};

use tokio_util::sync::CancellationToken;
use transload_adapter::{SendError, Sent};
use transload_envelope::{Outgoing, Text};

/// How one destination is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The destination's name.
    pub name: Text,
    /// The route whose dead letters take what cannot be delivered.
    pub route: Text,
    /// How many messages are sent in one batch.
    pub batch_messages_max: usize,
    /// How many bytes are sent in one batch, unless a single message is larger.
    pub batch_bytes_max: usize,
    /// How many attempts of one message may fail before it goes to the dead letters.
    pub attempts_max: u32,
    /// How long a message may wait before it goes to the dead letters.
    pub expires: Option<Duration>,
    /// The first ceiling of the wait between attempts.
    pub retry_first: Duration,
    /// The last ceiling of the wait between attempts.
    pub retry_max: Duration,
    /// Whether the queue is emptied before the worker finishes, since it would be lost with the
    /// process.
    pub empty_before_finish: bool,
    /// How messages are sent side by side and put together; absent where they go one after the
    /// other in the order of the queue.
    pub lanes: Option<LaneSettings>,
}

/// How messages of different keys are sent side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSettings {
    /// How many sends may be under way at once; at least 1.
    pub lanes: usize,
    /// How messages of one key are put together, where they are.
    pub batch: Option<BatchSettings>,
}

/// How messages are put together to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// How many messages are put together at most.
    pub messages_max: usize,
    /// How many bytes of payload are put together at most, unless a single one is larger.
    pub bytes_max: usize,
    /// How long the first message may wait for others.
    pub wait_max: Duration,
    /// How payloads are joined.
    pub format: BatchFormat,
    /// Whether only messages of one address are put together, since the target follows it.
    pub by_address: bool,
}

/// How payloads are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFormat {
    /// Each is JSON; together they are a JSON array.
    Json,
    /// Each is one line.
    Lines,
}

/// How a worker is stopped.
#[derive(Clone, Debug, Default)]
pub struct WorkerStop {
    /// The batch in hand is delivered, and nothing more is leased (or, for a queue in memory, until
    /// it is empty).
    pub finish: CancellationToken,
    /// The batch in hand is delivered, or put back where the target does not take it; the rest is
    /// left to whoever serves the queue next.
    pub leave: CancellationToken,
    /// The batch in hand is put back at once.
    pub abort: CancellationToken,
}

/// What became of messages at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The target has it.
    Delivered,
    /// The target took it, and nobody was there to receive it.
    NoReceiver,
    /// It goes again.
    Retried,
    /// Its own expiry had passed.
    Expired,
    /// It is among the dead letters.
    DeadLettered,
}

/// Watches what becomes of messages; must be cheap and must not block.
pub trait DeliveryObserver: Send + Sync + fmt::Debug {
    /// Adds to the count of an outcome.
    fn count(&self, outcome: Outcome, by: u64);

    /// Called before a batch is sent. What is returned is sent in its place: the same messages
    /// with headers that name this attempt. `None` sends the batch as it is.
    fn sending(&self, _batch: &[Outgoing]) -> Option<Box<dyn Sending>> {
        None
    }
}

/// A batch whose sending is watched. It is dropped when the sending is given up.
pub trait Sending: Send + Sync + fmt::Debug {
    /// What is sent.
    fn batch(&self) -> &[Outgoing];

    /// Called with what became of each message, in the order of the batch.
    fn ended(self: Box<Self>, results: &[Result<Sent, SendError>]);
}
