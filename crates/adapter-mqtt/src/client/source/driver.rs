use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until, timeout};
use transload_adapter::{Context, Event, Settled, SettlementQueue};
use transload_envelope::{Origin, Text, Timestamp};

use super::{
    arrivals::{Arrival, Arrivals},
    handshake::{Granted, said, unreadable},
    keep_alive::{Due, KeepAlive},
    subscription::Subscription,
    unsettled::Unsettled,
};
use crate::{
    client::{config::ClientConfig, error::Broken, link::Link},
    codec::{
        self, Ack, AckKind, Farewell, Fault, FromServer, Publish, QoS, Reason, Version,
        decode_from_server,
    },
    io::{Io, Progress},
    mapping,
    message::Message,
};

/// How many settlements are applied at once.
const RUN_MAX: usize = 1024;

/// How many bytes may wait to be written. Above it no acknowledgement is made, no settlement is
/// taken and nothing is read, so that a broker that does not read cannot fill the memory.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// How many messages may be unacknowledged: as many as there are packet identifiers. Above it nothing
/// is read. A broker that heeds the receive maximum never sends so many.
const UNSETTLED_MAX: usize = u16::MAX as usize;

/// How long to wait for room when a released message finds none.
const ROOM_LATER: Duration = Duration::from_millis(50);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// The task that owns the connection.
pub(super) struct Driver {
    io: Io,
    version: Version,
    packet_bytes_max: usize,
    /// How many released messages may wait. Above it nothing is read: each holds its payload.
    released_max: usize,
    client_id: String,
    /// Gone when nothing more is to be handed over; then nothing is read either.
    queue: Option<Arrivals>,
    settlements: SettlementQueue,
    /// Used again for every run; empty between two.
    run: Vec<Settled>,
    unsettled: Unsettled,
    /// What has been read and finds no room. Nothing more is read meanwhile.
    held: Option<Arrival>,
    subscription: Subscription,
    keep_alive: KeepAlive,
    timer: Pin<Box<Sleep>>,
    context: Context,
    link: Arc<Link>,
}

/// What the loop has to react to.
enum Next {
    Io(std::io::Result<Progress>),
    Settled(usize),
    Room(bool),
    Timer,
    Stop,
    Lost,
}

/// The part of a driver that comes from the connection, to which its owner is to be added.
pub(super) struct Unowned<'a> {
    pub(super) io: Io,
    pub(super) config: &'a ClientConfig,
    pub(super) granted: &'a Granted,
    pub(super) subscription: Subscription,
    pub(super) queue: Arrivals,
    pub(super) settlements: SettlementQueue,
}

impl Driver {
    /// Subscribes on a connection that has just been made.
    pub(super) fn new(
        connection: Unowned<'_>,
        client_id: String,
        context: &Context,
        link: &Arc<Link>,
    ) -> Result<Self, Broken> {
        let Unowned { mut io, config, granted, subscription, queue, settlements } = connection;
        let version = config.version.on_the_wire();
        subscription.write(io.output.buffer(), version, granted.packet_bytes_max)?;
        let now = Instant::now();
        let keep_alive = KeepAlive::new(granted.keep_alive, now);
        Ok(Self {
            io,
            version,
            packet_bytes_max: config.max_packet_bytes.as_usize(),
            released_max: config.max_inflight.max(1).into(),
            client_id,
            queue: Some(queue),
            settlements,
            run: Vec::with_capacity(RUN_MAX),
            unsettled: Unsettled::default(),
            held: None,
            subscription,
            timer: Box::pin(sleep_until(keep_alive.next())),
            keep_alive,
            context: context.clone(),
            link: Arc::clone(link),
        })
    }

    /// Works until the connection is lost, or nothing is wanted any more and all is settled.
    pub(super) async fn run(mut self) {
        let Err(broken) = self.work().await else { return };
        self.link.lose(broken.reason());
        // What was read is received all the same.
        self.queue = None;
        // A broker that broke the protocol is told why, if it listens; others are gone.
        drop(timeout(GOODBYE, self.io.close()).await);
    }

