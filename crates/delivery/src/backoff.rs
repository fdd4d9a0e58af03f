//! How long to wait before trying again.

use std::time::Duration;

/// Exponential back-off with full jitter: each wait is drawn evenly from zero to a ceiling that
/// doubles with each failure, so that many clients of a broker that comes back do not all arrive
/// at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off whose ceiling starts at `first` and ends at `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    /// Counts a failure and says how long to wait.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(fastrand::f64())
    }

    /// Counts a failure and says how long to wait, which is at least what the peer asked for.
    pub fn next_wait_after(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.next_wait();
        asked.map_or(own, |asked| asked.saturating_add(own / 4))
    }

    /// Starts anew, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The number of failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for ceiling_ms in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.ceiling(), Duration::from_millis(ceiling_ms));
            assert!(backoff.next_wait() <= Duration::from_millis(ceiling_ms));
        }
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_millis(100));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        backoff.failures = u32::MAX;
        assert!(backoff.next_wait() <= Duration::from_secs(30));
    }

    #[test]
    fn the_peers_delay_is_a_least() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
        let asked = Duration::from_secs(7);
        assert!(backoff.next_wait_after(Some(asked)) >= asked);
    }
}
