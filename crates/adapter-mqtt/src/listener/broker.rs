use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Context, Delivery, Event, Interest, Receipt, Settlement, Tag, settlement_channel,
    store::{Append, AppendTo, QueueId, QueueSettings, Storage, StoreError},
};
use transload_envelope::{Arguments, Envelope, Origin, Text, Timestamp};
use transload_listen::Tls;
use transload_routing::{Index, Pattern};

use super::{
    access::{self, Access},
    budget::Budget,
    config::Config,
    incoming::Incoming,
    outgoing::InFlight,
    pace::Bound,
    packets::PacketTable,
    persist::SessionTable,
    retained::{Kept, Retained},
    session::Session,
    sessions::{Claim, Sessions, State},
    stored,
    subscriptions::Subscriptions,
};
use crate::{mapping, message::Message, request::Requests};

/// How many wills and answers may be on their way at once.
const ALONE_MAX: usize = 4096;
/// How often it is measured what waits in all queues.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) config: Arc<Config>,
    pub(super) context: Context,
    /// Who is let in.
    pub(super) access: Access,
    pub(super) tls: Option<Tls>,
    /// What the routes want.
    interest: ArcSwap<Index<usize>>,
    /// To the gateway.
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) subscriptions: Subscriptions,
    pub(super) retained: Retained,
    pub(super) sessions: Arc<Sessions>,
    pub(super) table: SessionTable,
    pub(super) packets: PacketTable,
    /// What all sessions together may have waiting.
    pub(super) budget: Arc<Budget>,
    /// One permit for each message that is published in a task of its own.
    alone: Arc<Semaphore>,
    /// Ends all connections.
    pub(super) closing: CancellationToken,
    /// Requests to devices.
    pub(super) requests: Requests,
}

impl Broker {
    /// Opens the listener's tables and takes up the sessions of before.
    pub(super) async fn new(
        config: Arc<Config>,
        context: Context,
        (access, tls): (Access, Option<Tls>),
        deliveries: mpsc::Sender<Delivery>,
    ) -> Result<Arc<Self>, StoreError> {
        let name = format!("mqtt/{}", context.name);
        let interest = ArcSwap::from_pointee(index(&context.interest));
        let settings = queue_settings(&config);
        let broker = Arc::new(Self {
            budget: Budget::new(config.max_queued_bytes_in_all.get()),
            alone: Arc::new(Semaphore::new(ALONE_MAX)),
            interest,
            deliveries,
            subscriptions: Subscriptions::new(name.clone(), settings),
            retained: Retained::load(
                context.store.table(&format!("{name}/retained"))?,
                config.max_retained,
                config.max_retained_bytes.as_usize(),
            ),
            sessions: Arc::new(Sessions::new(config.max_sessions)),
            packets: PacketTable::new(context.store.table(&format!("{name}/packets"))?),
            table: SessionTable::new(context.store.table(&format!("{name}/sessions"))?),
            closing: CancellationToken::new(),
            requests: Requests::new(context.name.clone(), Arc::clone(&context.observer)),
            config,
            context,
            access,
            tls,
        });
        broker.restore().await?;
        Ok(broker)
    }

    async fn restore(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut packets = self.packets.load();
        for (client_id, stored) in self.table.load() {
            let known = packets.remove(&client_id).unwrap_or_default();
            let session = self.session(client_id, stored.user, true)?;
            for (filter, subscription) in stored.subscriptions.values() {
                self.subscriptions.add(filter, &session, *subscription, &self.context).await?;
            }
            let state = State {
                subscriptions: stored.subscriptions,
                incoming: Incoming::after_restart(known.taken),
                in_flight: InFlight::after_restart(
                    known.released,
                    self.config.max_in_flight.into(),
                ),
                ..State::default()
            };
            self.sessions.restore(session, Box::new(state), stored.keep_for);
        }
        for (client_id, known) in packets {
            // Of a session whose end a restart has cut short.
            let released = known.released.into_values();
            self.packets.forget(&client_id, known.taken.into_iter(), released).await?;
        }
        Ok(())
    }

    /// Makes a session; one that outlives its connection gets a queue in the store.
    pub(super) fn session(
        &self,
        client_id: Text,
        user: Option<Text>,
        outlives: bool,
    ) -> Result<Arc<Session>, StoreError> {
        let queue = if outlives {
            let name = format!("mqtt/{}/session/{client_id}", self.context.name);
            Some(self.context.store.queue(&name, queue_settings(&self.config))?)
        } else {
            None
        };
        let bound = Bound {
            messages_max: self.config.max_queued_messages,
            bytes_max: self.config.max_queued_bytes.as_usize(),
        };
        Ok(Arc::new(Session::new(client_id, user, queue, bound, Arc::clone(&self.budget))))
    }

