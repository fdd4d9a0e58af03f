//! What a fake adapter does, and what it has seen: the test's side of it.
//!
//! Invariants:
//! - A message that was fed and not settled for good is given out again, in its old order, when it
//!   is released or the connection is lost, if the source acknowledges.
//! - A tag is never used twice, so the settlement of a lost connection changes nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use transload_envelope::{Envelope, MessageId, Origin, Outgoing};

use super::within;
use crate::{ConnectError, Settlement, Tag};

static SCRIPTS: Mutex<BTreeMap<String, Weak<Shared>>> = Mutex::new(BTreeMap::new());

/// What the fake peer does with a message that is sent to it.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Takes it and confirms.
    Confirm,
    /// Takes it without a word.
    Unconfirmed,
    /// Takes it and says that nobody was there.
    NoReceiver,
    /// Takes it and answers.
    Reply(Box<Envelope>),
    /// Takes it and confirms only after [`Script::release`].
    Hold,
    /// Takes it and answers only after [`Script::release`].
    ReplyLater(Box<Envelope>),
    /// Takes nothing at present.
    Busy(Option<Duration>),
    /// Loses the connection before it takes the message.
    Disconnect,
    /// Fails, and may succeed later.
    Fail,
    /// Will never take it.
    Reject,
}

impl Reaction {
    /// Whether the peer has the message afterwards.
    fn takes(&self) -> bool {
        matches!(
            self,
            Self::Confirm
                | Self::Unconfirmed
                | Self::NoReceiver
                | Self::Reply(_)
                | Self::Hold
                | Self::ReplyLater(_)
        )
    }
}

/// Why a connection to the fake peer is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFault {
    /// [`ConnectError::Unreachable`].
    Unreachable,
    /// [`ConnectError::Refused`].
    Refused,
    /// [`ConnectError::Unusable`].
    Unusable,
}

impl ConnectFault {
    pub(super) fn error(self) -> ConnectError {
        match self {
            Self::Unreachable => ConnectError::Unreachable("nobody is there".into()),
            Self::Refused => ConnectError::Refused { reason: "not you".into() },
            Self::Unusable => ConnectError::Unusable { reason: "never".into() },
        }
    }
}

/// One attempt to send a message to the fake peer.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// The name of the destination.
    pub destination: String,
    /// The target's `key`: the one that the rule made, otherwise the one of the settings.
    pub key: Option<String>,
    /// The message.
    pub outgoing: Outgoing,
    /// Whether the peer took it.
    pub taken: bool,
}

impl SentMessage {
    /// The payload as text, for comparisons.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.outgoing.envelope.payload).into_owned()
    }
}

/// A message that was given to a fake adapter, to see what becomes of it.
#[derive(Clone, Debug)]
pub struct Fed {
    sequence: u64,
    id: MessageId,
    shared: Arc<Shared>,
}

impl Fed {
    /// Its identity.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Waits until it is settled for good: not released, unless nothing would be delivered again.
    pub async fn settled(&self) -> Settlement {
        let sequence = self.sequence;
        let outcome = self.shared.until(|state| state.outcomes.get(&sequence).cloned());
        within("the settlement of a message", outcome).await
    }

    /// The same without waiting.
    pub fn outcome(&self) -> Option<Settlement> {
        self.shared.lock().outcomes.get(&self.sequence).cloned()
    }
}

