//! What is known of one connection: whether it is lost, and what the server refused on it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;
use transload_adapter::{BoxError, Event, Observer};

use crate::error::Loss;

/// How many subjects that the server refused are remembered for one connection.
const DENIED_MAX: usize = 1_024;

/// The state of one connection, shared by all who use it.
#[derive(Debug)]
pub(crate) struct Link {
    lost: CancellationToken,
    reason: Mutex<Option<String>>,
    denied: Mutex<HashSet<String>>,
    observer: Arc<dyn Observer>,
}

impl Link {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Arc<Self> {
        Arc::new(Self {
            lost: CancellationToken::new(),
            reason: Mutex::default(),
            denied: Mutex::default(),
            observer,
        })
    }

    /// Declares the connection lost. The first reason counts.
    pub(crate) fn lose(&self, reason: impl Into<String>) {
        lock(&self.reason).get_or_insert_with(|| reason.into());
        self.lost.cancel();
    }

    /// Whether the connection is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Resolves when the connection is lost. Cancel-safe.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Why the connection was lost.
    pub(crate) fn reason(&self) -> BoxError {
        let reason = lock(&self.reason).clone();
        Loss::boxed(reason.unwrap_or_else(|| "the connection to the server is lost".to_owned()))
    }

    /// Whether the server has refused a publish to this subject.
    pub(crate) fn is_denied(&self, subject: &str) -> bool {
        let denied = lock(&self.denied);
        !denied.is_empty() && denied.contains(subject)
    }

    /// Counts messages that were dropped at a bound.
    pub(crate) fn count_dropped(&self, by: u64) {
        self.observer.count(Event::MessageDropped, by);
    }

    /// Takes note of an error that the server tells of.
    ///
    /// # Errors
    ///
    /// If nothing can be done with the connection any more.
    pub(crate) fn note(&self, text: &str) -> Result<(), String> {
        match violation(text) {
            Some(Violation::Publish(subject)) => {
                tracing::warn!(subject, "the NATS server does not permit publishing here");
                let mut denied = lock(&self.denied);
                if denied.len() < DENIED_MAX {
                    denied.insert(subject.to_owned());
                }
            }
            Some(Violation::Subscription) => return Err(text.to_owned()),
            None => tracing::warn!(error = text, "the NATS server reports an error"),
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum Violation<'a> {
    Publish(&'a str),
    Subscription,
}

/// Reads `Permissions Violation for Publish to "subject"` and its like.
fn violation(text: &str) -> Option<Violation<'_>> {
    let rest = text.strip_prefix("Permissions Violation for ")?;
    match rest.strip_prefix("Publish to ") {
        Some(subject) => Some(Violation::Publish(subject.trim_matches('"'))),
        None => rest.starts_with("Subscription to ").then_some(Violation::Subscription),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use transload_adapter::NoObserver;

    use super::*;

    fn link() -> Arc<Link> {
        Link::new(Arc::new(NoObserver))
    }

    #[test]
    fn a_refused_publish_is_remembered_and_loses_nothing_else() {
        let link = link();
        link.note("Permissions Violation for Publish to \"a.b\"").unwrap();
        assert!(link.is_denied("a.b") && !link.is_denied("a.c") && !link.is_lost());
    }

    #[test]
    fn a_refused_subscription_is_the_end() {
        let text = "Permissions Violation for Subscription to \"a.>\"";
        assert_eq!(link().note(text), Err(text.to_owned()));
    }

    #[test]
    fn the_first_reason_counts() {
        let link = link();
        link.note("Stale Connection").unwrap();
        assert!(!link.is_lost());
        link.lose("the broker has closed the connection");
        link.lose("the connection has ended");
        assert_eq!(link.reason().to_string(), "the broker has closed the connection");
    }
}
