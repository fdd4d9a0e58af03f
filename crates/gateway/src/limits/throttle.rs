use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;
use transload_envelope::Text;

use super::{rate::KEY_BYTES_MAX, settings::ThrottleLimit};
use crate::sync::lock;

/// Which keys may not pass yet.
///
/// The dispatchers ask it; what is held back is with the [`Holder`](super::Holder), which sends the
/// latest message of a key when its interval has passed.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    keys_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Text, Slot>,
    /// How many bytes are held back.
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    /// When the next message may pass.
    open_at: Instant,
    /// How many messages are with the holder, or on the way to it: until they are gone, none passes
    /// them.
    held: usize,
}

/// Whether a message passes a throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Throttled {
    Passes,
    IsHeld,
    /// It passes since a bound is reached.
    PassesUnbounded,
}

impl Throttle {
    pub(super) fn new(limit: Option<&ThrottleLimit>) -> Self {
        Self {
            interval: limit.map_or(Duration::ZERO, |limit| limit.interval),
            keys_max: limit.map_or(0, |limit| limit.keys_max),
            bytes_max: limit.map_or(0, |limit| limit.bytes_max),
            state: Mutex::default(),
        }
    }

    /// Decides on a message of this size.
    pub(super) fn ask(&self, key: &str, size: usize, now: Instant) -> Throttled {
        let mut state = lock(&self.state);
        if let Some(slot) = state.slots.get_mut(key) {
            if slot.held == 0 && slot.open_at <= now {
                slot.open_at = now + self.interval;
                return Throttled::Passes;
            }
            // Behind one that is held, none may pass, not even at the bound: it would be overtaken.
            let full = slot.held == 0 && state.bytes.saturating_add(size) > self.bytes_max;
            return if full { Throttled::PassesUnbounded } else { Throttled::IsHeld };
        }
        if state.slots.len() >= self.keys_max {
            state.slots.retain(|_, slot| slot.held > 0 || slot.open_at > now);
        }
        if state.slots.len() >= self.keys_max || key.len() > KEY_BYTES_MAX {
            return Throttled::PassesUnbounded;
        }
        let slot = Slot { open_at: now + self.interval, held: 0 };
        state.slots.insert(key.into(), slot);
        Throttled::Passes
    }

    /// Takes over a message that was held before a restart, until this time.
    pub(super) fn restore(&self, key: &Text, size: usize, open_at: Instant) {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_add(size);
        state.slots.insert(key.clone(), Slot { open_at, held: 1 });
    }

    /// Notes that a message is on its way to the holder; tells when its key may pass.
    pub(super) fn hold(&self, key: &Text, size: usize, now: Instant) -> Instant {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_add(size);
        let slot = state.slots.entry(key.clone()).or_insert(Slot { open_at: now, held: 0 });
        slot.held += 1;
        slot.open_at
    }

    /// Notes that a held message is gone: superseded, or, if one was `sent`, passed.
    pub(super) fn release(&self, key: &str, size: usize, sent: Option<Instant>) {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_sub(size);
        if let Some(slot) = state.slots.get_mut(key) {
            slot.held = slot.held.saturating_sub(1);
            if let Some(now) = sent {
                slot.open_at = now + self.interval;
            }
        }
    }
}
