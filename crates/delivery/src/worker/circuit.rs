//! The circuit of one target: keeps a target that takes nothing from being sent to all the time.
//!
//! Invariants:
//! - It opens at once when the target says that it takes nothing, and when different messages have
//!   failed one after the other with no success between them. One message that fails again and
//!   again does not open it.
//! - While it is open, one message is sent at the end of each wait; the rest waits.
//! - A lost connection says nothing: the adapter's supervisor sees to it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};
use transload_adapter::store::Position;
use transload_envelope::{Text, Timestamp};

use crate::{backoff::Backoff, sync::lock};

/// How many different messages must fail in a row before the target is taken for one that is down.
const FAILURES_MAX: usize = 5;

/// The circuit of one target. Clones are the same circuit.
#[derive(Clone, Debug)]
pub struct Circuit(Arc<Mutex<Inner>>);

/// How a circuit is, for people and for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitView {
    /// Absent when it is closed, as it should be.
    pub open: Option<OpenCircuit>,
    /// How often it has opened.
    pub opened: u64,
}

/// An open circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCircuit {
    /// Since when.
    pub since: Timestamp,
    /// What the target said last.
    pub reason: Text,
    /// Whether a message is on its way to find out how the target is.
    pub probing: bool,
    /// How long until the next message is sent.
    pub next_probe: Duration,
}

/// What may be sent at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admit {
    /// Everything.
    All,
    /// One message.
    Probe,
    /// Nothing, until then.
    NotBefore(Instant),
    /// Nothing, until the message that is on its way has an answer.
    Probing,
}

#[derive(Debug)]
struct Inner {
    destination: Text,
    backoff: Backoff,
    /// The messages that have failed since the last success; at most [`FAILURES_MAX`].
    failed: Vec<Position>,
    open: Option<Open>,
    opened: u64,
}

#[derive(Debug)]
struct Open {
    since: Timestamp,
    reason: Text,
    until: Instant,
    probing: bool,
}

impl Circuit {
    /// A closed circuit. Its probes are as far apart as this back-off says.
    pub fn new(destination: Text, backoff: Backoff) -> Self {
        let failed = Vec::new();
        Self(Arc::new(Mutex::new(Inner { destination, backoff, failed, open: None, opened: 0 })))
    }

    /// How it is.
    pub fn view(&self) -> CircuitView {
        let inner = lock(&self.0);
        let open = inner.open.as_ref().map(|open| OpenCircuit {
            since: open.since,
            reason: open.reason.clone(),
            probing: open.probing,
            next_probe: open.until.saturating_duration_since(Instant::now()),
        });
        CircuitView { open, opened: inner.opened }
    }

    /// The target is another one, of which nothing is known.
    pub fn close(&self) {
        let mut inner = lock(&self.0);
        inner.failed.clear();
        inner.open = None;
        inner.backoff.reset();
    }

    /// What may be sent. After [`Admit::Probe`] one of the four functions below must be called.
    pub(super) fn admit(&self) -> Admit {
        let mut inner = lock(&self.0);
        let Some(open) = &mut inner.open else { return Admit::All };
        if open.probing {
            return Admit::Probing;
        }
        if open.until > Instant::now() {
            return Admit::NotBefore(open.until);
        }
        open.probing = true;
        Admit::Probe
    }

    /// The target took something.
    pub(super) fn taken(&self) {
        let mut inner = lock(&self.0);
        inner.failed.clear();
        if inner.open.take().is_some() {
            info!(destination = %inner.destination, "The destination takes messages again.");
        } else {
            // Not before the second success, so that a target which takes one message at a time
            // is not asked more and more often.
            inner.backoff.reset();
        }
    }

    /// The target takes nothing, at least for as long as it asked for.
    pub(super) fn refused(&self, after: Option<Duration>, reason: Text) {
        lock(&self.0).open(after, reason);
    }

    /// A message failed.
    pub(super) fn failed(&self, position: Position, reason: Text) {
        let mut inner = lock(&self.0);
        if inner.open.is_some() {
            inner.open(None, reason);
            return;
        }
        if !inner.failed.contains(&position) {
            inner.failed.push(position);
        }
        if inner.failed.len() >= FAILURES_MAX {
            inner.open(None, reason);
        }
    }

    /// The probe has come to no end.
    pub(super) fn undecided(&self) {
        if let Some(open) = &mut lock(&self.0).open {
            open.probing = false;
        }
    }
}

impl Inner {
    fn open(&mut self, after: Option<Duration>, reason: Text) {
        let wait = self.backoff.next_wait_after(after);
        let now = Instant::now();
        let until = now.checked_add(wait).unwrap_or(now);
        if let Some(open) = &mut self.open {
            (open.until, open.reason, open.probing) = (until.max(open.until), reason, false);
            return;
        }
        warn!(
            destination = %self.destination,
            %reason,
            "The destination does not take messages, they are held."
        );
        self.failed.clear();
        self.opened = self.opened.saturating_add(1);
        self.open = Some(Open { since: Timestamp::now(), reason, until, probing: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> Circuit {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        Circuit::new("d".into(), backoff)
    }

    async fn wait(circuit: &Circuit) {
        if let Admit::NotBefore(until) = circuit.admit() {
            tokio::time::sleep_until(until).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_target_is_asked_with_one_message_and_not_before_it_wants() {
        let circuit = circuit();
        assert_eq!(circuit.admit(), Admit::All);
        let asked = Duration::from_secs(7);
        circuit.refused(Some(asked), "maintenance".into());
        let Admit::NotBefore(until) = circuit.admit() else { panic!("it is open") };
        assert!(until >= Instant::now() + asked);
        wait(&circuit).await;
        assert_eq!(circuit.admit(), Admit::Probe);
        assert_eq!(circuit.admit(), Admit::Probing);
        circuit.undecided();
        assert_eq!(circuit.admit(), Admit::Probe);
        circuit.taken();
        assert_eq!(circuit.admit(), Admit::All);
        assert_eq!(circuit.view(), CircuitView { open: None, opened: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn only_different_messages_open_it() {
        let circuit = circuit();
        for _ in 0..100 {
            circuit.failed(Position(1), "500".into());
        }
        assert_eq!(circuit.admit(), Admit::All);
        for position in 2..=4 {
            circuit.failed(Position(position), "500".into());
        }
        assert_eq!(circuit.admit(), Admit::All, "four are not enough");
        circuit.taken();
        for position in 5..=9 {
            circuit.failed(Position(position), "500".into());
        }
        assert!(circuit.view().open.is_some());
        wait(&circuit).await;
        assert_eq!(circuit.admit(), Admit::Probe);
        circuit.failed(Position(5), "500".into());
        assert!(circuit.view().open.is_some(), "a probe that failed lets it stay open");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_takes_one_message_at_a_time_is_asked_less_and_less() {
        let circuit = circuit();
        for _ in 0..10 {
            circuit.refused(None, "too many".into());
            wait(&circuit).await;
            assert_eq!(circuit.admit(), Admit::Probe);
            circuit.taken();
        }
        assert_eq!(lock(&circuit.0).backoff.failures(), 10);
        circuit.taken();
        assert_eq!(lock(&circuit.0).backoff.failures(), 0);
    }
}
