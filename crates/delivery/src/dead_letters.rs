//! Messages that could not be delivered, kept with the reason until someone looks at them.
//!
//! There is one queue for each route, on disk and bounded; the oldest dead letters make room. What
//! is known about the failure travels as arguments in front of the message's own, so that a dead
//! letter is an ordinary record of the journal and can be sent to its destination again.

use std::{sync::Arc, time::Duration};

use tracing::warn;
use transload_adapter::store::{
    Append, AppendTo, Queue, QueueSettings, Storage, Store, StoreError,
};
use transload_envelope::{Arguments, Outgoing, Text, Timestamp};

/// The queues' names are this and the route's name.
pub const PREFIX: &str = "dead-letters/";

const DESTINATION: &str = "dead-letter.destination";
const REASON: &str = "dead-letter.reason";
const ATTEMPTS: &str = "dead-letter.attempts";
const FIRST: &str = "dead-letter.first-failure-ms";
const LAST: &str = "dead-letter.last-failure-ms";
/// There, and with any text, in a letter that is as it came in.
const UNPLANNED: &str = "dead-letter.unplanned";

/// One message that could not be delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The destination that it was for.
    pub destination: Text,
    /// Why it could not be delivered.
    pub reason: Text,
    /// How many attempts were made.
    pub attempts: u32,
    /// When it failed first.
    pub first_failure_at: Timestamp,
    /// When it failed last.
    pub last_failure_at: Timestamp,
    /// Whether the rules have made the message ready for the destination; else it is as it came in.
    pub planned: bool,
    /// The untouched message.
    pub outgoing: Outgoing,
}

impl DeadLetter {
    /// The message as its queue keeps it.
    fn into_arguments(self) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.push(DESTINATION, self.destination);
        arguments.push(REASON, self.reason);
        arguments.push(ATTEMPTS, self.attempts.to_string());
        arguments.push(FIRST, self.first_failure_at.unix_ms.to_string());
        arguments.push(LAST, self.last_failure_at.unix_ms.to_string());
        if !self.planned {
            arguments.push(UNPLANNED, "true");
        }
        for (key, text) in self.outgoing.arguments.iter() {
            arguments.push(key.clone(), text.clone());
        }
        arguments
    }

    /// Reads a message of a dead letter queue.
    pub fn from_outgoing(outgoing: Outgoing) -> Self {
        let text = |key| outgoing.arguments.get(key).cloned().unwrap_or_default();
        let number = |key| text(key).parse().unwrap_or_default();
        Self {
            destination: text(DESTINATION),
            reason: text(REASON),
            attempts: text(ATTEMPTS).parse().unwrap_or_default(),
            first_failure_at: Timestamp { unix_ms: number(FIRST) },
            last_failure_at: Timestamp { unix_ms: number(LAST) },
            planned: outgoing.arguments.get(UNPLANNED).is_none(),
            outgoing: Outgoing {
                arguments: outgoing
                    .arguments
                    .iter()
                    .filter(|(key, _)| !key.starts_with("dead-letter."))
                    .map(|(key, text)| (key.clone(), text.clone()))
                    .collect(),
                envelope: outgoing.envelope,
            },
        }
    }
}

/// The bounds of the dead letters of each route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many are kept; the oldest make room.
    pub messages_max: u64,
    /// How many bytes of them are kept, by [`Envelope::size`]; the oldest make room.
    ///
    /// [`Envelope::size`]: transload_envelope::Envelope::size
    pub bytes_max: u64,
    /// How long one is kept; without end where it is absent.
    pub age_max: Option<Duration>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { messages_max: 100_000, bytes_max: 256 << 20, age_max: None }
    }
}

/// The name of the queue that holds the dead letters of a route.
pub fn queue_name(route: &str) -> String {
    format!("{PREFIX}{route}")
}

/// The dead letters of all routes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    store: Arc<dyn Store>,
    bounds: Bounds,
}

impl DeadLetters {
    /// Dead letters in this store, bounded for each route.
    pub fn new(store: Arc<dyn Store>, bounds: Bounds) -> Self {
        Self { store, bounds }
    }

    /// The routes that have dead letters or had some, in order; also those that are no longer in
    /// the configuration.
    pub fn routes(&self) -> Vec<Text> {
        let names = self.store.queue_names();
        names.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(Text::from).collect()
    }

    /// Opens the dead letters of a route.
    pub fn queue(&self, route: &str) -> Result<Arc<dyn Queue>, StoreError> {
        self.store.queue(
            &queue_name(route),
            QueueSettings {
                storage: Storage::Disk,
                messages_max: self.bounds.messages_max,
                bytes_max: self.bounds.bytes_max,
                age_max: self.bounds.age_max,
            },
        )
    }

    /// Adds dead letters of a route; resolves when they are durable.
    pub async fn add(&self, route: &str, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let queue = self.queue(route)?;
        if queue.is_full() {
            let dropped = queue.drop_oldest();
            warn!(%route, dropped, "The dead letters are full, the oldest were dropped.");
        }
        let appends = letters.iter().map(|letter| Append {
            envelope: letter.outgoing.envelope.clone(),
            to: vec![AppendTo {
                queue: queue.id(),
                arguments: letter.clone().into_arguments(),
                share: None,
            }],
        });
        self.store.append_durably(appends.collect()).await
    }
}

#[cfg(test)]
mod tests {
    use transload_envelope::{Envelope, Origin};

    use super::*;

    #[test]
    fn what_is_known_of_a_failure_survives_the_queue() {
        for planned in [true, false] {
            let letter = DeadLetter {
                destination: "telemetry/services".into(),
                reason: "unroutable".into(),
                attempts: 3,
                first_failure_at: Timestamp { unix_ms: 1_700_000_000_123 },
                last_failure_at: Timestamp { unix_ms: 1_700_000_009_456 },
                planned,
                outgoing: Outgoing {
                    envelope: Envelope::new(Origin::new("devices", "mqtt", "a/b"), "body"),
                    arguments: [(Text::from("routing_key"), Text::from("a.b"))]
                        .into_iter()
                        .collect(),
                },
            };
            let kept = Outgoing {
                envelope: letter.outgoing.envelope.clone(),
                arguments: letter.clone().into_arguments(),
            };
            assert_eq!(DeadLetter::from_outgoing(kept), letter);
        }
    }
}
