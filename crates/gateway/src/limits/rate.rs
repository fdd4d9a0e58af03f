use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::settings::RateLimit;
use crate::sync::lock;

/// How much of a rate is used up, by keys.
///
/// For each key one point in time is kept: when the messages so far would be through if they had come
/// evenly. A message passes if that is not further ahead than the burst allows (the generic cell rate
/// algorithm). A key whose time has passed is as good as new, and is forgotten when room is needed.
#[derive(Debug)]
pub(super) struct Rates {
    /// How much one message uses up.
    each: Duration,
    /// How far ahead a key may be.
    ahead_max: Duration,
    keys_max: usize,
    keys: Mutex<HashMap<Box<str>, Instant>>,
}

/// How long a key may be, in bytes; what is longer shares one rate with what has no key.
pub(super) const KEY_BYTES_MAX: usize = 512;

impl Rates {
    pub(super) fn new(limit: Option<&RateLimit>) -> Self {
        let each = limit.map_or(Duration::ZERO, |limit| limit.per / limit.messages.max(1));
        let burst = limit.map_or(1, |limit| limit.burst.max(1));
        Self {
            each,
            ahead_max: each.saturating_mul(burst - 1),
            keys_max: limit.map_or(0, |limit| limit.keys_max),
            keys: Mutex::default(),
        }
    }

    /// Takes one message of a key, or tells how long it would have to wait.
    pub(super) fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        self.change(key, now, |wait| wait.is_zero())
            .map_or(Ok(()), |wait| if wait.is_zero() { Ok(()) } else { Err(wait) })
    }

    /// Takes one message of a key, and tells how long it has to wait.
    pub(super) fn reserve(&self, key: &str, now: Instant) -> Duration {
        self.change(key, now, |_| true).unwrap_or_default()
    }

    /// How long a message has to wait; it is taken if `takes` says so.
    fn change(
        &self,
        key: &str,
        now: Instant,
        takes: impl FnOnce(Duration) -> bool,
    ) -> Option<Duration> {
        let mut keys = lock(&self.keys);
        let key = if key.len() > KEY_BYTES_MAX { "" } else { key };
        let known = keys.contains_key(key);
        let key = if known || self.makes_room(&mut keys, now) { key } else { "" };
        let through = keys.get(key).copied().unwrap_or(now).max(now);
        let wait = through.checked_sub(self.ahead_max)?.saturating_duration_since(now);
        if takes(wait) {
            keys.insert(key.into(), through + self.each);
        }
        Some(wait)
    }

    /// Whether there is room for one more key; those that are as good as new make room.
    fn makes_room(&self, keys: &mut HashMap<Box<str>, Instant>, now: Instant) -> bool {
        if keys.len() >= self.keys_max {
            keys.retain(|_, through| *through > now);
        }
        keys.len() < self.keys_max
    }
}
