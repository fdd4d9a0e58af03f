//! A message as MQTT knows it, whatever the version and the direction.

use bytes::Bytes;
use transload_envelope::{Text, Timestamp};

use crate::codec::{MessageProperties, Publish, QoS};

/// A message between a publisher and its subscribers. Shared by all of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: Text,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) properties: Option<Box<MessageProperties>>,
}

impl Message {
    /// What a client has published just now, its alias already resolved.
    pub(crate) fn from_publish(publish: Publish, now: Timestamp) -> Self {
        let lifetime =
            publish.expiry_s.map(|seconds| std::time::Duration::from_secs(seconds.into()));
        Self {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires_at: lifetime.map(|lifetime| now.after(lifetime)),
            properties: publish.properties,
        }
    }

    /// Whether nobody wants it any more.
    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// What is left of its life in whole seconds, rounded up, so that it is not 0 before its end.
    pub(crate) fn expiry_s(&self, now: Timestamp) -> Option<u32> {
        let left = self.expires_at?.remaining(now);
        Some(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// A measure of the memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        const OVERHEAD: usize = 128;
        let user = |properties: &MessageProperties| {
            properties.user.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>()
        };
        self.payload.len()
            + self.topic.len()
            + OVERHEAD
            + self.properties.as_deref().map_or(0, user)
    }
}
