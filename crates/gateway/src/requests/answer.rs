//! The way back to the caller.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, warn};
use transload_adapter::{Refusal, ReplyPath, SendError, Sent, Settlement};
use transload_envelope::Envelope;

use super::{Failure, Request, Requests, gather};
use crate::{
    telemetry::{Kind, Span},
    trace,
};

/// How long the caller's broker may take to take an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// When a source whose answer could not be sent delivers its request again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Requests {
    /// Gives the caller its replies.
    pub(super) async fn answer(&self, request: Request, mut replies: Vec<Envelope>) {
        let wanted = request.asking.settings.gather;
        let reply = match replies.pop() {
            Some(only) if wanted == 1 => only,
            last => {
                replies.extend(last);
                gather::array(&replies, wanted, &request.envelope)
            }
        };
        request.asking.metrics.replied.inc();
        debug!(
            route = %request.asking.route,
            id = %request.envelope.id,
            "A request was answered."
        );
        let settlement = match self.path {
            ReplyPath::Settlement => Settlement::Replied(Box::new(self.fitting(reply, &request))),
            ReplyPath::Message | ReplyPath::None => match self.send(&request, reply).await {
                Ok(()) => Settlement::Accepted,
                // What cannot be said in the caller's protocol is told instead.
                Err(SendError::Rejected { reason }) => {
                    return self.fail(request, Failure::rejected(reason)).await;
                }
                Err(error) => not_sent(&request, &error),
            },
        };
        request.share.settle(settlement);
    }

    /// Tells the caller why there is no reply.
    pub(super) async fn fail(&self, request: Request, failure: Failure) {
        request.asking.metrics.failed(failure.kind).inc();
        debug!(
            route = %request.asking.route,
            id = %request.envelope.id,
            kind = failure.kind.name(),
            reason = %failure.reason,
            "A request has no reply."
        );
        let answer = failure.answer(&request.envelope);
        let settlement = match self.path {
            ReplyPath::Settlement => Settlement::Replied(Box::new(self.fitting(answer, &request))),
            _ if !self.can_be_told(&request.envelope) => failure.settlement(),
            ReplyPath::Message | ReplyPath::None => match self.send(&request, answer).await {
                Ok(()) => Settlement::Accepted,
                Err(SendError::Rejected { reason }) => {
                    warn!(route = %request.asking.route, id = %request.envelope.id, %reason, "An answer cannot be sent.");
                    Settlement::Rejected { refusal: Refusal::Target, reason }
                }
                Err(error) => not_sent(&request, &error),
            },
        };
        request.share.settle(settlement);
    }

    fn can_be_told(&self, request: &Envelope) -> bool {
        self.path == ReplyPath::Message && request.properties().reply_to.is_some()
    }

    /// Sends an answer to the address that the request names; without one the answer was not asked
    /// for.
    async fn send(&self, request: &Request, answer: Envelope) -> Result<(), SendError> {
        if !self.can_be_told(&request.envelope) {
            request.asking.metrics.unwanted.inc();
            return Ok(());
        }
        let Some((epoch, outbound)) = self.caller.current() else {
            return Err(SendError::Disconnected("the source is not connected".into()));
        };
        let answer = self.fitting(answer, request);
        let sending = outbound.answer(&request.envelope, &answer);
        match timeout(ANSWER_TIMEOUT, sending).await {
            Ok(Ok(Sent::Confirmed | Sent::Unconfirmed)) => Ok(()),
            Ok(Ok(Sent::NoReceiver)) => {
                // The caller has gone.
                request.asking.metrics.unwanted.inc();
                Ok(())
            }
            Ok(Err(SendError::Disconnected(reason))) => {
                self.caller.report(epoch, reason.to_string().into());
                Err(SendError::Disconnected(reason))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let reason = "the source does not take the answer in time".into();
                Err(SendError::Busy { after: None, reason })
            }
        }
    }

    /// The answer as the caller knows its own request, without what concerns the responder only.
    fn fitting(&self, mut answer: Envelope, request: &Request) -> Envelope {
        answer.hops = answer.hops.max(request.envelope.hops);
        if let Some(trace) = trace::step_on(&mut answer.headers)
            && trace.sampled
        {
            let name = format!("answer {}", request.asking.route);
            let span = Span::begin(trace, Kind::Producer, name).of_message(&request.envelope);
            self.telemetry.record(span.end("answered", None));
        }
        let correlation = request.envelope.properties().correlation.clone();
        let properties = answer.properties();
        if properties.correlation != correlation
            || properties.reply_to.is_some()
            || properties.expires_at.is_some()
            || properties.retain
        {
            let properties = answer.properties_mut();
            properties.correlation = correlation;
            properties.reply_to = None;
            properties.expires_at = None;
            properties.retain = false;
        }
        answer
    }
}

/// The source delivers the request again, and the next answer may arrive.
fn not_sent(request: &Request, error: &SendError) -> Settlement {
    warn!(
        route = %request.asking.route,
        id = %request.envelope.id,
        %error,
        "An answer could not be sent, the request goes back to its source."
    );
    Settlement::Released { after: AGAIN_AFTER }
}
