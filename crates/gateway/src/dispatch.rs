//! From a source to the queues: match the rules, append, and leave the receipt with the queues.
//!
//! Invariants:
//! - A message is taken by all of its destinations or by none: room is looked for before the first
//!   append, so that a source that tries again does not multiply what others already have.
//! - Every receipt is settled, shared out to queues, or dropped (which releases it).

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use transload_adapter::{
    ByteRoom, Delivery, Inbound, Receipt, ReceiveError, Refusal, Settlement, Share,
    store::{Append, AppendTo, StoreError},
};
use transload_delivery::{backoff::Backoff, dead_letters::DeadLetter};
use transload_envelope::{Arguments, Envelope, Outgoing, Text, Timestamp};
use transload_routing::Plan;

use crate::{
    appends::Grouped,
    config::{Unrouted, WhenFull},
    deduplication::Deduplication,
    destination::Destination,
    limits::{Limited, Passage, longest_wait, stopped},
    metrics::AdapterMetrics,
    requests::{Question, Requests},
    routing::{Routing, Shared},
    telemetry::{Passing, Telemetry},
    trace, unsettled,
};

/// How many deliveries are taken from a source at once.
const BATCH_MAX: usize = 256;

/// How many routes a message may pass before it is taken for one that runs in a circle.
const HOPS_MAX: u8 = 16;

/// How long a source waits that was told that there is no room.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Takes what comes from one adapter and gives it to the queues of its destinations.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) adapter_name: Text,
    /// The source can be told at once that there is no room.
    pub(crate) source_refuses: bool,
    /// How many bytes may be unsettled.
    pub(crate) unsettled: ByteRoom,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: AdapterMetrics,
    /// Asks for replies.
    pub(crate) requests: Requests,
    /// Where the spans of messages go.
    pub(crate) telemetry: Telemetry,
    /// Recognizes messages that were accepted before, if it is wanted.
    pub(crate) deduplication: Option<Arc<Deduplication>>,
    /// Fires when nothing may wait any longer.
    pub(crate) abort: CancellationToken,
}

/// What the queues have to say about one more message.
enum Room {
    Free,
    /// At least one queue is full, and its policy is to refuse.
    Refuse,
    /// At least one queue is full, and its policy is to wait: the place of that destination.
    Wait(usize),
}

/// What a message comes to by its plan.
enum Verdict {
    /// It is taken, but for what limits keep from the targets of their rules.
    Take(Vec<(usize, Limited)>),
    Unrouted(Unrouted),
    /// A limit keeps it from all rules.
    Limited(Settlement),
    /// There is no room, for good.
    Refuse,
    /// There is no room, or no rule any more: the source is to come again.
    Release,
}

impl Verdict {
    /// Its name in spans.
    fn name(&self) -> &'static str {
        match self {
            Self::Take(_) => "routed",
            Self::Unrouted(_) => "unrouted",
            Self::Limited(_) => "limited",
            Self::Refuse => "refused",
            Self::Release => "released",
        }
    }
}

/// The rules that a message is routed by, and the number by which they know its adapter.
struct Rules {
    routing: Arc<Routing>,
    adapter: Option<usize>,
}

impl Dispatcher {
    /// Dispatches until the source has no more.
    pub(crate) async fn run(&self, inbound: &mut dyn Inbound) -> ReceiveError {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut plan = Plan::default();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut limit = BATCH_MAX;
        loop {
            if let Err(error) = inbound.receive(&mut batch, limit).await {
                return error;
            }
            let bytes = batch.iter().map(|delivery| delivery.envelope.payload.len()).sum();
            limit = unsettled::batch_len(batch.len(), bytes, BATCH_MAX);
            match self.dispatch(&mut batch, &mut plan).await {
                Ok(()) => self.stored_again(&mut backoff),
                Err(error) => self.not_stored(&error, &mut backoff).await,
            }
        }
    }

    async fn dispatch(&self, batch: &mut Vec<Delivery>, plan: &mut Plan) -> Result<(), StoreError> {
        let mut passing = Passing::default();
        let outcome = self.route(batch, plan, &mut passing).await;
        passing.end(&self.telemetry, outcome.as_ref().err());
        outcome
    }

