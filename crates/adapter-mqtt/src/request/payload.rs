//! Correlations in JSON payloads, for devices that reply under a fixed topic. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::Value as Json;
use transload_adapter::Waiters;
use transload_envelope::Text;

use super::CORRELATION;

/// What the correlations begin with that are made here, so that what others have asked is told from
/// a late reply.
const OURS: &str = "transload-";

/// A member of a JSON object in the payload, at any depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member(Vec<String>);

impl Member {
    /// Reads `payload.NAME`, or `payload.NAME.NAME` and so on.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let names: Vec<String> =
            text.strip_prefix("payload.")?.split('.').map(str::to_owned).collect();
        names.iter().all(|name| !name.is_empty()).then_some(Self(names))
    }

    /// The correlation of ours that a payload has there.
    pub(super) fn token(&self, payload: &[u8]) -> Option<String> {
        let whole: Json = serde_json::from_slice(payload).ok()?;
        let found = self.0.iter().try_fold(&whole, |value, name| value.get(name))?;
        found.as_str().filter(|token| token.starts_with(OURS)).map(str::to_owned)
    }
}

/// A correlation that no other request has.
pub(super) fn token() -> Text {
    format!("{OURS}{}", Waiters::token()).into()
}

/// What a waiter is known by. No topic holds U+0000.
pub(super) fn key(topic: &str, token: &str) -> Text {
    format!("{topic}\0{token}").into()
}

/// Puts the correlation wherever the payload holds `{correlation}`; `None` where it does not.
pub(super) fn fill(payload: &Bytes, token: &str) -> Option<Bytes> {
    let mut filled = BytesMut::with_capacity(payload.len() + token.len());
    let mut rest = &payload[..];
    let mut found = false;
    while let Some(at) =
        rest.windows(CORRELATION.len()).position(|part| part == CORRELATION.as_bytes())
    {
        let (before, from) = rest.split_at(at);
        filled.put_slice(before);
        filled.put_slice(token.as_bytes());
        rest = from.get(CORRELATION.len()..).unwrap_or_default();
        found = true;
    }
    filled.put_slice(rest);
    found.then(|| filled.freeze())
}
