//! What a dispatcher does about the verdicts of limits, and about messages that no route wants.

use std::{sync::Arc, time::Duration};

use tracing::{debug, warn};
use transload_adapter::{Receipt, Refusal, Settlement, Share, store::StoreError};
use transload_delivery::dead_letters::DeadLetter;
use transload_envelope::{Arguments, Envelope, Outgoing, Text, Timestamp};

use super::Limited;
use crate::{
    config::{UNROUTED, Unrouted},
    destination::Destination,
    dispatch::Dispatcher,
    routing::Routing,
};

impl Dispatcher {
    /// Settles a message that no route wants.
    pub(crate) async fn settle_unrouted(
        &self,
        how: Unrouted,
        envelope: &Envelope,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        self.metrics.unrouted.inc();
        match how {
            Unrouted::Drop => receipt.settle(Settlement::Unrouted),
            Unrouted::Reject => {
                let reason = Text::from_static("no route wants the message");
                receipt.settle(Settlement::Rejected { refusal: Refusal::Invalid, reason });
            }
            Unrouted::DeadLetter => {
                let now = Timestamp::now();
                let outgoing =
                    Outgoing { envelope: envelope.clone(), arguments: Arguments::default() };
                let letter = DeadLetter {
                    destination: UNROUTED.into(),
                    reason: Text::from_static("no route wants the message"),
                    attempts: 0,
                    first_failure_at: now,
                    last_failure_at: now,
                    planned: false,
                    outgoing,
                };
                let (id, address) = (&envelope.id, &envelope.address);
                warn!(%id, %address, "A message that no route wants went to the dead letters.");
                self.shared.dead_letters.add(UNROUTED, &[letter]).await?;
                receipt.settle(Settlement::Accepted);
            }
        }
        Ok(())
    }

    /// Waits for as long as a rate asks, or until nothing may wait any longer.
    pub(crate) async fn wait_for_rate(&self, wait: Duration) {
        debug!(source = %self.adapter_name, ?wait, "The rate of a route is used up, its source waits.");
        tokio::select! {
            () = self.abort.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Puts aside what limits keep from the targets of their rules, and holds what is to be held.
    pub(crate) async fn set_aside(
        &self,
        routing: &Routing,
        limited: Vec<(usize, Limited)>,
        envelope: &Envelope,
        share: &Share,
    ) -> Result<(), StoreError> {
        for (rule, verdict) in limited {
            match verdict {
                Limited::Bury(reason) => {
                    let rule = routing.rules.rules().get(rule);
                    for target in rule.into_iter().flat_map(|rule| &rule.targets) {
                        if let Some(to) = routing.destinations.get(target.destination) {
                            self.put_aside(to, envelope, share, reason.clone()).await?;
                        }
                    }
                }
                Limited::Hold(key) => {
                    let Some(limiter) = routing.limits.get(rule).map(Arc::clone) else {
                        continue;
                    };
                    self.shared.holding.hold(&limiter, key, envelope.clone(), share.clone()).await;
                }
                Limited::Drop | Limited::Wait(_) | Limited::Refuse(_) | Limited::Later(_) => {}
            }
        }
        Ok(())
    }

    /// Puts a message among the dead letters; whoever waits for a reply is told.
    async fn put_aside(
        &self,
        to: &Destination,
        envelope: &Envelope,
        share: &Share,
        reason: Text,
    ) -> Result<(), StoreError> {
        to.routed.inc();
        if let Some(responder) = &to.responder {
            let asking = &responder.asking;
            self.requests.refuse(envelope.clone(), share.clone(), asking, reason);
            return Ok(());
        }
        self.bury(to, envelope, reason).await
    }
}

/// How a message is settled that a limit keeps from all routes.
pub(crate) fn stopped(limited: &[(usize, Limited)]) -> Option<Settlement> {
    let refused = limited.iter().find_map(|(_, verdict)| verdict.refuses().cloned());
    if let Some(reason) = refused {
        return Some(Settlement::Rejected { refusal: Refusal::Full, reason });
    }
    let later = limited.iter().filter_map(|(_, verdict)| verdict.later()).max();
    later.map(|after| Settlement::Released { after })
}

/// The longest time that a message has to wait.
pub(crate) fn longest_wait(limited: &[(usize, Limited)]) -> Option<Duration> {
    limited.iter().filter_map(|(_, verdict)| verdict.waits()).max()
}
