//! Messages from a broker.
//!
//! Invariants:
//! - One task owns the connection and always reads it, whatever `receive` does, unless messages
//!   that must not be dropped fill the queue; a broker that heeds the receive maximum of MQTT 5 never
//!   sends so many.
//! - A message is acknowledged when its receipt is settled, in the order in which messages came.
//! - MQTT knows no negative acknowledgement: a message that is released is offered again here, and
//!   what is never settled comes again with the next connection.

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use transload_adapter::{
    Context, Delivery, Event, Inbound, Receipt, ReceiveError, Settled, SettlementQueue,
    SettlementSender, Tag,
};
use transload_envelope::{Envelope, Origin};

use super::{
    arrivals::{Arrival, Arrivals, Limits, arrivals},
    error::Broken,
    link::Link,
    unsettled::Unsettled,
    wire::{Handle, Received, Step, Wire},
};
use crate::{codec::QoS, mapping};

/// The tag of messages that nobody waits for an acknowledgement of.
const UNACKNOWLEDGED: Tag = Tag(0);

/// How many settlements are applied at once.
const RUN_MAX: usize = 256;

/// How many acknowledgements may wait for the library to send them.
const ACKNOWLEDGEMENTS_MAX: usize = 1024 * 1024;

/// How long to wait for room when a released message finds none.
const ROOM_LATER: Duration = Duration::from_millis(50);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Takes messages from the queue.
pub(super) struct ClientInbound {
    queue: mpsc::Receiver<Arrival>,
    settle: SettlementSender,
    context: Context,
    link: Arc<Link>,
    /// Waits for a credit, so that a dropped `receive` loses nothing.
    pending: Option<Arrival>,
}

/// The task that owns the connection.
pub(super) struct Driver {
    wire: Wire,
    handle: Handle,
    /// Gone when nothing more is to be handed over.
    queue: Option<Arrivals>,
    settlements: SettlementQueue,
    context: Context,
    link: Arc<Link>,
    unsettled: Unsettled,
    filters: Vec<(String, QoS)>,
    subscribed: Option<oneshot::Sender<Result<(), String>>>,
}

/// Makes the two ends for a connection that has just been made, and subscribes. The receiver tells
/// what the broker says to the subscriptions.
pub(super) fn new(
    (handle, wire): (Handle, Wire),
    filters: Vec<(String, QoS)>,
    limits: Limits,
    context: &Context,
    link: &Arc<Link>,
) -> (ClientInbound, Driver, oneshot::Receiver<Result<(), String>>) {
    let (sender, queue) = arrivals(limits);
    let (settle, settlements) = transload_adapter::settlement_channel();
    let (subscribed, answer) = oneshot::channel();
    if !handle.subscribe(&filters) {
        link.lose("the client does not take the subscriptions");
    }
    let inbound = ClientInbound {
        queue,
        settle,
        context: context.clone(),
        link: Arc::clone(link),
        pending: None,
    };
    let driver = Driver {
        wire,
        handle,
        queue: Some(sender),
        settlements,
        context: context.clone(),
        link: Arc::clone(link),
        unsettled: Unsettled::default(),
        filters,
        subscribed: Some(subscribed),
    };
    (inbound, driver, answer)
}

#[async_trait]
impl Inbound for ClientInbound {
    async fn receive(
        &mut self,
        into: &mut Vec<Delivery>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        if self.pending.is_none() {
            self.pending = self.queue.recv().await;
        }
        if self.pending.is_none() {
            return Err(if self.link.is_lost() {
                ReceiveError::Disconnected(self.link.reason())
            } else {
                ReceiveError::Ended
            });
        }
        // Not bound to the stop signal: what has been read is still handed over.
        let credits = Arc::clone(&self.context.credits);
        let mut credit = credits.acquire_owned().await.map_err(|_| ReceiveError::Ended)?;
        let mut count = 0;
        while let Some(Arrival { tag, envelope, .. }) = self.pending.take() {
            let receipt = Receipt::new(tag, credit, self.settle.clone());
            into.push(Delivery { envelope, receipt });
            count += 1;
            let next = if count < limit { self.context.try_credit() } else { None };
            let Some(next) = next else { break };
            credit = next;
            self.pending = self.queue.try_recv().ok();
        }
        Ok(count)
    }
}

/// What the loop does next.
enum Next {
    Step(Result<Step, Broken>),
    Settled,
    Due,
    Room,
    Stop,
}

