use bytes::Bytes;

use crate::{Text, Timestamp};

/// The properties that at least two protocols know under some name.
///
/// What each protocol carries, and how, is the table in `docs/SEMANTICS.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Media type of the payload (RFC 9110, section 8.3).
    pub content_type: Option<Text>,
    /// Coding of the payload, such as `gzip` (RFC 9110, section 8.4).
    pub content_encoding: Option<Text>,
    /// Ties a reply to its request. Bytes, since MQTT 5 Correlation Data is.
    pub correlation: Option<Bytes>,
    /// Where a reply is expected, in canonical form.
    pub reply_to: Option<Text>,
    /// From when on nobody wants the message. Absolute, so that it counts down while it waits.
    pub expires_at: Option<Timestamp>,
    /// 0 (lowest) to 255, as in AMQP.
    pub priority: Option<u8>,
    /// Whether the source asked for the message to be kept safe: `MQTT` `QoS` 1 and 2, `AMQP`
    /// delivery mode 2, `JetStream`. Absent where the source's protocol does not say.
    pub durable: Option<bool>,
    /// Whether a new subscriber is to be given this message as the last of its address.
    pub retain: bool,
    /// What kind of message it is, in the application's own words.
    pub kind: Option<Text>,
    /// Which application made it.
    pub app_id: Option<Text>,
    /// Which user made it.
    pub user_id: Option<Text>,
    /// When it was made, by its maker's clock.
    pub timestamp: Option<Timestamp>,
}

impl Properties {
    /// No property at all.
    pub const NONE: Self = Self {
        content_type: None,
        content_encoding: None,
        correlation: None,
        reply_to: None,
        expires_at: None,
        priority: None,
        durable: None,
        retain: false,
        kind: None,
        app_id: None,
        user_id: None,
        timestamp: None,
    };

    /// Whether the message has expired by `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}