/// A handle on one fake peer. Clones are the same peer.
#[derive(Clone, Debug)]
pub struct Script {
    name: String,
    shared: Arc<Shared>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// A peer that is there, has nothing to say and confirms everything.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("script-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let shared = Arc::new(Shared::default());
        let mut scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.retain(|_, script| script.strong_count() > 0);
        scripts.insert(name.clone(), Arc::downgrade(&shared));
        Self { name, shared }
    }

    pub(super) fn find(name: &str) -> Option<Arc<Shared>> {
        SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner).get(name)?.upgrade()
    }

    /// The value of the key `script` in the adapter's settings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lines of an `[adapters.NAME]` table that make it this peer.
    pub fn settings(&self) -> String {
        format!("kind = \"fake\"\nscript = \"{}\"\n", self.name)
    }

    /// Lets a message come in. It is delivered when the gateway receives.
    pub fn feed(&self, envelope: Envelope) -> Fed {
        let id = envelope.id.clone();
        let mut state = self.shared.lock();
        state.sequence += 1;
        let sequence = state.sequence;
        state.waiting.insert(sequence, Waiting { envelope, not_before: None });
        drop(state);
        self.shared.changed.notify_waiters();
        Fed { sequence, id, shared: Arc::clone(&self.shared) }
    }

    /// The same for an address and a text.
    pub fn feed_text(&self, address: &str, text: &str) -> Fed {
        let origin = Origin::new(self.name.clone(), "fake", address);
        self.feed(Envelope::new(origin, text.to_owned()))
    }

    /// Says what happens to the next messages that are sent, one after the other.
    pub fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.lock().reactions.extend(reactions);
    }

    /// Says what happens to every message for which there is no reaction left. The rule must not
    /// use the script itself.
    pub fn react_with(&self, rule: impl Fn(&SentMessage) -> Reaction + Send + 'static) {
        self.shared.lock().rule = Some(Rule(Box::new(rule)));
    }

    /// Confirms what is held, and lets nothing be held any more until [`Script::hold`].
    pub fn release(&self) {
        self.shared.change(|state| state.released = true);
    }

    /// Holds again what reacts with [`Reaction::Hold`], as at the start.
    pub fn hold(&self) {
        self.shared.change(|state| state.released = false);
    }

    /// Breaks the connection: `receive`, `lost` and every send that is under way tell of it.
    pub fn disconnect(&self) {
        self.shared.change(State::disconnect);
    }

    /// Lets connections fail from now on, or succeed with `None`. Does not break one that is made.
    pub fn fail_connections(&self, fault: Option<ConnectFault>) {
        self.shared.change(|state| state.connect_fault = fault);
    }

    /// How many attempts to connect there were, also failed ones.
    pub fn connect_attempts(&self) -> u64 {
        self.shared.lock().connect_attempts
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().connection.is_some()
    }

    /// Waits until so many attempts to connect were made in all.
    pub async fn until_connect_attempts(&self, count: u64) {
        let reached = self.shared.until(|state| (state.connect_attempts >= count).then_some(()));
        within("attempts to connect", reached).await;
    }

    /// Waits until there is a connection.
    pub async fn until_connected(&self) {
        let connected = self.shared.until(|state| state.connection);
        within("a connection", connected).await;
    }

    /// Every attempt to send, in order.
    pub fn attempts(&self) -> Vec<SentMessage> {
        self.shared.lock().sent.clone()
    }

    /// What the peer has taken, in order.
    pub fn taken(&self) -> Vec<SentMessage> {
        self.shared.lock().taken().cloned().collect()
    }

    /// Waits until the peer has taken at least so many messages, and returns all of them.
    pub async fn until_taken(&self, count: usize) -> Vec<SentMessage> {
        let taken = self.shared.until(|state| {
            (state.taken().count() >= count).then(|| state.taken().cloned().collect())
        });
        within(&format!("{count} messages at the fake peer"), taken).await
    }

    /// Waits until there were at least so many attempts to send, and returns all of them.
    pub async fn until_attempts(&self, count: usize) -> Vec<SentMessage> {
        let attempts =
            self.shared.until(|state| (state.sent.len() >= count).then(|| state.sent.clone()));
        within(&format!("{count} attempts to send to the fake peer"), attempts).await
    }

    /// Waits until the peer has so many answers to its messages, and returns all of them with the
    /// ids of what they answer.
    pub async fn until_answers(&self, count: usize) -> Vec<(MessageId, Envelope)> {
        let answers = self
            .shared
            .until(|state| (state.answers.len() >= count).then(|| state.answers.clone()));
        within(&format!("{count} answers at the fake peer"), answers).await
    }

    /// Every settlement that was applied, in order, releases included.
    pub fn settlements(&self) -> Vec<(MessageId, Settlement)> {
        self.shared.lock().settlements.clone()
    }

    /// How many messages were delivered and are not settled.
    pub fn unsettled(&self) -> usize {
        self.shared.lock().in_flight.len()
    }

    /// How many messages wait to be delivered.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Waits until so many messages are delivered and not settled.
    pub async fn until_unsettled(&self, count: usize) {
        let reached = self.shared.until(|state| (state.in_flight.len() == count).then_some(()));
        within(&format!("{count} unsettled messages"), reached).await;
    }
}