    async fn route(
        &self,
        batch: &mut Vec<Delivery>,
        plan: &mut Plan,
        passing: &mut Passing,
    ) -> Result<(), StoreError> {
        self.metrics.received.inc_by(batch.len() as u64);
        let mut rules = self.rules();
        let mut appends = Vec::with_capacity(batch.len());
        for Delivery { envelope, mut receipt } in batch.drain(..) {
            self.occupy(&mut receipt, envelope.payload.len(), &mut appends).await?;
            let Some((envelope, receipt)) = self.admit(envelope, receipt, passing) else {
                continue;
            };
            let first = match &self.deduplication {
                Some(deduplication) => deduplication.admit(&envelope, receipt),
                None => Some(receipt),
            };
            let Some(receipt) = first else {
                passing.repeated();
                continue;
            };
            self.shared.recent.keep(&envelope);
            let verdict = self.decide(&mut rules, &envelope, plan, &mut appends).await?;
            let routing = &*rules.routing;
            passing.decided(verdict.name(), routing, plan);
            routing.conditions.count(&routing.rules, &self.adapter_name, &envelope, plan);
            match verdict {
                Verdict::Take(limited) => {
                    let share = receipt.share();
                    self.set_aside(routing, limited, &envelope, &share).await?;
                    self.plan_appends(routing, envelope, share, plan, &mut appends).await?;
                }
                Verdict::Unrouted(how) => self.settle_unrouted(how, &envelope, receipt).await?,
                Verdict::Limited(settlement) => {
                    self.metrics.refused.inc();
                    receipt.settle(settlement);
                }
                Verdict::Refuse => self.refuse_for_lack_of_room(receipt),
                Verdict::Release => {
                    self.metrics.refused.inc();
                    receipt.settle(Settlement::Released { after: FULL_RETRY_AFTER });
                }
            }
        }
        if appends.is_empty() { Ok(()) } else { self.shared.store.append(appends).await }
    }

    /// The rules that are in force now.
    fn rules(&self) -> Rules {
        let routing = self.shared.routing();
        Rules { adapter: routing.adapter(&self.adapter_name), routing }
    }

    /// Takes room for a message, and waits for it where there is none.
    async fn occupy(
        &self,
        receipt: &mut Receipt,
        payload_bytes: usize,
        appends: &mut Vec<Append>,
    ) -> Result<(), StoreError> {
        if let Some(occupied) = self.unsettled.take(payload_bytes) {
            receipt.occupy(occupied);
            return Ok(());
        }
        // What was planned before is what will give back its room.
        self.shared.store.append(std::mem::take(appends)).await?;
        tokio::select! {
            () = self.abort.cancelled() => {}
            occupied = self.unsettled.wait(payload_bytes) => receipt.occupy(occupied),
        }
        Ok(())
    }

    /// Plans a message, and waits for room where the plan has to. When the rules are replaced
    /// meanwhile, the message is planned anew as a whole.
    async fn decide(
        &self,
        rules: &mut Rules,
        envelope: &Envelope,
        plan: &mut Plan,
        appends: &mut Vec<Append>,
    ) -> Result<Verdict, StoreError> {
        loop {
            // An adapter that the rules do not know is about to be closed.
            let Some(adapter) = rules.adapter else { return Ok(Verdict::Release) };
            let mut passage = Passage::new(&rules.routing.limits, self.source_refuses);
            rules.routing.rules.route_through(adapter, envelope, plan, &mut passage);
            let limited = passage.verdicts();
            if plan.is_unrouted() {
                return Ok(Verdict::Unrouted(rules.routing.unrouted(adapter)));
            }
            if let Some(settlement) = stopped(&limited) {
                return Ok(Verdict::Limited(settlement));
            }
            if let Some(wait) = longest_wait(&limited) {
                // What was planned before must not wait for the rate.
                self.shared.store.append(std::mem::take(appends)).await?;
                self.wait_for_rate(wait).await;
            }
            let full = match Self::room(&rules.routing, plan) {
                Room::Free => return Ok(Verdict::Take(limited)),
                Room::Refuse => return Ok(Verdict::Refuse),
                Room::Wait(_) if self.source_refuses => return Ok(Verdict::Release),
                Room::Wait(full) => full,
            };
            // What was planned before must not wait behind the full queue.
            self.shared.store.append(std::mem::take(appends)).await?;
            self.wait_for_room(&rules.routing, full, plan).await;
            if !rules.routing.replaced.is_cancelled() {
                return Ok(Verdict::Take(limited));
            }
            *rules = self.rules();
        }
    }

    /// Turns away what is not to be routed at all.
    fn admit(
        &self,
        mut envelope: Envelope,
        receipt: Receipt,
        passing: &mut Passing,
    ) -> Option<(Envelope, Receipt)> {
        passing.next();
        // Only for these is the clock read.
        if envelope.properties().expires_at.is_some()
            && envelope.properties().expired(Timestamp::now())
        {
            debug!(adapter = %self.adapter_name, id = %envelope.id, "The message came in expired.");
            receipt.settle(Settlement::Accepted);
            return None;
        }
        if envelope.hops >= HOPS_MAX {
            warn!(
                adapter = %self.adapter_name,
                address = %envelope.address,
                id = %envelope.id,
                hops = envelope.hops,
                "The message runs in a circle and is refused."
            );
            self.metrics.refused.inc();
            let reason = Text::from_static("the message has passed too many routes");
            receipt.settle(Settlement::Rejected { refusal: Refusal::Loop, reason });
            return None;
        }
        envelope.hops += 1;
        if let Some(trace) = trace::step(&mut envelope.headers, &self.telemetry) {
            passing.admitted(self.telemetry.receive(&trace, &envelope));
            debug!(
                adapter = %self.adapter_name,
                address = %envelope.address,
                id = %envelope.id,
                %trace,
                "A message of a trace came in."
            );
        }
        Some((envelope, receipt))
    }

