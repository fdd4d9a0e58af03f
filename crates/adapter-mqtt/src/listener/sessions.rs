use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use transload_adapter::store::Queue;
use transload_envelope::Text;

use super::{
    incoming::Incoming,
    outgoing::InFlight,
    session::{Queued, Session},
    subscriptions::Subscription,
};
use crate::{message::Message, topic::Filter};

/// What a session knows beside its waiting messages. It belongs to the connection while there is
/// one, and waits in the registry between connections.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By filter as the client wrote it.
    pub(super) subscriptions: BTreeMap<Text, (Filter, Subscription)>,
    pub(super) in_flight: InFlight,
    /// Messages whose packet identifier is still in use; what comes behind them waits.
    pub(super) held: VecDeque<Queued>,
    pub(super) incoming: Incoming,
}

/// A will that waits for its delay.
#[derive(Debug)]
pub(super) struct Will {
    /// Its expiry counts from the time of its publication, which is not yet known, so here it
    /// counts from the epoch.
    pub(super) message: Arc<Message>,
    pub(super) delay: Duration,
}

/// All sessions of a listener, by client identifier.
///
/// A session has one holder at a time: a connection, or this registry. Whoever wants a session
/// that a connection holds asks that connection to go, and waits until it has gone.
#[derive(Debug)]
pub(super) struct Sessions {
    entries: Mutex<HashMap<Text, Held>>,
    timers: Mutex<Timers>,
    /// The earliest timer may have changed.
    pub(super) timer_changed: Notify,
    count_max: usize,
}

#[derive(Debug)]
struct Held {
    session: Arc<Session>,
    holder: Holder,
}

