//! One request to all its targets, until there are as many replies as are wanted.

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep_until};
use transload_adapter::{BoxError, Replies, RequestError};
use transload_envelope::{Envelope, Outgoing};

use super::{Failure, Request, Responder};

/// Asks all targets at once. Of one wanted reply the first wins; of several, those that have come
/// in time count, as long as there is one.
pub(super) async fn all(
    questions: Vec<(Responder, Outgoing)>,
    request: &Request,
) -> Result<Vec<Envelope>, Failure> {
    let wanted = request.asking.settings.gather;
    let (replies, mut received) = Replies::new(wanted, request.deadline);
    let mut asked: FuturesUnordered<_> =
        questions.iter().map(|(responder, outgoing)| one(responder, outgoing, &replies)).collect();
    let mut gathered = Vec::new();
    let mut failure = None;
    while gathered.len() < wanted {
        tokio::select! {
            biased;
            Some(reply) = received.recv() => gathered.push(reply),
            Some(result) = asked.next() => {
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
        return Err(failure.unwrap_or_else(Failure::none));
    }
    Ok(gathered)
}

fn take_rest(received: &mut mpsc::Receiver<Envelope>, into: &mut Vec<Envelope>, wanted: usize) {
    while into.len() < wanted
        && let Ok(reply) = received.try_recv()
    {
        into.push(reply);
    }
}

async fn one(responder: &Responder, outgoing: &Outgoing, replies: &Replies) -> Result<(), Failure> {
    let Some((epoch, outbound)) = responder.link.current() else {
        return Err(Failure::disconnected("the target is not connected".into()));
    };
    match outbound.request(&responder.name, &responder.target, outgoing, replies).await {
        Ok(()) => Ok(()),
        Err(RequestError::Disconnected(reason)) => {
            let failure = Failure::disconnected(reason.to_string().into());
            responder.link.report(epoch, BoxError::from(reason.to_string()));
            Err(failure)
        }
        Err(error) => Err(error.into()),
    }
}