    fn room(routing: &Routing, plan: &Plan) -> Room {
        let mut room = Room::Free;
        for target in plan.targets() {
            let Some(destination) = routing.destinations.get(target.destination) else {
                continue;
            };
            if destination.responder.is_some() || !destination.queue.is_full() {
                continue;
            }
            match destination.when_full {
                WhenFull::DropOldest => {
                    let dropped = destination.queue.drop_oldest();
                    destination.metrics.dropped.inc_by(dropped);
                }
                WhenFull::Reject => return Room::Refuse,
                WhenFull::Block => room = Room::Wait(target.destination),
            }
        }
        room
    }

    fn refuse_for_lack_of_room(&self, receipt: Receipt) {
        self.metrics.refused.inc();
        let reason = Text::from_static("the queue of a destination is full");
        receipt.settle(Settlement::Rejected { refusal: Refusal::Full, reason });
    }

    /// Ends also when the rules are replaced.
    async fn wait_for_room(&self, routing: &Routing, full: usize, plan: &Plan) {
        let mut full = Some(full);
        while let Some(destination) = full.and_then(|place| routing.destinations.get(place)) {
            info!(
                destination = %destination.name,
                source = %self.adapter_name,
                "The queue is full, its source waits."
            );
            tokio::select! {
                () = self.abort.cancelled() => return,
                () = routing.replaced.cancelled() => return,
                () = destination.queue.room() => {}
            }
            full = if let Room::Wait(next) = Self::room(routing, plan) { Some(next) } else { None };
        }
    }

    async fn plan_appends(
        &self,
        routing: &Routing,
        envelope: Envelope,
        share: Share,
        plan: &mut Plan,
        appends: &mut Vec<Append>,
    ) -> Result<(), StoreError> {
        for failed in plan.drain_failed() {
            if let Some(destination) = routing.destinations.get(failed.destination) {
                destination.routed.inc();
                if let Some(responder) = &destination.responder {
                    let (asking, share) = (&responder.asking, share.clone());
                    self.requests.refuse(envelope.clone(), share, asking, failed.reason);
                    continue;
                }
                self.bury(destination, &envelope, failed.reason).await?;
            }
        }
        let mut to = Grouped::with_capacity(plan.targets().len());
        let mut questions = Vec::new();
        for target in plan.drain_targets() {
            let Some(destination) = routing.destinations.get(target.destination) else {
                continue;
            };
            destination.routed.inc();
            if let Some(responder) = &destination.responder {
                let shaped = target.envelope.map(Arc::unwrap_or_clone);
                questions.push(Question {
                    responder: responder.clone(),
                    arguments: target.arguments,
                    envelope: shaped.unwrap_or_else(|| envelope.clone()),
                });
                continue;
            }
            let append = AppendTo {
                queue: destination.queue.id(),
                arguments: target.arguments,
                share: Some((share.clone(), destination.settle_on)),
            };
            to.add(target.envelope, append);
        }
        if !questions.is_empty() {
            self.requests.ask(envelope.clone(), share.clone(), questions);
        }
        to.finish(envelope, appends);
        share.settle(Settlement::Accepted);
        Ok(())
    }

    /// Puts a message that cannot be made ready for a destination among the dead letters.
    pub(crate) async fn bury(
        &self,
        destination: &Destination,
        envelope: &Envelope,
        reason: Text,
    ) -> Result<(), StoreError> {
        let (name, id) = (&destination.name, &envelope.id);
        warn!(destination = %name, %id, %reason, "A message went to the dead letters.");
        let now = Timestamp::now();
        let letter = DeadLetter {
            destination: name.clone(),
            reason,
            attempts: 0,
            first_failure_at: now,
            last_failure_at: now,
            planned: false,
            outgoing: Outgoing { envelope: envelope.clone(), arguments: Arguments::default() },
        };
        self.shared.dead_letters.add(&destination.route, &[letter]).await
    }

    fn stored_again(&self, backoff: &mut Backoff) {
        if backoff.failures() > 0 {
            info!(adapter = %self.adapter_name, "Messages are stored again.");
            backoff.reset();
        }
    }

    /// The receipts have been dropped, so the source will deliver again: not too soon.
    async fn not_stored(&self, error: &StoreError, backoff: &mut Backoff) {
        if backoff.failures() == 0 {
            warn!(adapter = %self.adapter_name, %error, "Messages cannot be stored, none is accepted.");
        }
        tokio::select! {
            () = self.abort.cancelled() => {}
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}
