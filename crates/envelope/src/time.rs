use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Milliseconds since the epoch; negative before it.
    pub unix_ms: i64,
}

impl Timestamp {
    /// The present, by the system's clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// This time and a duration more; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let more = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self { unix_ms: self.unix_ms.saturating_add(more) }
    }

    /// How long until this time, seen from `now`; zero when it has passed.
    pub fn remaining(self, now: Self) -> Duration {
        let left = self.unix_ms.saturating_sub(now.unix_ms);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
    }
}