    /// How long a session is kept that the client wants kept for so long.
    pub(super) fn keep_for(&self, session_expiry_s: u32) -> Duration {
        Duration::from_secs(session_expiry_s.into()).min(self.config.session_expiry_max.get())
    }

    /// Follows what the routes want, until the listener is closed.
    pub(super) async fn follow_updates(self: Arc<Self>) {
        let mut updates = self.context.updates.clone();
        loop {
            let interest = tokio::select! {
                () = self.closing.cancelled() => return,
                interest = updates.changed() => interest,
            };
            self.interest.store(Arc::new(index(&interest)));
            self.reload().await;
        }
    }

    /// Reads the files that the settings name again. A fault in one of them changes nothing.
    async fn reload(&self) {
        let adapter = &self.context.name;
        if let Some(tls) = self.tls.clone() {
            match self.context.tasks.spawn_blocking(move || tls.reload()).await {
                Ok(Ok(())) => tracing::info!(%adapter, "The certificates were read again."),
                Ok(Err(fault)) => {
                    tracing::error!(%adapter, %fault, "The certificates of before stay.");
                }
                Err(error) => tracing::error!(%adapter, %error, "No certificate was read."),
            }
        }
        if let Some(file) = self.config.users_file.clone() {
            access::reload(self, file).await;
        }
    }

    /// Whether some route wants messages of this topic.
    pub(super) fn wanted_by_routes(&self, topic: &str) -> bool {
        let mut wanted = false;
        self.interest.load().matches(topic, |_, ()| wanted = true);
        wanted
    }

    pub(super) fn count(&self, event: Event, by: u64) {
        if by > 0 {
            self.context.observer.count(event, by);
        }
    }

    /// Publishes a message that no client waits to have acknowledged: a will, or an answer.
    pub(super) async fn publish_alone(self: Arc<Self>, message: Arc<Message>, origin: Origin) {
        if self.config.local && message.retain {
            // What could not be retained was counted and logged; the message goes on.
            let _ = self.retain(&message).await;
        }
        if self.config.local {
            self.publish_local(&message).await;
        }
        if self.wanted_by_routes(&message.topic) {
            let envelope = mapping::to_envelope(&message, origin);
            self.deliver_alone(envelope).await;
        }
    }

    /// Gives a message to the subscribers, and resolves when their queues have it.
    pub(super) async fn publish_local(&self, message: &Arc<Message>) {
        let fan_out = self.fan_out(message, None, true);
        self.count(Event::MessageLocal, fan_out.receivers);
        if fan_out.queues.is_empty() {
            return;
        }
        let lost = fan_out.queues.len() as u64;
        let envelope = stored::verbatim(message, &self.context.name);
        let append = append(envelope, fan_out.queues);
        if let Err(error) = self.context.store.append_durably(vec![append]).await {
            tracing::warn!(%error, topic = %message.topic, "A message was not stored.");
            self.count(Event::MessageDropped, lost);
        }
    }

    /// Hands a message to the routes until they have settled it.
    async fn deliver_alone(&self, envelope: Envelope) {
        loop {
            let (sender, mut settled) = settlement_channel();
            let credit = tokio::select! {
                () = self.closing.cancelled() => return,
                credit = Arc::clone(&self.context.credits).acquire_owned() => credit,
            };
            let Ok(credit) = credit else { return };
            let receipt = Receipt::new(Tag(0), credit, sender);
            let delivery = Delivery { envelope: envelope.clone(), receipt };
            if self.deliveries.send(delivery).await.is_err() {
                return;
            }
            match settled.recv().await.map(|settled| settled.settlement) {
                Some(Settlement::Released { after }) => tokio::select! {
                    () = self.closing.cancelled() => return,
                    () = tokio::time::sleep(after.max(Duration::from_millis(50))) => {}
                },
                Some(Settlement::Rejected { reason, .. }) => {
                    tracing::warn!(address = %envelope.address, %reason, "A will or an answer was refused.");
                    self.count(Event::MessageRefused, 1);
                    return;
                }
                _ => return,
            }
        }
    }

