//! The names that producers, the gateway's configuration and consumers share.

/// Topics, paths and routing keys below this one are the messages of the producers.
pub(crate) const FILTER: &str = "f/#";
pub(crate) const SOURCE_QUEUE: &str = "source";
pub(crate) const TARGET_QUEUE: &str = "target";
pub(crate) const SOURCE_STREAM: &str = "SOURCE";
pub(crate) const TARGET_STREAM: &str = "TARGET";
pub(crate) const SUBJECTS: &str = "f.>";
pub(crate) const EXCHANGE: &str = "amq.topic";
pub(crate) const BINDING: &str = "f.#";

pub(crate) fn topic(lane: u16) -> String {
    format!("f/{lane}")
}

/// The routing key, which is the NATS subject too.
pub(crate) fn key(lane: u16) -> String {
    format!("f.{lane}")
}
