//! When the broker is to be asked whether it is there, and when it is not.
//!
//! Invariants:
//! - Something is sent at least once in the interval, whether or not the connection is read.
//! - Silence counts only while the connection is read: an answer that nobody reads is no silence.

use std::time::Duration;

use tokio::time::Instant;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Send PINGREQ.
    Ask,
    /// The broker has not answered within the interval.
    Silent,
    /// The broker has read nothing for one and a half times the interval.
    Stuck,
}

#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Duration,
    heard: Instant,
    sent: Instant,
    /// When the broker was first asked since it was heard.
    asked: Option<Instant>,
    /// Since when the connection is read, if it is.
    reading: Option<Instant>,
    /// How many bytes had gone out when this changed last, or nothing waited.
    written: u64,
    moved: Instant,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        let (asked, reading) = (None, Some(now));
        Self { interval, heard: now, sent: now, asked, reading, written: 0, moved: now }
    }

    /// Something was read.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// Something is on its way.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Whether the connection is read from now on.
    pub(super) fn reads(&mut self, reads: bool) {
        if reads != self.reading.is_some() {
            self.reading = reads.then(Instant::now);
        }
    }

    /// When there is something to do at the earliest, if nothing happens.
    pub(super) fn next(&self) -> Instant {
        let other = match self.asked {
            None => Some(self.heard + self.interval),
            Some(asked) => self.reading.map(|since| asked.max(since) + self.interval),
        };
        other.map_or(self.sent + self.interval, |other| other.min(self.sent + self.interval))
    }

    /// What is to be done now, where so many bytes have gone out and others wait or not.
    pub(super) fn due(&mut self, now: Instant, written: u64, waits: bool) -> Due {
        if written != self.written || !waits {
            (self.written, self.moved) = (written, now);
        }
        if self.moved + self.interval * 3 / 2 <= now {
            return Due::Stuck;
        }
        if let (Some(asked), Some(since)) = (self.asked, self.reading)
            && asked.max(since) + self.interval <= now
        {
            return Due::Silent;
        }
        let unheard = self.asked.is_none() && self.heard + self.interval <= now;
        if unheard || self.sent + self.interval <= now {
            self.asked.get_or_insert(now);
            self.sent = now;
            return Due::Ask;
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_idle_broker_is_asked_and_must_answer() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(INTERVAL, start);
        assert_eq!(keep_alive.next(), start + INTERVAL);
        assert_eq!(keep_alive.due(start, 0, false), Due::Nothing);
        let asked = start + INTERVAL;
        assert_eq!(keep_alive.due(asked, 0, false), Due::Ask);
        keep_alive.heard(asked);
        assert_eq!(keep_alive.due(asked + INTERVAL, 2, false), Due::Ask);
        assert_eq!(keep_alive.due(asked + 2 * INTERVAL, 4, false), Due::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_expected_while_nothing_is_read() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(INTERVAL, start);
        keep_alive.reads(false);
        for round in 1..5 {
            let now = start + INTERVAL * round;
            assert_eq!(keep_alive.next(), now);
            assert_eq!(keep_alive.due(now, u64::from(round), false), Due::Ask, "{round}");
        }
        tokio::time::advance(INTERVAL * 5).await;
        keep_alive.reads(true);
        let since = Instant::now();
        assert_eq!(keep_alive.due(since, 5, false), Due::Ask);
        assert_eq!(keep_alive.due(since + INTERVAL, 6, false), Due::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_takes_nothing_is_not_waited_for() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(INTERVAL, start);
        keep_alive.reads(false);
        assert_eq!(keep_alive.due(start + INTERVAL, 7, true), Due::Ask);
        assert_eq!(keep_alive.due(start + 2 * INTERVAL, 7, true), Due::Ask);
        assert_eq!(keep_alive.due(start + 3 * INTERVAL, 7, true), Due::Stuck);
    }
}