    async fn work(&mut self) -> Result<(), Broken> {
        loop {
            self.acknowledge();
            // Some may have come right behind CONNACK, or wait since there was no room.
            if self.may_read() && self.io.has_frame(self.packet_bytes_max) {
                self.on_frames()?;
            }
            if self.queue.is_none() && self.unsettled.nothing_open() {
                return self.say_goodbye().await;
            }
            self.set_timer();
            match self.wait().await {
                Next::Io(Ok(Progress::Read(0))) => {
                    return Err(Broken::Lost("the broker closed the connection".to_owned()));
                }
                Next::Io(Ok(Progress::Read(_))) => self.keep_alive.heard(Instant::now()),
                Next::Io(Ok(Progress::Wrote)) => {}
                Next::Io(Err(error)) => return Err(Broken::Lost(format!("I/O: {error}"))),
                Next::Settled(0) | Next::Lost => return self.say_goodbye().await,
                Next::Settled(_) => self.settle(),
                Next::Room(true) => self.on_room(),
                Next::Room(false) | Next::Stop => self.stop(),
                Next::Timer => self.on_timer()?,
            }
        }
    }

    /// Waits for the next thing to happen. Cancel-safe, as each of its branches is.
    async fn wait(&mut self) -> Next {
        let reading = self.may_read();
        self.keep_alive.reads(reading);
        let settling = self.io.output.len() < OUTPUT_BYTES_MAX;
        let Self { io, queue, held, settlements, run, timer, context, link, .. } = self;
        let room = async {
            match (&*queue, &*held) {
                (Some(queue), Some(held)) => queue.until_room(held.envelope.payload.len()).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            progress = io.progress(reading) => Next::Io(progress),
            count = settlements.recv_many(run, RUN_MAX), if settling => Next::Settled(count),
            room = room => Next::Room(room),
            () = timer.as_mut() => Next::Timer,
            () = context.stop.cancelled(), if queue.is_some() => Next::Stop,
            () = link.lost() => Next::Lost,
        }
    }

    /// Whether more may be taken in.
    fn may_read(&self) -> bool {
        self.queue.is_some()
            && self.held.is_none()
            && self.unsettled.len() < UNSETTLED_MAX
            && self.unsettled.released() < self.released_max
            && self.io.output.len() < OUTPUT_BYTES_MAX
    }

    /// Takes all whole frames that were read, as far as there is room, and wakes the other end of the
    /// queue once.
    fn on_frames(&mut self) -> Result<(), Broken> {
        let now = Timestamp::now();
        let mut outcome = Ok(());
        while outcome.is_ok() && self.may_read() {
            outcome = match self.io.next_frame(self.packet_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => match decode_from_server(self.version, frame) {
                    Ok(packet) => self.on_packet(packet, now),
                    Err(fault) => Err(self.fault(fault)),
                },
                Err(fault) => Err(self.fault(fault)),
            };
        }
        if let Some(queue) = &self.queue {
            queue.announce();
        }
        outcome
    }

    fn on_packet(&mut self, packet: FromServer, now: Timestamp) -> Result<(), Broken> {
        match packet {
            FromServer::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                let what = "a message of quality of service 2, which was not subscribed to";
                Err(self.fault(Fault::protocol(what)))
            }
            FromServer::Publish(publish) => {
                self.take(publish, now);
                Ok(())
            }
            FromServer::SubAck(answer) => self.subscription.answer(&answer, &self.link),
            FromServer::PingResp => Ok(()),
            FromServer::Disconnect(farewell) => Err(Broken::Lost(self.farewell(&farewell))),
            FromServer::ConnAck(_) => Err(self.fault(Fault::protocol("CONNACK comes once"))),
        }
    }

    /// Tells the broker, where its version has a way to, that the connection ends and why.
    fn fault(&mut self, fault: Fault) -> Broken {
        if self.version == Version::V5 {
            codec::disconnect(self.io.output.buffer(), self.version, fault.reason, None);
        }
        unreadable(fault)
    }

    fn farewell(&self, farewell: &Farewell) -> String {
        let Farewell { reason, reason_string } = farewell;
        let (name, text) = (reason.name(), said(reason_string.as_deref()));
        let help = if *reason == Reason::SESSION_TAKEN_OVER {
            format!("; another client uses the client_id `{}`", self.client_id)
        } else {
            String::new()
        };
        format!("the broker ended the connection: {name} ({reason}){text}{help}")
    }

