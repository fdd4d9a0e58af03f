//! The names that producers, the gateway's configuration and consumers share.

/// Topics, paths and routing keys below this one are the messages of the producers.
pub(super) const FILTER: &str = "f/#";
pub(super) const SOURCE_QUEUE: &str = "source";
pub(super) const TARGET_QUEUE: &str = "target";
pub(super) const SOURCE_STREAM: &str = "SOURCE";
pub(super) const TARGET_STREAM: &str = "TARGET";
pub(super) const SUBJECTS: &str = "f.>";
pub(super) const EXCHANGE: &str = "amq.topic";
pub(super) const BINDING: &str = "f.#";

pub(super) fn topic(lane: u16) -> String {
    format!("f/{lane}")
}

/// The routing key, which is the NATS subject too.
pub(super) fn key(lane: u16) -> String {
    format!("f.{lane}")
}