impl Driver {
    /// Works until the connection is lost, or nothing is wanted any more and all is settled.
    pub(super) async fn run(mut self) {
        if let Err(broken) = self.work().await {
            self.link.lose(broken.reason());
        }
    }

    async fn work(&mut self) -> Result<(), Broken> {
        let mut overflow: Option<(Tag, Envelope)> = None;
        let mut run = Vec::with_capacity(RUN_MAX);
        loop {
            if let (Some((tag, envelope)), Some(queue)) = (overflow.take(), &self.queue) {
                let bytes = envelope.payload.len();
                match self.until_room(queue.clone(), bytes, &mut run).await {
                    Next::Room => overflow = self.offer(tag, envelope),
                    Next::Stop => {
                        // Nobody will have it, so nobody will settle it: it comes again.
                        self.queue = None;
                        self.unsettled.put_off(tag, Instant::now());
                    }
                    Next::Settled => {
                        overflow = Some((tag, envelope));
                        self.settle(&mut run)?;
                    }
                    Next::Step(_) | Next::Due => overflow = Some((tag, envelope)),
                }
                if self.link.is_lost() {
                    return Ok(());
                }
                continue;
            }
            send_acknowledgements(&self.handle, &mut self.unsettled)?;
            if self.queue.is_none() && self.unsettled.nothing_open() {
                return self.say_goodbye().await;
            }
            let step = self.next_step(&mut run).await?;
            let Some(step) = step else { return self.say_goodbye().await };
            match step? {
                Step::Message(received) => overflow = self.take(*received),
                Step::Subscribed(refusals) => self.answer_subscription(&refusals),
                Step::Connected(_) | Step::Sent(_) | Step::Acknowledged(..) | Step::Other => {}
            }
        }
    }

    /// Polls the connection until something happens on it, and does everything else meanwhile.
    /// `None` when the work is done.
    async fn next_step(
        &mut self,
        run: &mut Vec<Settled>,
    ) -> Result<Option<Result<Step, Broken>>, Broken> {
        let Self { wire, handle, queue, settlements, context, link, unsettled, .. } = self;
        let mut poll = pin!(wire.poll());
        loop {
            let due = unsettled.next_due();
            let until = due.unwrap_or_else(|| Instant::now() + ROOM_LATER);
            let open = queue.is_some();
            let next = tokio::select! {
                step = &mut poll => Next::Step(step),
                count = settlements.recv_many(run, RUN_MAX) => {
                    if count == 0 { return Ok(None) }
                    Next::Settled
                }
                () = sleep_until(until), if due.is_some() && open => Next::Due,
                () = context.stop.cancelled(), if open => Next::Stop,
                () = link.lost() => return Ok(None),
            };
            match next {
                Next::Step(step) => return Ok(Some(step)),
                Next::Settled => acknowledge(handle, unsettled, run)?,
                Next::Due => offer_again(unsettled, queue.as_ref()),
                Next::Stop | Next::Room => *queue = None,
            }
            if queue.is_none() && unsettled.nothing_open() {
                return Ok(None);
            }
        }
    }

    /// Waits for room in the queue without reading the connection.
    async fn until_room(
        &mut self,
        queue: Arrivals,
        payload_bytes: usize,
        run: &mut Vec<Settled>,
    ) -> Next {
        tokio::select! {
            room = queue.until_room(payload_bytes) => if room { Next::Room } else { Next::Stop },
            count = self.settlements.recv_many(run, RUN_MAX) => {
                if count == 0 { Next::Stop } else { Next::Settled }
            }
            () = self.context.stop.cancelled() => Next::Stop,
            () = self.link.lost() => Next::Stop,
        }
    }

    fn settle(&mut self, run: &mut Vec<Settled>) -> Result<(), Broken> {
        acknowledge(&self.handle, &mut self.unsettled, run)
    }

    /// Takes a message in; gives back what finds no room and must not be dropped.
    fn take(&mut self, received: Received) -> Option<(Tag, Envelope)> {
        let Received { message, packet_id, dup } = received;
        let origin = Origin::new(self.context.name.clone(), "mqtt", message.topic.clone())
            .with("qos", i64::from(message.qos.bits()))
            .with("retain", message.retain)
            .with("dup", dup);
        let envelope = mapping::to_envelope(&message, origin);
        if message.qos == QoS::AtMostOnce {
            self.take_unacknowledged(envelope);
            return None;
        }
        // After the stop it stays unacknowledged, and comes again.
        self.queue.as_ref()?;
        let tag = self.unsettled.enter(packet_id, envelope.clone());
        self.offer(tag, envelope)
    }

