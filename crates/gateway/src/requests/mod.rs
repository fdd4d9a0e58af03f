//! Requests: messages of routes with `reply`, whose senders wait for an answer.
//!
//! Invariants:
//! - A request is never stored and never waits in a queue: it is asked at once, or its caller is
//!   told at once why not.
//! - Every caller that named where its answer is to go gets one answer: what was replied, or why
//!   nothing was. The receipt of its message is settled after that, so a caller whose protocol
//!   delivers again is never forgotten.
//! - What waits is bounded per route; each waiter also holds a credit of its source.

mod answer;
mod ask;
mod failure;
mod gather;

use std::sync::Arc;

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{AnyTarget, ReplyPath, Share};
use transload_delivery::worker::Link;
use transload_envelope::{Arguments, Envelope, Outgoing, Text, Timestamp};

pub(crate) use self::failure::{Failure, Kind};
use crate::{config::Reply, metrics::RequestMetrics, telemetry::Telemetry};

/// What the requests of one route have in common.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) settings: Reply,
    pub(crate) route: Text,
    /// One permit for each request that may be under way.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) metrics: RequestMetrics,
}

impl Asking {
    pub(crate) fn new(settings: Reply, route: Text, metrics: RequestMetrics) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(settings.in_flight_max));
        Arc::new(Self { settings, route, permits, metrics })
    }
}

/// A target that is asked.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    pub(crate) asking: Arc<Asking>,
    /// The name of the destination.
    pub(crate) name: Text,
    pub(crate) target: AnyTarget,
    pub(crate) link: Link,
    /// Has one token for each request that is under way over this connection, so that its end can
    /// be waited for.
    pub(crate) asked: TaskTracker,
}

/// One question to one target.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) responder: Responder,
    pub(crate) arguments: Arguments,
    /// The message as it goes there.
    pub(crate) envelope: Envelope,
}

/// Asks for the messages of one source.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// How the source takes its answers.
    pub(crate) path: ReplyPath,
    /// The way to the source.
    pub(crate) caller: Link,
    pub(crate) tasks: TaskTracker,
    /// Where the spans of questions and answers go.
    pub(crate) telemetry: Telemetry,
    /// Fires when nothing may wait any longer.
    pub(crate) abort: CancellationToken,
}

/// One request on its way.
#[derive(Debug)]
struct Request {
    /// As it came in.
    envelope: Envelope,
    /// The source's receipt.
    share: Share,
    /// Of several routes that apply to one message, the first one's settings count.
    asking: Arc<Asking>,
    deadline: Instant,
}

impl Requests {
    /// Asks all the targets; the share is settled when the caller has its answer. At the bound of
    /// the route, the caller is told so.
    pub(crate) fn ask(&self, envelope: Envelope, share: Share, questions: Vec<Question>) {
        let Some(asking) = questions.first().map(|first| Arc::clone(&first.responder.asking))
        else {
            return;
        };
        let permit = Arc::clone(&asking.permits).try_acquire_owned();
        let (request, expires_at) = Request::new(envelope, share, asking);
        let this = self.clone();
        let asked: Vec<_> =
            questions.iter().map(|question| question.responder.asked.token()).collect();
        self.tasks.spawn(async move {
            let _asked = asked;
            let Ok(_permit) = permit else {
                let max = request.asking.settings.in_flight_max;
                let reason = format!("{max} requests of this route are under way").into();
                return this.fail(request, Failure::busy(None, reason)).await;
            };
            request.asking.metrics.in_flight.inc();
            let questions = questions.into_iter().map(|question| question.until(expires_at));
            let outcome = tokio::select! {
                outcome = ask::all(questions.collect(), &request, &this.telemetry) => outcome,
                () = this.abort.cancelled() => Err(Failure::stopping()),
            };
            request.asking.metrics.in_flight.dec();
            match outcome {
                Ok(replies) => this.answer(request, replies).await,
                Err(failure) => this.fail(request, failure).await,
            }
        });
    }

    /// Tells the caller that its message cannot be made ready for a target.
    pub(crate) fn refuse(
        &self,
        envelope: Envelope,
        share: Share,
        asking: &Arc<Asking>,
        reason: Text,
    ) {
        let (request, _) = Request::new(envelope, share, Arc::clone(asking));
        let this = self.clone();
        self.tasks.spawn(async move { this.fail(request, Failure::rejected(reason)).await });
    }
}

impl Request {
    /// The request, and when it is over: after the route's time-out, or when the message expires.
    fn new(envelope: Envelope, share: Share, asking: Arc<Asking>) -> (Self, Timestamp) {
        let now = Timestamp::now();
        let mut expires_at = now.after(asking.settings.timeout);
        if let Some(own) = envelope.properties().expires_at {
            expires_at = expires_at.min(own);
        }
        let deadline = Instant::now() + expires_at.remaining(now);
        (Self { envelope, share, asking, deadline }, expires_at)
    }
}

impl Question {
    /// Nobody is to work on what nobody waits for any more.
    fn until(mut self, expires_at: Timestamp) -> (Responder, Outgoing) {
        let properties = self.envelope.properties_mut();
        properties.expires_at = Some(expires_at);
        // The reply comes here, and from here it goes to the caller.
        properties.reply_to = None;
        (self.responder, Outgoing { envelope: self.envelope, arguments: self.arguments })
    }
}
