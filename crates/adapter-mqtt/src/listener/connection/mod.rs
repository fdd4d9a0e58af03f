//! One client's connection: one task, which owns the session while it lasts.
//!
//! Invariants:
//! - Control packets are answered whatever the state of the data path: publishes that have to wait
//!   for the gateway wait aside, and only when more wait than may does the connection stop reading.
//! - A publish is acknowledged after the routes have settled it and every local session has it, and
//!   acknowledgements leave in the order in which the publishes came.
//! - No lock is held across an await, and nothing here waits for another client, except for the
//!   one that holds the same session.

mod control;
mod deliver;
mod end;
mod handshake;
mod publish;
mod steps;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, Sleep};
use transload_adapter::{
    Event, Settled,
    store::{Append, Leased, StoreError},
};
use transload_envelope::{Origin, Text};
use transload_listen::ClientIdentity;

use self::{
    publish::Slot,
    steps::{Noted, Step},
};
use super::{access::Permit, broker::Broker, sessions::Claim};
use crate::{
    codec::{self, Fault, Publish, Reason, Version},
    io::{Io, Progress, Stream},
    message::Message,
    request::FORBIDDEN,
};

/// How many bytes may wait to be written before the connection takes no more from its outbox, and
/// twice of which before it reads no more requests.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How many packets of one client are handled before others have their turn.
const PACKETS_MAX: usize = 32;
/// How many bytes of payloads may wait for the gateway before the connection reads no more.
const STALLED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same while it waits for a subscriber that has fallen behind, which is not for long.
const PACED_BYTES_MAX: usize = 1024 * 1024;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client went away without a word.
    Lost,
    /// DISCONNECT.
    Disconnected { will: bool },
    /// The client broke the protocol or a bound.
    Fault(Fault),
    /// Another connection has taken the session.
    TakenOver,
    /// The listener is shutting down.
    Shutdown,
}

/// What the connection has to react to.
enum Happening {
    Leave,
    Closing,
    Io(std::io::Result<Progress>),
    Settled,
    Wake,
    Leased(Result<Vec<Leased>, StoreError>),
    Slot(Option<Slot>),
    /// Nobody is waited for any more.
    Paced,
    Noted(Noted),
    /// Packets that were read wait for their turn.
    More,
    Timer,
}

type Waiting<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Waits for what is there, and for ever for what is not. Cancel-safe.
async fn ready<T>(waiting: &mut Waiting<T>) -> T {
    let Some(future) = waiting else { return std::future::pending().await };
    let output = future.await;
    *waiting = None;
    output
}

/// What a client has said of itself.
#[derive(Debug)]
struct Client {
    version: Version,
    permit: Arc<Permit>,
    username: Option<Text>,
    peer: Text,
    /// The largest packet that it takes.
    packet_bytes_max: Option<u32>,
    /// How many messages may be on their way to it.
    window: usize,
    /// Whether it wants reason strings.
    problem_information: bool,
    /// After how long without a packet it counts as lost.
    silence_max: Option<Duration>,
    /// Whether the session was to end with the connection, which it cannot take back.
    expires_at_once: bool,
}

impl Client {
    /// Whether an acknowledgement may carry this reason string: only when it is wanted, and when
    /// it does not make the packet too large ([MQTT-3.4.2-2] and others).
    fn takes_text(&self, text: &str) -> bool {
        /// What such a packet has beside its reason string, and more.
        const REST: usize = 16;
        self.problem_information
            && self
                .packet_bytes_max
                .is_none_or(|max| usize::try_from(max).is_ok_and(|max| text.len() + REST <= max))
    }
}

/// Where a client comes from.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Who it is by its certificate, where it has shown one.
    pub(super) identity: Option<Arc<ClientIdentity>>,
}