    fn take_unacknowledged(&self, envelope: Envelope) {
        let sent = self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.offer_droppable(UNACKNOWLEDGED, envelope));
        if !sent {
            self.context.observer.count(Event::MessageDropped, 1);
        }
    }

    fn offer(&self, tag: Tag, envelope: Envelope) -> Option<(Tag, Envelope)> {
        self.queue.as_ref()?.offer(tag, envelope)
    }

    fn answer_subscription(&mut self, refusals: &[(usize, String)]) {
        let refusal = refusals.first().map(|(place, reason)| {
            let filter = self.filters.get(*place).map_or("?", |(filter, _)| filter);
            format!("{filter}: {reason}")
        });
        let result = refusal.map_or(Ok(()), Err);
        let answer = self.subscribed.take().map(|answer| answer.send(result.clone()));
        // Nobody waits any more when the answer comes late.
        if let (Err(reason), None | Some(Err(_))) = (result, answer) {
            self.link.lose(reason);
        }
    }

    /// Lets the last acknowledgements out and leaves; the session stays at the broker.
    async fn say_goodbye(&mut self) -> Result<(), Broken> {
        if self.link.is_lost() || !self.handle.disconnect() {
            return Ok(());
        }
        let end = Instant::now() + GOODBYE;
        while let Ok(Ok(_)) = tokio::time::timeout_at(end, self.wire.poll()).await {}
        Ok(())
    }
}

/// Applies settlements and sends the acknowledgements whose turn it is.
fn acknowledge(
    handle: &Handle,
    unsettled: &mut Unsettled,
    run: &mut Vec<Settled>,
) -> Result<(), Broken> {
    let now = Instant::now();
    for settled in run.drain(..) {
        unsettled.settle(settled.tag, &settled.settlement, now);
    }
    send_acknowledgements(handle, unsettled)
}

/// Sends the acknowledgements whose turn it is, as far as the library has room for them. It sends
/// one for up to nine messages that it reads, and a broker may run ahead of the receive maximum:
/// mosquitto 2.0.11 was seen to have 66,000 messages open under one of 256.
fn send_acknowledgements(handle: &Handle, unsettled: &mut Unsettled) -> Result<(), Broken> {
    while let Some(packet_id) = unsettled.next_acknowledgement() {
        if !handle.acknowledge(packet_id) {
            break;
        }
        unsettled.acknowledged();
    }
    if unsettled.due_len() > ACKNOWLEDGEMENTS_MAX {
        let reason = "the broker sends much more than it takes acknowledgements";
        return Err(Broken::Lost(reason.to_owned()));
    }
    Ok(())
}

/// Hands over again what was released and has waited long enough.
fn offer_again(unsettled: &mut Unsettled, queue: Option<&Arrivals>) {
    let Some(queue) = queue else { return };
    let now = Instant::now();
    for (tag, envelope) in unsettled.due(now) {
        if queue.offer(tag, envelope).is_some() {
            unsettled.put_off(tag, now + ROOM_LATER);
        }
    }
}

#[cfg(test)]
mod tests {
    use transload_adapter::Settlement;

    use super::*;
    use crate::client::wire::{Options, REQUESTS_MAX};

    fn settle_more(unsettled: &mut Unsettled, count: usize) {
        let envelope = Envelope::new(Origin::new("a", "mqtt", "t"), "x");
        for number in 0..count {
            let packet_id = u16::try_from(number % 65_535 + 1).unwrap();
            let tag = unsettled.enter(packet_id, envelope.clone());
            unsettled.settle(tag, &Settlement::Accepted, Instant::now());
            unsettled.next_acknowledgement();
        }
    }

    #[test]
    fn acknowledgements_that_the_library_has_no_room_for_wait() {
        let options = rumqttc::v5::MqttOptions::new("a", "127.0.0.1", 1);
        // It is never polled, so it sends nothing.
        let (handle, wire) = Options::V5(Box::new(options)).wire();
        let mut unsettled = Unsettled::default();
        settle_more(&mut unsettled, REQUESTS_MAX + 7);
        assert!(send_acknowledgements(&handle, &mut unsettled).is_ok());
        assert_eq!(unsettled.due_len(), 7);
        assert_eq!(unsettled.next_acknowledgement(), Some(1), "the first that found no room");
        settle_more(&mut unsettled, ACKNOWLEDGEMENTS_MAX);
        assert!(send_acknowledgements(&handle, &mut unsettled).is_err(), "there is a bound");
        drop(wire);
    }
}
