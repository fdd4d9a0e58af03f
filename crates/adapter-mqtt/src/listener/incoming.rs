use std::{
    collections::{HashSet, VecDeque},
    fmt,
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use transload_adapter::{
    Refusal, Settled, Settlement, SettlementQueue, SettlementSender, Tag, settlement_channel,
};
use transload_envelope::{Envelope, Text};

use crate::codec::{QoS, Reason};

/// The least time before a message that was released is handed over again, so that a gateway that
/// is shutting a route down is not asked without a pause.
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

/// Who has to settle a part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The gateway's routes.
    Routes = 0,
    /// The queues of the listener's own sessions.
    Sessions = 1,
}

/// A message that was taken from a client and is not acknowledged.
#[derive(Debug)]
struct Pending {
    packet_id: u16,
    qos: QoS,
    /// How many parts are not settled.
    open: u8,
    reason: Reason,
    text: Option<Text>,
    /// Whether anybody wanted it.
    wanted: bool,
    /// A queue was full, which a client of 3.1.1 can be told only by closing its connection.
    full: bool,
    /// Kept until the routes have settled, to be handed over again when they release it.
    envelope: Option<Envelope>,
    retry_at: Option<Instant>,
    /// What this message takes of the bound on what is between this source and the gateway.
    credit: Option<OwnedSemaphorePermit>,
}

/// An acknowledgement that is due: PUBACK or PUBREC; with `QoS` 0, nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) packet_id: u16,
    pub(super) qos: QoS,
    pub(super) reason: Reason,
    pub(super) text: Option<Text>,
    pub(super) full: bool,
}

/// The messages from one client that are not acknowledged, in the order in which they came.
///
/// Acknowledgements leave in that order ([MQTT-4.6.0-2], [MQTT-4.6.0-3]).
#[derive(Default)]
pub(super) struct Incoming {
    pending: VecDeque<Pending>,
    /// The number of the first of them.
    first: u64,
    /// How many of them are to be acknowledged.
    to_acknowledge: usize,
    /// Made with the first message, since most connections of a gateway never publish.
    channel: Option<(SettlementSender, SettlementQueue)>,
    /// Packet identifiers of `QoS` 2 between PUBREC and PUBREL.
    received: HashSet<u16>,
    /// How many wait to be handed over again.
    retries: usize,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("pending", &self.pending.len())
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// How many messages are taken and not finished, those of `QoS` 0 included.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// How many of the client's Receive Maximum are in use.
    pub(super) fn unacknowledged(&self) -> usize {
        self.to_acknowledge + self.received.len()
    }

    /// Whether a message of `QoS` 2 with this identifier was taken and is not acknowledged.
    pub(super) fn is_pending(&self, packet_id: u16) -> bool {
        self.pending
            .iter()
            .any(|pending| pending.qos == QoS::ExactlyOnce && pending.packet_id == packet_id)
    }

    /// Whether PUBREC was sent for this identifier and PUBREL has not come.
    pub(super) fn is_received(&self, packet_id: u16) -> bool {
        self.received.contains(&packet_id)
    }

    /// After a restart: what was received before.
    pub(super) fn after_restart(received: impl IntoIterator<Item = u16>) -> Self {
        Self { received: received.into_iter().collect(), ..Self::default() }
    }

    /// The packet identifiers for which PUBREC was sent and PUBREL has not come.
    pub(super) fn received(&self) -> impl Iterator<Item = u16> {
        self.received.iter().copied()
    }

