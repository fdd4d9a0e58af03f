use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use transload_adapter::store::{StoreError, Table};
use transload_envelope::{Text, Timestamp};
use transload_routing::Pattern;

use crate::{
    codec::{self, Packet, PublishHead, Version},
    message::Message,
};

/// The retained messages of a listener: the last one of each topic that was published to be kept.
#[derive(Debug)]
pub(super) struct Retained {
    messages: RwLock<Messages>,
    table: Arc<dyn Table>,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Messages {
    by_topic: BTreeMap<Text, Arc<Message>>,
    bytes: usize,
}

impl Messages {
    fn remove(&mut self, topic: &Text) -> bool {
        let removed = self.by_topic.remove(topic);
        self.bytes -= removed.as_ref().map_or(0, |last| last.size());
        removed.is_some()
    }

    fn insert(&mut self, topic: Text, message: Arc<Message>) {
        self.bytes += message.size();
        if let Some(last) = self.by_topic.insert(topic, message) {
            self.bytes -= last.size();
        }
    }
}

/// What became of a message to be retained.
#[derive(Debug)]
pub(super) enum Kept {
    Durably,
    /// There are as many as may be.
    Full,
    /// It is not safe: the store failed.
    Failed(StoreError),
}

impl Retained {
    /// With what the table holds from before.
    pub(super) fn load(table: Arc<dyn Table>, count_max: usize, bytes_max: usize) -> Self {
        let mut messages = Messages::default();
        for (topic, record) in table.entries() {
            match (Text::try_from(topic), decode(record)) {
                (Ok(topic), Some(message)) => {
                    messages.insert(topic, Arc::new(message));
                }
                (topic, _) => {
                    tracing::error!(?topic, "A retained message in the store cannot be read.");
                }
            }
        }
        Self { messages: RwLock::new(messages), table, count_max, bytes_max }
    }

    /// Keeps the message in place of the last one of its topic; an empty payload clears the topic
    /// (MQTT 5, section 3.3.1.3). Resolves when that is durable.
    pub(super) async fn keep(&self, message: &Arc<Message>) -> Kept {
        let topic = message.topic.clone();
        let key = topic.clone().into_bytes();
        let clear = message.payload.is_empty();
        {
            let mut messages = self.messages.write().unwrap_or_else(PoisonError::into_inner);
            if clear {
                if !messages.remove(&topic) {
                    return Kept::Durably;
                }
            } else {
                let last = messages.by_topic.get(&topic);
                let bytes = messages.bytes - last.map_or(0, |last| last.size()) + message.size();
                let full = last.is_none() && messages.by_topic.len() >= self.count_max;
                if full || bytes > self.bytes_max {
                    return Kept::Full;
                }
                messages.insert(topic, Arc::clone(message));
            }
        }
        let stored = match encode(message) {
            Some(record) if !clear => self.table.put(key, record).await,
            _ => self.table.delete(key).await,
        };
        stored.map_or_else(Kept::Failed, |()| Kept::Durably)
    }

    /// The messages of all topics that match, without those that have expired.
    pub(super) fn matching(&self, filter: &Pattern) -> Vec<Arc<Message>> {
        let text = filter.as_str();
        let literal = text.split(['+', '#']).next().unwrap_or_default();
        let messages = self.messages.read().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let wanted = |message: &&Arc<Message>| !message.expired(now);
        if literal.len() == text.len() {
            return messages.by_topic.get(text).filter(wanted).into_iter().cloned().collect();
        }
        // `a/#` matches `a` too.
        let prefix = literal.strip_suffix('/').unwrap_or(literal);
        messages
            .by_topic
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(topic, _)| topic.starts_with(prefix))
            .filter(|(topic, _)| filter.matches(topic).is_some())
            .map(|(_, message)| message)
            .filter(wanted)
            .cloned()
            .collect()
    }

    /// Forgets what has expired, and returns how many.
    pub(super) async fn forget_expired(&self) -> u64 {
        let now = Timestamp::now();
        let expired: Vec<_> = {
            let mut messages = self.messages.write().unwrap_or_else(PoisonError::into_inner);
            let Messages { by_topic, bytes } = &mut *messages;
            let gone = by_topic.extract_if(.., |_, message| message.expired(now));
            gone.map(|(topic, message)| {
                *bytes -= message.size();
                topic
            })
            .collect()
        };
        let mut count = 0;
        for topic in expired {
            count += 1;
            // What stays in the table is read back, and found expired, after the next start.
            if let Err(error) = self.table.delete(topic.into_bytes()).await {
                tracing::warn!(%error, "An expired retained message stays in the store.");
            }
        }
        count
    }
}

/// Format: version 1, time of expiry in milliseconds since 1970 (8 bytes, `i64::MAX` for never),
/// then the message as a PUBLISH of MQTT 5.
const FORMAT: u8 = 1;

fn encode(message: &Message) -> Option<Bytes> {
    let mut record = BytesMut::new();
    record.put_u8(FORMAT);
    record.put_i64(message.expires_at.map_or(i64::MAX, |end| end.unix_ms));
    let head = PublishHead {
        dup: false,
        qos: message.qos,
        retain: true,
        // Only its presence matters here.
        packet_id: 1,
        topic: &message.topic,
        expiry_s: None,
        subscription_ids: &[],
        properties: message.properties.as_deref(),
        payload_bytes: message.payload.len(),
    };
    codec::publish_head(&mut record, Version::V5, &head, None)?;
    record.extend_from_slice(&message.payload);
    Some(record.freeze())
}

fn decode(mut record: Bytes) -> Option<Message> {
    if record.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let end = record.try_get_i64().ok()?;
    let Ok(Packet::Publish(publish)) = codec::decode(Version::V5, record) else { return None };
    let mut message = Message::from_publish(publish, Timestamp::default());
    message.expires_at = (end != i64::MAX).then_some(Timestamp { unix_ms: end });
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MessageProperties, QoS};

    #[test]
    fn records_keep_everything() {
        let message = Message {
            topic: "a/b".into(),
            payload: Bytes::from_static(b"\0\xff"),
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at: Some(Timestamp { unix_ms: 1_234_567 }),
            properties: Some(Box::new(MessageProperties {
                utf8_payload: true,
                content_type: Some("text/plain".into()),
                response_topic: Some("r".into()),
                correlation: Some(Bytes::from_static(b"\0")),
                user: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            })),
        };
        assert_eq!(decode(encode(&message).unwrap()), Some(message));
    }
}
