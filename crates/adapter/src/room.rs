//! A bound in bytes on messages that wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::units::ByteSize;

/// The unit that is counted in, so that the permits of one message fit into 32 bits.
const UNIT_BYTES: u64 = 1024;

/// A bound in bytes on the payloads of messages that wait somewhere. Clones share it.
///
/// It stands beside a bound on their number. Small payloads are not counted: that other bound bounds
/// them well enough, and nearly all messages are small and would pay for the counting.
#[derive(Clone, Debug)]
pub struct ByteRoom {
    units: Arc<Semaphore>,
    units_max: u32,
    counted_bytes_min: usize,
}

/// What one message takes of a [`ByteRoom`]; given back when this is dropped.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the room back"]
pub struct Occupied {
    _permit: Option<OwnedSemaphorePermit>,
}

impl ByteRoom {
    /// Room for so many bytes, in which payloads count that are not shorter than
    /// `counted_bytes_min`.
    pub fn new(bytes_max: ByteSize, counted_bytes_min: usize) -> Self {
        let units_max = u32::try_from(bytes_max.get().div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max, counted_bytes_min }
    }

    /// Takes room for a payload, if there is any without waiting. One that is larger than all of it
    /// takes all of it.
    pub fn take(&self, payload_bytes: usize) -> Option<Occupied> {
        let Some(units) = self.units_of(payload_bytes) else { return Some(Occupied::default()) };
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units).ok()?;
        Some(Occupied { _permit: Some(permit) })
    }

    /// The same, and waits for it in the order of asking. Cancel-safe.
    pub async fn wait(&self, payload_bytes: usize) -> Occupied {
        match self.units_of(payload_bytes) {
            Some(units) => {
                Occupied { _permit: Arc::clone(&self.units).acquire_many_owned(units).await.ok() }
            }
            None => Occupied::default(),
        }
    }

    fn units_of(&self, payload_bytes: usize) -> Option<u32> {
        if payload_bytes < self.counted_bytes_min {
            return None;
        }
        let units = u32::try_from((payload_bytes as u64).div_ceil(UNIT_BYTES));
        Some(units.unwrap_or(u32::MAX).min(self.units_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: usize = 16 * 1024;

    fn room(kib: u64) -> ByteRoom {
        ByteRoom::new(ByteSize::from_kib(kib), COUNTED)
    }

    #[test]
    fn small_payloads_are_not_counted() {
        let room = room(16);
        let _all = room.take(COUNTED).unwrap();
        assert!(room.take(COUNTED - 1).is_some());
        assert!(room.take(COUNTED).is_none());
    }

    #[test]
    fn a_payload_larger_than_the_room_takes_all_of_it() {
        let room = room(100);
        for bytes in [1_000_000, usize::MAX] {
            let _all = room.take(bytes).unwrap();
            assert!(room.take(COUNTED).is_none());
        }
        assert!(ByteRoom::new(ByteSize::from_bytes(u64::MAX), COUNTED).take(usize::MAX).is_some());
    }

    #[tokio::test]
    async fn what_is_given_back_is_free_again() {
        let room = room(100);
        let first = room.take(60_000).unwrap();
        assert!(room.take(60_000).is_none());
        let returned = async {
            // The wait has begun by then, since it is polled first.
            drop(first);
        };
        let (second, ()) = tokio::join!(biased; room.wait(60_000), returned);
        assert!(room.take(60_000).is_none());
        drop(second);
        assert!(room.take(100_000).is_some());
    }
}