    /// PUBREL has come; tells whether it was awaited.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        self.received.remove(&packet_id)
    }

    /// Takes a message and returns its number. It is acknowledged when every part that is added
    /// is settled.
    pub(super) fn add(&mut self, packet_id: u16, qos: QoS, reason: Reason) -> u64 {
        self.to_acknowledge += usize::from(qos != QoS::AtMostOnce);
        self.pending.push_back(Pending {
            packet_id,
            qos,
            open: 0,
            reason,
            text: None,
            wanted: false,
            full: false,
            envelope: None,
            retry_at: None,
            credit: None,
        });
        self.first + self.pending.len() as u64 - 1
    }

    /// Somebody has, or will have, the message.
    pub(super) fn wanted(&mut self, number: u64) {
        if let Some(pending) = self.get(number) {
            pending.wanted = true;
        }
    }

    /// Nobody has the message since everybody who wanted it was full; a client of MQTT 5 is told.
    pub(super) fn nobody_has_room(&mut self, number: u64) {
        if let Some(pending) = self.get(number) {
            pending.reason = Reason::QUOTA_EXCEEDED;
            pending.text = Some(Text::from_static("every subscriber's queue is full"));
        }
    }

    /// The message waits for one more part; returns what its receipt is made of.
    pub(super) fn open(&mut self, number: u64, part: Part) -> (Tag, SettlementSender) {
        if let Some(pending) = self.get(number) {
            pending.open += 1;
        }
        let (sender, _) = self.channel.get_or_insert_with(settlement_channel);
        (Tag(number * 2 + part as u64), sender.clone())
    }

    /// Keeps what the routes were given, and its credit.
    pub(super) fn keep(&mut self, number: u64, envelope: Envelope, credit: OwnedSemaphorePermit) {
        if let Some(pending) = self.get(number) {
            pending.envelope = Some(envelope);
            pending.credit = Some(credit);
        }
    }

    /// The retained message could not be stored: the client is told.
    pub(super) fn failed(&mut self, number: u64, reason: Reason, text: &'static str) {
        if let Some(pending) = self.get(number) {
            pending.reason = reason;
            pending.text = Some(Text::from_static(text));
            pending.full = true;
        }
    }

    /// Takes settlements into the buffer; waits for ever while nothing was handed over.
    /// Cancel-safe.
    pub(super) async fn settlements(&mut self, into: &mut Vec<Settled>) {
        match &mut self.channel {
            Some((_, queue)) if !self.pending.is_empty() => {
                queue.recv_many(into, 256).await;
            }
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Applies a settlement.
    pub(super) fn settle(&mut self, settled: Settled) {
        let Settled { tag: Tag(tag), settlement, .. } = settled;
        let part = if tag % 2 == 0 { Part::Routes } else { Part::Sessions };
        let Some(pending) = self.get(tag / 2) else { return };
        match (part, settlement) {
            // The client that sent it has gone, and sends it again or never meant it to be safe.
            (Part::Routes, Settlement::Released { .. }) if pending.envelope.is_none() => {}
            (Part::Routes, Settlement::Released { after }) => {
                pending.retry_at = Some(Instant::now() + after.max(RELEASE_PAUSE));
                // Handing it over again takes a credit of its own.
                pending.credit = None;
                self.retries += 1;
                return;
            }
            // Answers go out as messages of their own, and never with a settlement.
            (Part::Routes, Settlement::Accepted | Settlement::Replied(_)) => {
                pending.wanted = true;
                pending.reason = Reason::SUCCESS;
            }
            (Part::Routes, Settlement::Rejected { refusal, reason }) => {
                pending.wanted = true;
                pending.reason = refusal_reason(refusal);
                pending.full = refusal == Refusal::Full;
                pending.text = Some(presentable(reason));
            }
            (Part::Sessions, Settlement::Released { .. }) => {
                pending.reason = Reason::QUOTA_EXCEEDED;
                pending.text = Some(Text::from_static("the message could not be stored"));
                pending.full = true;
            }
            (Part::Routes, Settlement::Unrouted) | (Part::Sessions, _) => {}
        }
        pending.open = pending.open.saturating_sub(1);
        if part == Part::Routes {
            pending.envelope = None;
            pending.credit = None;
        }
    }

    /// The next acknowledgement that is due.
    pub(super) fn next_due(&mut self) -> Option<Due> {
        if self.pending.front()?.open > 0 {
            return None;
        }
        let pending = self.pending.pop_front()?;
        self.first += 1;
        self.to_acknowledge -= usize::from(pending.qos != QoS::AtMostOnce);
        let mut reason = pending.reason;
        if reason == Reason::SUCCESS && !pending.wanted {
            reason = Reason::NO_MATCHING_SUBSCRIBERS;
        }
        if pending.qos == QoS::ExactlyOnce && !reason.is_failure() {
            self.received.insert(pending.packet_id);
        }
        Some(Due {
            packet_id: pending.packet_id,
            qos: pending.qos,
            reason,
            text: pending.text,
            full: pending.full,
        })
    }

    /// When the next message is to be handed over again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        if self.retries == 0 {
            return None;
        }
        self.pending.iter().filter_map(|pending| pending.retry_at).min()
    }

    /// Takes a message that is to be handed over again now.
    pub(super) fn take_retry(&mut self) -> Option<(u64, Tag, SettlementSender, Envelope)> {
        if self.retries == 0 {
            return None;
        }
        let now = Instant::now();
        let due = |pending: &Pending| pending.retry_at.is_some_and(|at| at <= now);
        let place = self.pending.iter().position(due)?;
        let pending = self.pending.get_mut(place)?;
        pending.retry_at = None;
        self.retries -= 1;
        let envelope = pending.envelope.clone()?;
        let (sender, _) = self.channel.as_ref()?;
        let number = self.first + place as u64;
        Some((number, Tag(number * 2 + Part::Routes as u64), sender.clone(), envelope))
    }

    /// The client has gone. What was of `QoS` 2 is still to be known when it comes back and sends
    /// it again; nobody waits for the acknowledgement of the rest. Returns how many messages that
    /// nobody will send again were not yet handed over for good.
    pub(super) fn park(&mut self) -> u64 {
        let mut lost = 0;
        for pending in &mut self.pending {
            pending.credit = None;
            if pending.qos == QoS::ExactlyOnce {
                continue;
            }
            if pending.retry_at.take().is_some() {
                // A settlement will not come any more, so the part is closed here.
                lost += u64::from(pending.qos == QoS::AtMostOnce);
                pending.open = pending.open.saturating_sub(1);
                self.retries -= 1;
            }
            self.to_acknowledge -= usize::from(pending.qos == QoS::AtLeastOnce);
            pending.qos = QoS::AtMostOnce;
            pending.envelope = None;
        }
        lost
    }

    fn get(&mut self, number: u64) -> Option<&mut Pending> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.pending.get_mut(place)
    }
}

/// A reason as it may be sent: without U+0000, and not too long.
fn presentable(reason: Text) -> Text {
    const CHARACTERS_MAX: usize = 256;
    if reason.chars().count() <= CHARACTERS_MAX && !reason.contains('\0') {
        return reason;
    }
    let shown: String = reason.chars().filter(|c| *c != '\0').take(CHARACTERS_MAX).collect();
    shown.into()
}

/// What an MQTT 5 client is told of a refusal.
fn refusal_reason(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Full => Reason::QUOTA_EXCEEDED,
        Refusal::Invalid => Reason::PAYLOAD_FORMAT_INVALID,
        Refusal::Loop | Refusal::Target => Reason::IMPLEMENTATION_SPECIFIC,
    }
}