    /// Takes a message in; what finds no room and must not be dropped is held.
    fn take(&mut self, publish: Publish, now: Timestamp) {
        let (packet_id, dup) = (publish.packet_id, publish.dup);
        let message = Message::from_publish(publish, now);
        let origin = Origin::new(
            self.context.name.clone(),
            Text::from_static("mqtt"),
            message.topic.clone(),
        )
        .with(Text::from_static("qos"), i64::from(message.qos.bits()))
        .with(Text::from_static("retain"), message.retain)
        .with(Text::from_static("dup"), dup);
        let envelope = mapping::to_envelope(&message, origin);
        let tag = (message.qos != QoS::AtMostOnce)
            .then(|| self.unsettled.enter(packet_id, envelope.clone()));
        if let Some(back) = self.offer(Arrival { tag, envelope }) {
            if tag.is_some() {
                self.held = Some(back);
            } else {
                self.context.observer.count(Event::MessageDropped, 1);
            }
        }
        self.subscription.on_message(self.held.is_some());
    }

    fn offer(&self, arrival: Arrival) -> Option<Arrival> {
        match &self.queue {
            Some(queue) => queue.offer(arrival),
            None => Some(arrival),
        }
    }

    /// There is room for what is held.
    fn on_room(&mut self) {
        self.held = self.held.take().and_then(|held| self.offer(held));
        if let Some(queue) = &self.queue {
            queue.announce();
        }
    }

    /// Takes in nothing new. What is held nobody will have, so nobody will settle it: it comes again
    /// with the next connection.
    fn stop(&mut self) {
        self.queue = None;
        if let Some(tag) = self.held.take().and_then(|held| held.tag) {
            self.unsettled.put_off(tag, Instant::now());
        }
    }

    /// Applies settlements.
    fn settle(&mut self) {
        let now = Instant::now();
        for settled in self.run.drain(..) {
            self.unsettled.settle(settled.tag, &settled.settlement, now);
        }
    }

    /// Makes the acknowledgements whose turn it is, which then leave together.
    fn acknowledge(&mut self) {
        let before = self.io.output.len();
        while self.io.output.len() < OUTPUT_BYTES_MAX
            && let Some(packet_id) = self.unsettled.next_acknowledgement()
        {
            let ack = Ack { kind: AckKind::PubAck, packet_id, reason: Reason::SUCCESS };
            codec::puback(self.io.output.buffer(), self.version, ack, None);
        }
        if self.io.output.len() > before {
            self.keep_alive.sent(Instant::now());
        }
    }

    /// Sets the timer where something is due earlier than it rings. It is not put off with each
    /// packet: when it rings too early, it is set anew.
    fn set_timer(&mut self) {
        let released = self.queue.as_ref().and_then(|_| self.unsettled.next_due());
        let next = self.keep_alive.next();
        let next = released.map_or(next, |released| released.min(next));
        if next < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
    }

    fn on_timer(&mut self) -> Result<(), Broken> {
        let now = Instant::now();
        self.offer_again(now);
        let lost = |reason: &str| Err(Broken::Lost(reason.to_owned()));
        let output = &mut self.io.output;
        match self.keep_alive.due(now, output.written(), !output.is_empty()) {
            Due::Nothing => Ok(()),
            Due::Ask => {
                codec::pingreq(output.buffer());
                Ok(())
            }
            Due::Silent => lost("the broker is silent: it has not answered within the keep-alive"),
            Due::Stuck => lost("the broker takes no acknowledgements"),
        }
    }

    /// Hands over again what was released and has waited long enough.
    fn offer_again(&mut self, now: Instant) {
        let Some(queue) = &self.queue else { return };
        for (tag, envelope) in self.unsettled.due(now) {
            if queue.offer(Arrival { tag: Some(tag), envelope }).is_some() {
                self.unsettled.put_off(tag, now + ROOM_LATER);
            }
        }
        queue.announce();
    }

    /// Lets the last acknowledgements out and leaves; the session stays at the broker.
    async fn say_goodbye(&mut self) -> Result<(), Broken> {
        if self.link.is_lost() {
            return Ok(());
        }
        codec::goodbye(self.io.output.buffer());
        let farewell = async {
            if self.io.close().await.is_ok() {
                self.io.drain().await;
            }
        };
        // A broker that does not listen is left without.
        drop(timeout(GOODBYE, farewell).await);
        Ok(())
    }
}
