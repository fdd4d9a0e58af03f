//! What throttles hold back: the latest message of each key, until its interval has passed.
//!
//! Each has an entry in the table `throttle`.
//!
//! - The source hears «I have it» when the entry is on disk; what it supersedes is acknowledged with it.
//! - An entry goes when its message is in the queues, on disk. A crash in between sends it twice.
//! - A message for a queue that is full stays, and newer ones supersede it meanwhile.
//! - After a restart what was held is sent when it is due, by the routes of that time. What no route
//!   wants any more goes to the dead letters of the route that had held it.

mod entry;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use transload_adapter::{
    Settlement, Share,
    store::{Append, AppendTo, Store, StoreError, Table},
};
use transload_delivery::dead_letters::DeadLetter;
use transload_envelope::{Arguments, Envelope, Outgoing, Text, Timestamp};
use transload_routing::Plan;

use self::entry::{Slot, read, value};
use super::Limiter;
use crate::{appends::group, config::WhenFull, routing::Shared, sync::lock};

/// How many messages are on their way to the holder, and how many it takes at once.
const BATCH_MAX: usize = 256;

/// How long a message stays whose queue is full or whose store has failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The name of the table.
const TABLE: &str = "throttle";

/// The way to the holder.
#[derive(Debug)]
pub(crate) struct Holding {
    sender: mpsc::Sender<Held>,
    /// Its end, until there is a holder.
    receiver: Mutex<Option<mpsc::Receiver<Held>>>,
}

/// A message to be held.
#[derive(Debug)]
pub(crate) struct Held {
    limiter: Arc<Limiter>,
    key: Text,
    due: Instant,
    envelope: Envelope,
    share: Share,
}

impl Holding {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(BATCH_MAX);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// The end of the way, for the one holder.
    pub(crate) fn receiver(&self) -> Option<mpsc::Receiver<Held>> {
        lock(&self.receiver).take()
    }

    /// Hands over a message. When the holder is gone, its share is dropped, and the source has it
    /// again.
    pub(crate) async fn hold(
        &self,
        limiter: &Arc<Limiter>,
        key: Text,
        envelope: Envelope,
        share: Share,
    ) {
        let size = envelope.size();
        let due = limiter.throttle.hold(&key, size, Instant::now());
        let held = Held { limiter: Arc::clone(limiter), key, due, envelope, share };
        if let Err(mpsc::error::SendError(held)) = self.sender.send(held).await {
            held.limiter.throttle.release(&held.key, size, None);
        }
    }
}

/// Holds messages and sends them when they are due.
#[derive(Debug)]
pub(crate) struct Holder {
    shared: Arc<Shared>,
    table: Arc<dyn Table>,
    held: mpsc::Receiver<Held>,
    waiting: HashMap<Slot, Waiting>,
    /// What waits by the time when it is due, and a number that tells them apart.
    due: BTreeMap<(Instant, u64), Slot>,
    number: u64,
    failing: bool,
}

/// The latest message of a key.
#[derive(Debug)]
struct Waiting {
    at: (Instant, u64),
    envelope: Envelope,
    durable: bool,
    /// Missing where the route does not throttle any more.
    limiter: Option<Arc<Limiter>>,
}

impl Waiting {
    /// Tells the throttle that the message is gone.
    fn release(&self, key: &str, sent: Option<Instant>) {
        if let Some(limiter) = &self.limiter {
            limiter.throttle.release(key, self.envelope.size(), sent);
        }
    }
}

/// What is to be done with a message that is due.
enum Fate {
    Send(Vec<Append>),
    /// A queue is full.
    Stay,
    /// These destinations cannot have it, for this reason; all others can.
    Bury(Vec<(Text, Text)>, Vec<Append>),
}

impl Holder {
    /// Takes over what was held before a restart.
    pub(crate) fn open(
        store: &dyn Store,
        shared: Arc<Shared>,
        held: mpsc::Receiver<Held>,
    ) -> Result<Self, StoreError> {
        let table = store.table(TABLE)?;
        let mut holder = Self {
            shared,
            table,
            held,
            waiting: HashMap::new(),
            due: BTreeMap::new(),
            number: 0,
            failing: false,
        };
        for (key, value) in holder.table.entries() {
            let Some((slot, due, envelope)) = read(&key, &value) else {
                error!(
                    ?key,
                    "An entry of the table of held messages cannot be read and stays there."
                );
                continue;
            };
            holder.restore(slot, due, envelope);
        }
        if !holder.waiting.is_empty() {
            let messages = holder.waiting.len();
            info!(messages, "Messages that throttles hold back were found on disk.");
        }
        Ok(holder)
    }