struct Connection {
    broker: Arc<Broker>,
    io: Io,
    client: Client,
    claim: Claim,
    aliases: HashMap<u16, Text>,
    /// Publishes that wait for the gateway to have room.
    stalled: VecDeque<Publish>,
    /// Bytes of their payloads.
    stalled_bytes: usize,
    slot: Waiting<Option<Slot>>,
    /// Until a subscriber that has fallen behind has caught up, publishes wait aside.
    pace: Waiting<()>,
    /// The gateway takes nothing more.
    gateway_gone: bool,
    lease: Waiting<Result<Vec<Leased>, StoreError>>,
    /// What waits to be durable before it is said.
    steps: Vec<Step>,
    noting: Waiting<Noted>,
    settled: Vec<Settled>,
    appends: Vec<Append>,
    to_retain: Vec<(Arc<Message>, Option<u64>)>,
    last_packet: Instant,
    timer: Pin<Box<Sleep>>,
    /// Set when the client is done and stalled publishes are not.
    leaving: Option<End>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.claim.session.client_id, self.client.peer)
    }
}

/// Serves one client from its first byte to its last.
pub(super) async fn serve(broker: Arc<Broker>, wire: Box<dyn Stream>, peer: Peer) {
    broker.count(Event::ConnectionOpened, 1);
    if let Some(connection) = handshake::connect(&broker, Io::new(wire), &peer).await {
        connection.run().await;
    }
    broker.count(Event::ConnectionClosed, 1);
}

impl Connection {
    async fn run(mut self) {
        tracing::debug!(connection = ?self, version = self.client.version.name(), "A client has connected.");
        let end = self.work().await;
        tracing::debug!(connection = ?self, ?end, "A client has gone.");
        self.finish(end).await;
    }

    async fn work(&mut self) -> End {
        loop {
            let step = match self.wait().await {
                Happening::Leave => Err(self.why_leave()),
                Happening::Closing => Err(End::Shutdown),
                Happening::Io(Ok(Progress::Read(0)) | Err(_)) => Err(End::Lost),
                Happening::Io(Ok(Progress::Read(_))) | Happening::More => self.on_input().await,
                Happening::Io(Ok(Progress::Wrote)) | Happening::Wake => Ok(()),
                Happening::Settled => self.on_settled(),
                Happening::Leased(leased) => self.on_leased(leased),
                Happening::Slot(slot) => self.on_slot(slot).await,
                Happening::Paced => self.on_paced().await,
                Happening::Noted(noted) => self.on_noted(noted),
                Happening::Timer => self.on_timer(),
            };
            let step = match step {
                Ok(()) => self.after(),
                Err(end) => Err(end),
            };
            match step {
                Ok(()) => {}
                // What was read before the client went is still to be handed over.
                Err(end @ (End::Lost | End::Disconnected { .. }))
                    if !self.stalled.is_empty() && self.leaving.is_none() =>
                {
                    self.leaving = Some(end);
                }
                Err(end) => return end,
            }
            let handed_over = self.stalled.is_empty() || self.gateway_gone;
            if let Some(end) = self.leaving.filter(|_| handed_over) {
                return end;
            }
        }
    }

    async fn wait(&mut self) -> Happening {
        let reading = self.leaving.is_none() && self.may_read();
        // What was read already comes first, behind the other connections' turns.
        let more = reading && self.has_unread();
        let reading = reading && !more;
        let gone = self.leaving.is_some();
        tokio::select! {
            () = self.claim.signals.leave.cancelled() => Happening::Leave,
            () = self.broker.closing.cancelled() => Happening::Closing,
            progress = self.io.progress(reading), if !gone => Happening::Io(progress),
            () = self.claim.state.incoming.settlements(&mut self.settled) => Happening::Settled,
            () = self.claim.session.wake.notified() => Happening::Wake,
            leased = ready(&mut self.lease) => Happening::Leased(leased),
            slot = ready(&mut self.slot) => Happening::Slot(slot),
            () = ready(&mut self.pace) => Happening::Paced,
            noted = ready(&mut self.noting) => Happening::Noted(noted),
            () = tokio::task::yield_now(), if more => Happening::More,
            () = self.timer.as_mut() => Happening::Timer,
        }
    }

    /// Whether the client may be read: not while more waits of it than may.
    fn may_read(&self) -> bool {
        let stalled_max = usize::from(self.broker.config.receive_maximum);
        let bytes_max = if self.pace.is_some() { PACED_BYTES_MAX } else { STALLED_BYTES_MAX };
        self.stalled.len() < stalled_max
            && self.claim.state.incoming.len() < 2 * stalled_max
            && self.steps.len() < 4 * stalled_max
            && self.stalled_bytes < bytes_max
            && self.io.output.len() < 2 * OUTPUT_BYTES_MAX
    }