    /// Keeps a retained message, or clears one.
    pub(super) async fn retain(&self, message: &Arc<Message>) -> Result<(), &'static str> {
        match self.retained.keep(message).await {
            Kept::Durably => Ok(()),
            Kept::Full => {
                tracing::warn!(topic = %message.topic, "There are too many retained messages.");
                self.count(Event::MessageRefused, 1);
                Err("there are too many retained messages")
            }
            Kept::Failed(error) => {
                tracing::warn!(%error, topic = %message.topic, "A retained message was not stored.");
                Err("the retained message could not be stored")
            }
        }
    }

    /// Ends a session: its subscriptions, its queue and what is on its way.
    pub(super) async fn end_session(
        self: &Arc<Self>,
        claim: &mut Claim,
        will: Option<Arc<Message>>,
    ) {
        let session = Arc::clone(&claim.session);
        for (text, (filter, _)) in std::mem::take(&mut claim.state.subscriptions) {
            self.subscriptions.remove(&filter, &session, &self.context).await;
            if session.queue.is_some()
                && let Err(error) = self.table.unsubscribe(&session.client_id, &text).await
            {
                tracing::warn!(client_id = %session.client_id, %error, "A subscription stays stored.");
            }
        }
        let state = &mut claim.state;
        if let Some(queue) = &session.queue {
            let packets = self.packets.forget(
                &session.client_id,
                state.incoming.received(),
                state.in_flight.released(),
            );
            let packets = packets.await;
            let removed = self.context.store.remove_queue(queue.name()).await;
            let forgotten = self.table.forget(&session.client_id).await;
            if let Err(error) = packets.and(removed).and(forgotten) {
                tracing::warn!(client_id = %session.client_id, %error, "An ended session stays stored.");
            }
        }
        state.in_flight.discard();
        if let Some(message) = will {
            self.publish_will(&session.client_id, message).await;
        }
    }

    /// Publishes a [`Will`](super::sessions::Will) in a task of its own.
    pub(super) async fn publish_will(self: &Arc<Self>, client_id: &Text, message: Arc<Message>) {
        let mut message = Arc::unwrap_or_clone(message);
        let lifetime = message.expires_at.map(|end| end.remaining(Timestamp::default()));
        message.expires_at = lifetime.map(|lifetime| Timestamp::now().after(lifetime));
        let message = Arc::new(message);
        let origin = Origin::new(self.context.name.clone(), "mqtt", message.topic.clone())
            .with("client_id", client_id.clone())
            .with("qos", i64::from(message.qos.bits()))
            .with("retain", message.retain)
            .with("will", true);
        // A client that comes and goes is not to fill the memory with wills that wait for the gateway:
        // beyond the bound it waits with its will.
        let permit = tokio::select! {
            () = self.closing.cancelled() => return,
            permit = Arc::clone(&self.alone).acquire_owned() => permit,
        };
        let broker = Arc::clone(self);
        self.context.tasks.spawn(async move {
            broker.publish_alone(message, origin).await;
            drop(permit);
        });
    }

    /// Measures what waits in all queues, until the listener closes.
    pub(super) async fn measure(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = tokio::time::sleep(MEASURE_EVERY) => {}
            }
            let groups = self.subscriptions.queues().await;
            let queues = self.sessions.queues().into_iter().chain(groups);
            self.budget.measured(queues.map(|queue| queue.depth().bytes).sum());
        }
    }

    /// Publishes wills whose delay has passed and ends sessions whose time has run out, until the
    /// listener closes.
    pub(super) async fn keep_time(self: Arc<Self>) {
        const RETAINED_SWEEP: Duration = Duration::from_mins(1);
        let mut sweep = tokio::time::Instant::now() + RETAINED_SWEEP;
        loop {
            let (clients, next) = self.sessions.due();
            for client_id in clients {
                if let Some(message) = self.sessions.take_due_will(&client_id) {
                    self.publish_will(&client_id, message).await;
                }
                if let Some((mut claim, will)) = self.sessions.take_ended(&client_id) {
                    self.end_session(&mut claim, will).await;
                    claim.remove();
                }
            }
            let wake_at = next.map_or(sweep, |next| next.min(sweep));
            tokio::select! {
                () = self.closing.cancelled() => break,
                () = self.sessions.timer_changed.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
            if tokio::time::Instant::now() >= sweep {
                self.count(Event::MessageExpired, self.retained.forget_expired().await);
                sweep = tokio::time::Instant::now() + RETAINED_SWEEP;
            }
        }
        self.subscriptions.close().await;
    }
}

/// What the routes want, for one look-up a message.
fn index(interest: &Interest) -> Index<usize> {
    let mut index = Index::new();
    for (number, pattern) in interest.patterns.iter().enumerate() {
        match Pattern::parse(pattern) {
            Ok(pattern) => drop(index.insert(&pattern, number, ())),
            // The configuration was checked; one more check costs nothing.
            Err(error) => tracing::error!(%pattern, %error, "A route's pattern is not valid."),
        }
    }
    index
}

/// An append without a receipt.
pub(super) fn append(envelope: Envelope, queues: Vec<(QueueId, Arguments)>) -> Append {
    let to =
        queues.into_iter().map(|(queue, arguments)| AppendTo { queue, arguments, share: None });
    Append { envelope, to: to.collect() }
}

/// Whether a message has no life left.
pub(super) fn expired(message: &Message) -> bool {
    message.expires_at.is_some() && message.expired(Timestamp::now())
}

fn queue_settings(config: &Config) -> QueueSettings {
    QueueSettings {
        storage: Storage::Disk,
        messages_max: config.max_queued_messages as u64,
        bytes_max: config.max_queued_bytes.get(),
        age_max: None,
    }
}
