//! What is known of one connection: whether it is lost, and what the server refused on it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_nats::{Event, ServerError};
use tokio_util::sync::CancellationToken;
use transload_adapter::{BoxError, Event as Counted, Observer};

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
        self.observer.count(Counted::MessageDropped, by);
    }

    /// Takes note of what the client reports.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.lose("the server closed the connection"),
            Event::SlowConsumer(_) => self.count_dropped(1),
            Event::ServerError(error) => self.note_server_error(error),
            Event::ClientError(error) => {
                tracing::debug!(%error, "the NATS client reports an error");
            }
            Event::LameDuckMode => {
                tracing::info!("the NATS server is about to shut down");
            }
            Event::Connected | Event::Draining => {}
        }
    }

    fn note_server_error(&self, error: &ServerError) {
        match error {
            ServerError::AuthorizationViolation => self.lose("authorization violation"),
            ServerError::SlowConsumer(_) => self.count_dropped(1),
            ServerError::Other(text) => match violation(text) {
                Some(Violation::Publish(subject)) => {
                    tracing::warn!(subject, "the NATS server does not permit publishing here");
                    let mut denied = lock(&self.denied);
                    if denied.len() < DENIED_MAX {
                        denied.insert(subject.to_owned());
                    }
                }
                Some(Violation::Subscription) => self.lose(text),
                None => tracing::warn!(error = text, "the NATS server reports an error"),
            },
        }
    }
}

/// Marks the link as lost when the client's event task ends, for whatever reason: the client drops
/// its callback then, also after a panic in its connection task.
pub(crate) struct Watch(pub(crate) Arc<Link>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.lose("the client has ended the connection");
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

    fn said(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.into()))
    }

    #[test]
    fn a_refused_publish_is_remembered_and_loses_nothing_else() {
        let link = Link::new(Arc::new(NoObserver));
        link.note(&said("Permissions Violation for Publish to \"a.b\""));
        assert!(link.is_denied("a.b") && !link.is_denied("a.c") && !link.is_lost());
    }

    #[test]
    fn a_refused_subscription_and_an_end_lose_the_connection() {
        for event in [
            said("Permissions Violation for Subscription to \"a.>\""),
            Event::Disconnected,
            Event::Closed,
        ] {
            let link = Link::new(Arc::new(NoObserver));
            link.note(&event);
            assert!(link.is_lost(), "{event}");
        }
    }

    #[test]
    fn the_end_of_the_client_is_a_loss() {
        let link = Link::new(Arc::new(NoObserver));
        drop(Watch(Arc::clone(&link)));
        assert!(link.is_lost());
    }
}