#[derive(Debug)]
enum Holder {
    Claimed(Signals),
    Offline(Box<Offline>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// Asks the holder to go.
    pub(super) leave: CancellationToken,
    /// Whether its user came in by a password.
    pub(super) by_password: Arc<AtomicBool>,
    /// Whether it is to go since its user is not known any more.
    dismissed: Arc<AtomicBool>,
    /// Tells that it has gone.
    gone: CancellationToken,
}

#[derive(Debug)]
struct Offline {
    state: Box<State>,
    ends_at: Option<Timer>,
    will: Option<(Timer, Arc<Message>)>,
}

/// When something is due, with a number that tells it from all others.
type Timer = (Instant, u64);

#[derive(Debug, Default)]
struct Timers {
    due: BTreeSet<(Timer, Text)>,
    count: u64,
}

/// A session in the hands of a connection, or of whoever ends it. Dropping it leaves the session
/// offline, so that even a panic of its connection loses nothing but the connection.
#[derive(Debug)]
pub(super) struct Claim {
    sessions: Arc<Sessions>,
    pub(super) signals: Signals,
    pub(super) session: Arc<Session>,
    pub(super) state: Box<State>,
    /// How long the session is kept when the claim ends.
    pub(super) keep_for: Duration,
    /// To be published when the claim ends and the delay has passed.
    pub(super) will: Option<Will>,
    removed: bool,
}

/// What there is for a client identifier.
#[derive(Debug)]
pub(super) enum Found {
    Old {
        claim: Claim,
        /// Its time has run out, and nobody has ended it yet.
        ended: bool,
        /// Of its last connection, its delay not yet passed.
        will: Option<Arc<Message>>,
    },
    /// There was none; the place is taken.
    New(Claim),
    /// There are as many sessions as may be.
    TooMany,
    /// It is another user's.
    NotYours,
}

impl Sessions {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            entries: Mutex::default(),
            timers: Mutex::default(),
            timer_changed: Notify::new(),
            count_max,
        }
    }

    /// Takes the session of this client, asking whoever holds it to go, or takes its place with
    /// the session given. Cancel-safe.
    pub(super) async fn take(self: &Arc<Self>, new: Arc<Session>) -> Found {
        loop {
            let gone = match self.try_take(&new) {
                Ok(found) => return found,
                Err(signals) => {
                    signals.leave.cancel();
                    signals.gone
                }
            };
            gone.cancelled().await;
        }
    }

    fn try_take(self: &Arc<Self>, new: &Arc<Session>) -> Result<Found, Signals> {
        let mut entries = self.entries();
        let full = entries.len() >= self.count_max;
        let signals = Signals::default();
        match entries.entry(new.client_id.clone()) {
            Entry::Vacant(_) if full => Ok(Found::TooMany),
            Entry::Vacant(place) => {
                let holder = Holder::Claimed(signals.clone());
                place.insert(Held { session: Arc::clone(new), holder });
                Ok(Found::New(self.claim(Arc::clone(new), Box::default(), signals)))
            }
            Entry::Occupied(held) if !held.get().session.may_be_taken_by(new.user()) => {
                Ok(Found::NotYours)
            }
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                match std::mem::replace(&mut held.holder, Holder::Claimed(signals.clone())) {
                    Holder::Claimed(others) => {
                        held.holder = Holder::Claimed(others.clone());
                        Err(others)
                    }
                    Holder::Offline(offline) => {
                        Ok(self.found(Arc::clone(&held.session), *offline, signals))
                    }
                }
            }
        }
    }

    fn found(self: &Arc<Self>, session: Arc<Session>, offline: Offline, signals: Signals) -> Found {
        let mut timers = self.timers();
        let will_timer = offline.will.as_ref().map(|(timer, _)| *timer);
        for timer in [offline.ends_at, will_timer].into_iter().flatten() {
            timers.due.remove(&(timer, session.client_id.clone()));
        }
        drop(timers);
        Found::Old {
            ended: offline.ends_at.is_some_and(|(end, _)| end <= Instant::now()),
            will: offline.will.map(|(_, message)| message),
            claim: self.claim(session, offline.state, signals),
        }
    }

    fn claim(
        self: &Arc<Self>,
        session: Arc<Session>,
        state: Box<State>,
        signals: Signals,
    ) -> Claim {
        Claim {
            sessions: Arc::clone(self),
            signals,
            session,
            state,
            keep_for: Duration::ZERO,
            will: None,
            removed: false,
        }
    }

    /// Puts a session of before a restart back, offline.
    pub(super) fn restore(&self, session: Arc<Session>, state: Box<State>, keep_for: Duration) {
        let client_id = session.client_id.clone();
        let holder = self.park(&client_id, state, keep_for, None);
        self.entries().insert(client_id, Held { session, holder });
    }

    /// The queues of all sessions that have one.
    pub(super) fn queues(&self) -> Vec<Arc<dyn Queue>> {
        self.entries().values().filter_map(|held| held.session.queue.clone()).collect()
    }

    /// Asks all connections to go whose user is not welcome any more; returns how many. Their
    /// sessions stay.
    pub(super) fn dismiss(&self, unwelcome: impl Fn(&Text) -> bool) -> usize {
        let mut count = 0;
        for held in self.entries().values() {
            if let Holder::Claimed(signals) = &held.holder
                && signals.by_password.load(Ordering::Relaxed)
                && held.session.user().is_some_and(&unwelcome)
            {
                signals.dismissed.store(true, Ordering::Relaxed);
                signals.leave.cancel();
                count += 1;
            }
        }
        count
    }

    /// The clients for which something is due, and when to look again.
    pub(super) fn due(&self) -> (Vec<Text>, Option<Instant>) {
        let mut timers = self.timers();
        let now = Instant::now();
        let mut clients = Vec::new();
        while let Some(((at, number), client_id)) = timers.due.pop_first() {
            if at > now {
                timers.due.insert(((at, number), client_id));
                return (clients, Some(at));
            }
            clients.push(client_id);
        }
        (clients, None)
    }

    /// The will of a client whose delay has passed.
    pub(super) fn take_due_will(&self, client_id: &Text) -> Option<Arc<Message>> {
        let mut entries = self.entries();
        let Holder::Offline(offline) = &mut entries.get_mut(client_id)?.holder else { return None };
        let ((at, _), _) = offline.will.as_ref()?;
        if *at > Instant::now() {
            return None;
        }
        offline.will.take().map(|(_, message)| message)
    }

    /// Takes a session of which the time has run out, with its will.
    pub(super) fn take_ended(
        self: &Arc<Self>,
        client_id: &Text,
    ) -> Option<(Claim, Option<Arc<Message>>)> {
        let mut entries = self.entries();
        let held = entries.get_mut(client_id)?;
        let Holder::Offline(offline) = &held.holder else { return None };
        if offline.ends_at?.0 > Instant::now() {
            return None;
        }
        let signals = Signals::default();
        let claimed = Holder::Claimed(signals.clone());
        let Holder::Offline(offline) = std::mem::replace(&mut held.holder, claimed) else {
            return None;
        };
        match self.found(Arc::clone(&held.session), *offline, signals) {
            Found::Old { claim, will, .. } => Some((claim, will)),
            Found::New(_) | Found::TooMany | Found::NotYours => None,
        }
    }

    fn park(
        &self,
        client_id: &Text,
        state: Box<State>,
        keep_for: Duration,
        will: Option<Will>,
    ) -> Holder {
        let now = Instant::now();
        let mut timers = self.timers();
        let mut timer = |at: Option<Instant>| {
            timers.count += 1;
            let timer = (at?, timers.count);
            timers.due.insert((timer, client_id.clone()));
            Some(timer)
        };
        // A time beyond the clock's range is for ever.
        let ends_at = timer(now.checked_add(keep_for));
        let will = will.and_then(|will| {
            Some((timer(now.checked_add(will.delay.min(keep_for)))?, will.message))
        });
        drop(timers);
        self.timer_changed.notify_one();
        Holder::Offline(Box::new(Offline { state, ends_at, will }))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Text, Held>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals {
    /// Whether the holder is to go since its user is not known any more.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }
}

impl Claim {
    /// Puts a new session in the place of this one, which has ended.
    pub(super) fn renew(&mut self, session: Arc<Session>) {
        if let Some(held) = self.sessions.entries().get_mut(&session.client_id) {
            held.session = Arc::clone(&session);
        }
        self.session = session;
        *self.state = State::default();
        self.will = None;
    }

    /// Takes the session, which has ended, out of the registry.
    pub(super) fn remove(mut self) {
        self.removed = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = std::mem::take(&mut self.state);
        // A connection that ended in order has done this already, and more.
        state.in_flight.release_shared();
        state.incoming.park();
        let held = std::mem::take(&mut state.held);
        for queued in held.into_iter().chain(self.session.disconnected()) {
            if let Some(lease) = queued.lease {
                lease.release();
            }
        }
        let client_id = &self.session.client_id;
        if self.removed {
            self.sessions.entries().remove(client_id);
        } else {
            let holder = self.sessions.park(client_id, state, self.keep_for, self.will.take());
            if let Some(held) = self.sessions.entries().get_mut(client_id) {
                held.holder = holder;
            }
        }
        self.signals.gone.cancel();
    }
}
