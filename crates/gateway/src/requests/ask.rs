//! One request to all its targets, until there are as many replies as are wanted.

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep_until};
use transload_adapter::{BoxError, Replies, RequestError};
use transload_envelope::{Envelope, Outgoing};

use super::{Failure, Request, Responder};
use crate::telemetry::{Kind, Span, Telemetry};

/// Asks all targets at once. Of one wanted reply the first wins; of several, those that have come
/// in time count, as long as there is one.
pub(super) async fn all(
    mut questions: Vec<(Responder, Outgoing)>,
    request: &Request,
    telemetry: &Telemetry,
) -> Result<Vec<Envelope>, Failure> {
    let wanted = request.asking.settings.gather;
    let mut spans = Spans::begin(telemetry, &mut questions);
    let (replies, mut received) = Replies::new(wanted, request.deadline);
    let mut asked: FuturesUnordered<_> =
        (0..).zip(&questions).map(|(place, question)| one(place, question, &replies)).collect();
    let mut gathered = Vec::new();
    let mut failure = None;
    while gathered.len() < wanted {
        tokio::select! {
            biased;
            Some(reply) = received.recv() => gathered.push(reply),
            Some((place, result)) = asked.next() => {
                spans.end(place, result.as_ref().err());
                // The first failure is told if nobody replies.
                failure = failure.or(result.err());
            }
            () = sleep_until(request.deadline) => {
                failure = Some(Failure::timed_out(request.asking.settings.timeout));
                break;
            }
            else => break,
        }
        if asked.is_empty() {
            take_rest(&mut received, &mut gathered, wanted);
            break;
        }
    }
    if gathered.is_empty() {
        let failure = failure.unwrap_or_else(Failure::none);
        spans.end_all(Some(&failure));
        return Err(failure);
    }
    spans.end_all(None);
    Ok(gathered)
}

fn take_rest(received: &mut mpsc::Receiver<Envelope>, into: &mut Vec<Envelope>, wanted: usize) {
    while into.len() < wanted
        && let Ok(reply) = received.try_recv()
    {
        into.push(reply);
    }
}

/// One question, with its place among the others.
async fn one(
    place: usize,
    (responder, outgoing): &(Responder, Outgoing),
    replies: &Replies,
) -> (usize, Result<(), Failure>) {
    let Some((epoch, outbound)) = responder.link.current() else {
        let failure = Failure::disconnected("the target is not connected".into());
        return (place, Err(failure));
    };
    let outcome = outbound.request(&responder.name, &responder.target, outgoing, replies).await;
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(RequestError::Disconnected(reason)) => {
            let failure = Failure::disconnected(reason.to_string().into());
            responder.link.report(epoch, BoxError::from(reason.to_string()));
            Err(failure)
        }
        Err(error) => Err(error.into()),
    };
    (place, outcome)
}

/// The spans of the questions that belong to a sampled trace, by their places.
struct Spans<'a> {
    telemetry: &'a Telemetry,
    open: Vec<(usize, Span)>,
}

impl<'a> Spans<'a> {
    fn begin(telemetry: &'a Telemetry, questions: &mut [(Responder, Outgoing)]) -> Self {
        let spans = (0..).zip(questions).filter_map(|(place, (responder, outgoing))| {
            let span = telemetry.send(Kind::Client, "request", &responder.name, outgoing);
            Some((place, span?))
        });
        Self { telemetry, open: spans.collect() }
    }

    fn end(&mut self, place: usize, failure: Option<&Failure>) {
        for (_, span) in self.open.extract_if(.., |(known, _)| *known == place) {
            self.telemetry.record(ended(span, failure));
        }
    }

    /// Most protocols end a question only by not being asked any longer.
    fn end_all(self, failure: Option<&Failure>) {
        for (_, span) in self.open {
            self.telemetry.record(ended(span, failure));
        }
    }
}

fn ended(span: Span, failure: Option<&Failure>) -> Span {
    let outcome = failure.map_or("replied", |failure| failure.kind.name());
    span.end(outcome, failure.map(|failure| failure.reason.to_string()))
}