    fn restore(&mut self, slot: Slot, due: Instant, envelope: Envelope) {
        let limiter = self.shared.routing().limits.named(&slot.route).cloned();
        let limiter = limiter.filter(|limiter| limiter.settings.throttle.is_some());
        let now = Instant::now();
        let settings = limiter.as_ref().and_then(|limiter| limiter.settings.throttle.as_ref());
        // The interval may be shorter now; without a throttle nothing is waited for.
        let due = settings.map_or(now, |settings| due.min(now + settings.interval));
        if let Some(limiter) = &limiter {
            limiter.throttle.restore(&slot.key, envelope.size(), due);
        }
        self.wait(slot, due, envelope, true, limiter);
    }

    fn wait(
        &mut self,
        slot: Slot,
        due: Instant,
        envelope: Envelope,
        durable: bool,
        limiter: Option<Arc<Limiter>>,
    ) {
        self.number += 1;
        let at = (due, self.number);
        self.due.insert(at, slot.clone());
        self.waiting.insert(slot, Waiting { at, envelope, durable, limiter });
    }

    /// Holds and sends until `stop` fires; then takes what is on its way, and sends what is in memory
    /// only. When `stop` fires, nobody may hand over anything any more.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let next = self.due.first_key_value().map(|((due, _), _)| *due);
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = due => self.send_due(Instant::now()).await,
                _ = self.held.recv_many(&mut batch, BATCH_MAX) => self.take(&mut batch).await,
            }
        }
        self.held.close();
        while let Ok(held) = self.held.try_recv() {
            batch.push(held);
        }
        self.take(&mut batch).await;
        self.send_what_is_in_memory().await;
    }

    /// Takes messages over, and acknowledges them when they are safe.
    async fn take(&mut self, batch: &mut Vec<Held>) {
        let mut latest: HashMap<Slot, (Held, Vec<Share>)> = HashMap::new();
        let mut order = Vec::new();
        for held in batch.drain(..) {
            let slot = Slot { route: held.limiter.route.clone(), key: held.key.clone() };
            match latest.get_mut(&slot) {
                None => {
                    order.push(slot.clone());
                    latest.insert(slot, (held, Vec::new()));
                }
                Some((newest, shares)) => {
                    let old = std::mem::replace(newest, held);
                    supersede(&old.limiter, &old.key, old.envelope.size());
                    shares.push(old.share);
                }
            }
        }
        let writes = order.iter().map(|slot| {
            let held = latest.get(slot).map(|(held, _)| held);
            self.write(slot, held)
        });
        let written = join_all(writes).await;
        for (slot, written) in order.into_iter().zip(written) {
            if let Some((held, shares)) = latest.remove(&slot) {
                self.taken(slot, held, shares, written);
            }
        }
    }

    /// Writes an entry, where the route wants that.
    async fn write(&self, slot: &Slot, held: Option<&Held>) -> Result<(), StoreError> {
        let Some(held) = held.filter(|held| held.limiter.is_durable()) else { return Ok(()) };
        let due = self.waiting.get(slot).map_or(held.due, |waiting| waiting.at.0);
        self.table.put(slot.to_key(), value(due, &held.envelope)).await
    }

    fn taken(
        &mut self,
        slot: Slot,
        held: Held,
        mut shares: Vec<Share>,
        written: Result<(), StoreError>,
    ) {
        let Held { limiter, key, due, envelope, share } = held;
        if let Err(error) = written {
            limiter.throttle.release(&key, envelope.size(), None);
            self.failed(&error);
            return;
        }
        self.failing = false;
        let mut due = due;
        if let Some(before) = self.waiting.remove(&slot) {
            supersede(&limiter, &key, before.envelope.size());
            self.due.remove(&before.at);
            due = before.at.0;
        }
        let durable = limiter.is_durable();
        self.wait(slot, due, envelope, durable, Some(limiter));
        shares.push(share);
        for share in shares {
            share.settle(Settlement::Accepted);
        }
    }

    /// Sends what is due.
    async fn send_due(&mut self, now: Instant) {
        let mut slots = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
            && slots.len() < BATCH_MAX
        {
            slots.push(entry.remove());
        }
        self.send(slots, now).await;
    }

    async fn send_what_is_in_memory(&mut self) {
        let in_memory = self.waiting.iter().filter(|(_, waiting)| !waiting.durable);
        let slots: Vec<_> = in_memory.map(|(slot, _)| slot.clone()).collect();
        self.send(slots, Instant::now()).await;
    }

    async fn send(&mut self, slots: Vec<Slot>, now: Instant) {
        let mut appends = Vec::new();
        let mut going = Vec::new();
        for slot in slots {
            let Some(waiting) = self.waiting.get(&slot) else { continue };
            let (buried, one) = match self.fate(&slot, &waiting.envelope) {
                Fate::Send(appends) => (Vec::new(), appends),
                Fate::Bury(buried, appends) => (buried, appends),
                Fate::Stay => {
                    self.again(&slot, now);
                    continue;
                }
            };
            match self.bury(&slot, &waiting.envelope, buried).await {
                Ok(()) => {
                    appends.extend(one);
                    going.push(slot);
                }
                Err(error) => {
                    self.failed(&error);
                    self.again(&slot, now);
                }
            }
        }
        let sent = if appends.is_empty() {
            Ok(())
        } else {
            self.shared.store.append_durably(appends).await
        };
        match sent {
            Ok(()) => self.gone(going, now).await,
            Err(error) => {
                self.failed(&error);
                for slot in &going {
                    self.again(slot, now);
                }
            }
        }
    }

    /// Forgets messages that are in their queues.
    async fn gone(&mut self, slots: Vec<Slot>, now: Instant) {
        let mut deletes = Vec::new();
        for slot in slots {
            let Some(waiting) = self.waiting.remove(&slot) else { continue };
            self.due.remove(&waiting.at);
            waiting.release(&slot.key, Some(now));
            if waiting.durable {
                deletes.push(self.table.delete(slot.to_key()));
            }
        }
        for deleted in join_all(deletes).await {
            if let Err(error) = deleted {
                warn!(%error, "A held message was sent and may be sent again after a restart.");
            }
        }
    }

    /// Tries again a little later.
    fn again(&mut self, slot: &Slot, now: Instant) {
        self.number += 1;
        let at = (now + AGAIN_AFTER, self.number);
        if let Some(waiting) = self.waiting.get_mut(slot) {
            self.due.remove(&waiting.at);
            waiting.at = at;
            self.due.insert(at, slot.clone());
        }
    }

    /// What the present rules make of a message.
    fn fate(&self, slot: &Slot, envelope: &Envelope) -> Fate {
        let routing = self.shared.routing();
        let mut plan = Plan::default();
        let rule = routing.limits.rule(&slot.route);
        if !rule.is_some_and(|rule| routing.rules.plan_one(rule, envelope, &mut plan)) {
            let reason = "its route does not want it any more, and had held it back before".into();
            return Fate::Bury(vec![(slot.route.clone(), reason)], Vec::new());
        }
        for target in plan.targets() {
            let Some(to) = routing.destinations.get(target.destination) else { continue };
            if to.queue.is_full() {
                match to.when_full {
                    WhenFull::DropOldest => {
                        to.metrics.dropped.inc_by(to.queue.drop_oldest());
                    }
                    WhenFull::Block | WhenFull::Reject => return Fate::Stay,
                }
            }
        }
        let destination = |place: usize| routing.destinations.get(place);
        let failed = plan.drain_failed().filter_map(|failed| {
            let name = destination(failed.destination)?.name.clone();
            Some((name, failed.reason))
        });
        let buried: Vec<_> = failed.collect();
        let targets = plan.drain_targets().filter_map(|target| {
            let to = destination(target.destination)?;
            to.routed.inc();
            let queue = to.queue.id();
            let to = AppendTo { queue, arguments: target.arguments, share: None };
            Some((target.envelope, to))
        });
        let mut appends = Vec::new();
        group(envelope.clone(), targets, &mut appends);
        if buried.is_empty() { Fate::Send(appends) } else { Fate::Bury(buried, appends) }
    }

    async fn bury(
        &self,
        slot: &Slot,
        envelope: &Envelope,
        buried: Vec<(Text, Text)>,
    ) -> Result<(), StoreError> {
        for (destination, reason) in buried {
            let id = &envelope.id;
            warn!(%destination, %id, %reason, "A message went to the dead letters.");
            let now = Timestamp::now();
            let letter = DeadLetter {
                destination,
                reason,
                attempts: 0,
                first_failure_at: now,
                last_failure_at: now,
                planned: false,
                outgoing: Outgoing { envelope: envelope.clone(), arguments: Arguments::default() },
            };
            self.shared.dead_letters.add(&slot.route, &[letter]).await?;
        }
        Ok(())
    }

    fn failed(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%error, "Messages that throttles hold back cannot be stored.");
        }
    }
}

/// Counts a message that a newer one has taken the place of.
fn supersede(limiter: &Limiter, key: &str, size: usize) {
    limiter.metrics.throttle_superseded.inc();
    limiter.throttle.release(key, size, None);
}

impl Limiter {
    fn is_durable(&self) -> bool {
        self.settings.throttle.as_ref().is_some_and(|throttle| throttle.durable)
    }
}