    /// Handles all whole packets that were read, then does what they have in common.
    async fn on_input(&mut self) -> Result<(), End> {
        let bytes_max = self.broker.config.max_packet_bytes.as_usize();
        let mut outcome = Ok(());
        for _ in 0..PACKETS_MAX {
            if outcome.is_err() || !self.may_read() {
                break;
            }
            outcome = match self.io.next_frame(bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    self.last_packet = Instant::now();
                    match codec::decode(self.client.version, frame) {
                        Ok(packet) => self.on_packet(packet).await,
                        Err(fault) => Err(End::Fault(fault)),
                    }
                }
                Err(fault) => Err(End::Fault(fault)),
            };
        }
        self.dispatch_stalled();
        self.finish_batch().await;
        outcome
    }

    /// What is to be done after every event.
    fn after(&mut self) -> Result<(), End> {
        self.acknowledge()?;
        self.want_noted();
        self.deliver();
        self.want_lease();
        self.want_slot();
        self.set_timer();
        Ok(())
    }

    /// Whether a whole packet waits in the read buffer, or one that is refused by its length.
    fn has_unread(&self) -> bool {
        self.io.has_frame(self.broker.config.max_packet_bytes.as_usize())
    }

    /// Sets the timer where something is due earlier than it rings. It is not put off with each
    /// packet: when it rings too early, it is set anew.
    fn set_timer(&mut self) {
        let silence = self.client.silence_max.map(|silence| self.last_packet + silence);
        let retry = self.claim.state.incoming.next_retry();
        let earliest = [silence, retry].into_iter().flatten().min();
        if let Some(at) =
            earliest.filter(|at| *at < self.timer.deadline() || self.timer.is_elapsed())
        {
            self.timer.as_mut().reset(at);
        } else if earliest.is_none() && self.timer.is_elapsed() {
            self.timer.as_mut().reset(far_future());
        }
    }

    fn on_timer(&mut self) -> Result<(), End> {
        let now = Instant::now();
        // A client that is not being read cannot be heard.
        if !self.may_read() || self.leaving.is_some() {
            self.last_packet = now;
        }
        if self.client.silence_max.is_some_and(|silence| self.last_packet + silence <= now) {
            let fault = Fault::new(Reason::KEEP_ALIVE_TIMEOUT, "nothing was heard in time");
            return Err(End::Fault(fault));
        }
        Ok(())
    }

    fn why_leave(&self) -> End {
        if self.claim.signals.is_dismissed() {
            return Self::fault(Reason::NOT_AUTHORIZED, "the user is not known any more");
        }
        End::TakenOver
    }

    fn fault(reason: Reason, what: &'static str) -> End {
        End::Fault(Fault::new(reason, what))
    }

    /// The attributes of a message from this client.
    fn origin(&self, message: &Message) -> Origin {
        let origin = Origin::new(
            self.broker.context.name.clone(),
            Text::from_static("mqtt"),
            message.topic.clone(),
        )
        .with(Text::from_static("client_id"), self.claim.session.client_id.clone())
        .with(Text::from_static("qos"), i64::from(message.qos.bits()))
        .with(Text::from_static("retain"), message.retain)
        .with(Text::from_static("peer"), self.client.peer.clone())
        .with(Text::from_static("protocol_version"), self.client.version.name());
        let origin = match &self.client.username {
            Some(username) => origin.with(Text::from_static("username"), username.clone()),
            None => origin,
        };
        let topic = message.properties.as_deref().and_then(|sent| sent.response_topic.as_ref());
        let permit = &self.client.permit;
        let may = |topic: &Text| permit.may_receive(topic) || permit.may_publish(topic);
        if topic.is_some_and(|topic| !may(topic)) {
            return origin.with(FORBIDDEN, true);
        }
        origin
    }
}

/// So far away that a timer set to it never rings.
fn far_future() -> Instant {
    Instant::now() + Duration::from_hours(24 * 365)
}