struct Rule(Box<dyn Fn(&SentMessage) -> Reaction + Send>);

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rule")
    }
}

#[derive(Debug)]
pub(super) struct Waiting {
    envelope: Envelope,
    not_before: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    sequence: u64,
    tag: u64,
    waiting: BTreeMap<u64, Waiting>,
    in_flight: BTreeMap<u64, (u64, Envelope)>,
    outcomes: BTreeMap<u64, Settlement>,
    settlements: Vec<(MessageId, Settlement)>,
    reactions: VecDeque<Reaction>,
    rule: Option<Rule>,
    sent: Vec<SentMessage>,
    pub(super) answers: Vec<(MessageId, Envelope)>,
    pub(super) released: bool,
    connect_fault: Option<ConnectFault>,
    connect_attempts: u64,
    connection: Option<u64>,
    redelivers: bool,
}

impl State {
    fn taken(&self) -> impl Iterator<Item = &SentMessage> {
        self.sent.iter().filter(|message| message.taken)
    }

    pub(super) fn disconnect(&mut self) {
        self.connection = None;
        for (sequence, envelope) in std::mem::take(&mut self.in_flight).into_values() {
            if self.redelivers {
                self.waiting.insert(sequence, Waiting { envelope, not_before: None });
            } else {
                self.outcomes.insert(sequence, Settlement::RELEASED);
            }
        }
    }

    pub(super) fn connect(&mut self, redelivers: bool) -> Result<u64, ConnectFault> {
        self.connect_attempts += 1;
        if let Some(fault) = self.connect_fault {
            return Err(fault);
        }
        self.disconnect();
        self.redelivers = redelivers;
        self.connection = Some(self.connect_attempts);
        Ok(self.connect_attempts)
    }

    pub(super) fn has(&self, connection: u64) -> bool {
        self.connection == Some(connection)
    }

    /// When the next message may be given out, if there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.waiting.values().map(|waiting| waiting.not_before.unwrap_or(now)).min()
    }

    pub(super) fn next(&mut self) -> Option<(Tag, Envelope)> {
        let now = Instant::now();
        let due = |waiting: &Waiting| waiting.not_before.is_none_or(|at| at <= now);
        let sequence = *self.waiting.iter().find(|(_, waiting)| due(waiting))?.0;
        let envelope = self.waiting.remove(&sequence)?.envelope;
        self.tag += 1;
        self.in_flight.insert(self.tag, (sequence, envelope.clone()));
        Some((Tag(self.tag), envelope))
    }

    pub(super) fn settle(&mut self, tag: Tag, settlement: Settlement) {
        let Some((sequence, envelope)) = self.in_flight.remove(&tag.0) else { return };
        self.settlements.push((envelope.id.clone(), settlement.clone()));
        match settlement {
            Settlement::Released { after } if self.redelivers => {
                let not_before = (!after.is_zero()).then(|| Instant::now() + after);
                self.waiting.insert(sequence, Waiting { envelope, not_before });
            }
            Settlement::Accepted
            | Settlement::Unrouted
            | Settlement::Replied(_)
            | Settlement::Rejected { .. }
            | Settlement::Released { .. } => {
                self.outcomes.insert(sequence, settlement);
            }
        }
    }

    pub(super) fn send(&mut self, mut message: SentMessage) -> Reaction {
        let reaction = match (self.reactions.pop_front(), &self.rule) {
            (Some(reaction), _) => reaction,
            (None, Some(rule)) => (rule.0)(&message),
            (None, None) => Reaction::Confirm,
        };
        message.taken = reaction.takes();
        self.sent.push(message);
        reaction
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Resolves with what `look` finds, looking again after each change.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(found) = look(&self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}
