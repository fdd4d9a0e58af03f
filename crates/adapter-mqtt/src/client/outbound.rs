//! Messages to a broker, each confirmed by its packet id.
//!
//! Invariants:
//! - One task owns the connection. It hands a message to the client library only when the window
//!   has room, and notes it in a queue; the library says under which packet id the head of that
//!   queue went out; the acknowledgement of that id is the confirmation.
//! - When the connection is lost, whatever is not acknowledged is reported as such, and the
//!   gateway's own queue sends it again. The library's memory of it is thrown away.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use transload_adapter::{
    Destination, Event, Observer, Outbound, Replies, RequestError, SendError, Sent,
};
use transload_envelope::{Envelope, Outgoing, Text, Timestamp};

use super::{
    config::ClientTarget,
    error::Broken,
    link::Link,
    wire::{Answer, Handle, Step, Terms, Wire},
};
use crate::{
    codec::QoS,
    mapping,
    message::Message,
    request::{self, Requests},
    topic,
};

/// How many messages wait between `send` and the task that owns the connection.
const HANDOVER: usize = 256;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

type Verdict = Result<Sent, SendError>;

enum Command {
    Publish {
        message: Message,
        done: oneshot::Sender<Verdict>,
    },
    /// Subscribes to replies; the answer holds why the broker refuses.
    Subscribe {
        filter: String,
        done: oneshot::Sender<Option<String>>,
    },
}

/// Publishes over one connection.
pub(super) struct ClientOutbound {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    /// To measure packets by, and shared with the task.
    handle: Arc<Handle>,
    terms: Terms,
    packet_bytes_max: usize,
    confirm_timeout: Duration,
    link: Arc<Link>,
    observer: Arc<dyn Observer>,
    ended: tokio::sync::watch::Receiver<bool>,
    requests: Arc<Requests>,
    /// The filters of replies that are subscribed to.
    subscribed: Mutex<HashSet<String>>,
}

/// The task that owns the connection.
pub(super) struct Driver {
    wire: Wire,
    handle: Arc<Handle>,
    commands: mpsc::Receiver<Command>,
    window: usize,
    link: Arc<Link>,
    /// Handed to the library, and not yet on the wire.
    waiting: VecDeque<oneshot::Sender<Verdict>>,
    /// On the wire, by packet id.
    unacknowledged: HashMap<u16, oneshot::Sender<Verdict>>,
    /// Subscriptions that the broker has not answered, in order.
    subscribing: VecDeque<oneshot::Sender<Option<String>>>,
    requests: Arc<Requests>,
    ended: tokio::sync::watch::Sender<bool>,
}

/// What the parts of an outbound end share.
pub(super) struct Settings {
    pub(super) terms: Terms,
    pub(super) packet_bytes_max: usize,
    pub(super) window: usize,
    pub(super) confirm_timeout: Duration,
    pub(super) link: Arc<Link>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) requests: Arc<Requests>,
}

/// Makes the two ends for a connection that has just been made.
pub(super) fn new(handle: Handle, wire: Wire, settings: Settings) -> (ClientOutbound, Driver) {
    let (sender, commands) = mpsc::channel(HANDOVER);
    let (ended, end) = tokio::sync::watch::channel(false);
    let handle = Arc::new(handle);
    let granted = settings
        .terms
        .packet_bytes_max
        .map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let outbound = ClientOutbound {
        commands: Mutex::new(Some(sender)),
        handle: Arc::clone(&handle),
        terms: settings.terms,
        packet_bytes_max: settings.packet_bytes_max.min(granted),
        confirm_timeout: settings.confirm_timeout,
        link: Arc::clone(&settings.link),
        observer: settings.observer,
        ended: end,
        requests: Arc::clone(&settings.requests),
        subscribed: Mutex::default(),
    };
    let driver = Driver {
        wire,
        handle,
        commands,
        window: settings.window,
        link: settings.link,
        waiting: VecDeque::new(),
        unacknowledged: HashMap::new(),
        subscribing: VecDeque::new(),
        requests: settings.requests,
        ended,
    };
    (outbound, driver)
}

impl ClientOutbound {
    /// The message as it goes out; `Ok(Err(..))` when it need not.
    fn prepare(&self, target: &ClientTarget, outgoing: &Outgoing) -> Result<Message, Verdict> {
        let message = message(target, outgoing).map_err(Err)?;
        if message.expired(Timestamp::now()) {
            self.observer.count(Event::MessageExpired, 1);
            return Err(Ok(Sent::NoReceiver));
        }
        let refused = |reason: &str| Err(Err(SendError::Rejected { reason: reason.into() }));
        if message.retain && self.terms.no_retain {
            return refused("the broker keeps no retained messages");
        }
        if message.qos != QoS::AtMostOnce && self.terms.qos_0_only {
            return refused("the broker takes quality of service 0 only");
        }
        let size = packet_bytes(&self.handle, &message, self.packet_bytes_max);
        if size > self.packet_bytes_max {
            let most = self.packet_bytes_max;
            return refused(&format!("the packet has {size} bytes; at most {most} are taken"));
        }
        Ok(message)
    }

    /// Hands a batch over in order.
    async fn hand_over(
        &self,
        target: &ClientTarget,
        batch: &[Outgoing],
    ) -> Vec<Result<oneshot::Receiver<Verdict>, Verdict>> {
        let commands = self.commands.lock().await;
        let mut pending = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let message = match self.prepare(target, outgoing) {
                Ok(message) => message,
                Err(verdict) => {
                    pending.push(Err(verdict));
                    continue;
                }
            };
            let (done, verdict) = oneshot::channel();
            let sent = match &*commands {
                Some(commands) => commands.send(Command::Publish { message, done }).await.is_ok(),
                None => false,
            };
            pending.push(if sent { Ok(verdict) } else { Err(Err(self.disconnected())) });
        }
        pending
    }

    /// Publishes one message and waits for its acknowledgement.
    async fn publish(&self, message: Message) -> Verdict {
        let (done, verdict) = oneshot::channel();
        self.command(Command::Publish { message, done }).await?;
        // The task that drops it has ended.
        timeout(self.confirm_timeout, verdict).await.map_or_else(
            |_| Err(self.disconnected()),
            |told| told.unwrap_or_else(|_| Err(self.disconnected())),
        )
    }

    async fn command(&self, command: Command) -> Result<(), SendError> {
        let commands = self.commands.lock().await.clone();
        let Some(commands) = commands else { return Err(self.disconnected()) };
        commands.send(command).await.map_err(|_| self.disconnected())
    }

    /// Subscribes to replies, once for each filter.
    async fn subscribe(&self, filter: &str) -> Result<(), RequestError> {
        // Held until the broker has answered, so that nobody asks before it listens.
        let mut subscribed = self.subscribed.lock().await;
        if subscribed.contains(filter) {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.command(Command::Subscribe { filter: filter.to_owned(), done }).await?;
        match timeout(self.confirm_timeout, answer).await {
            Ok(Ok(None)) => {
                subscribed.insert(filter.to_owned());
                Ok(())
            }
            Ok(Ok(Some(reason))) => {
                let reason = format!("the replies cannot be subscribed to, {filter}: {reason}");
                Err(RequestError::Rejected { reason: reason.into() })
            }
            Ok(Err(_)) | Err(_) => Err(self.disconnected().into()),
        }
    }

    fn disconnected(&self) -> SendError {
        SendError::Disconnected(self.link.reason())
    }
}

#[async_trait]
impl Outbound<ClientTarget> for ClientOutbound {
    async fn send(
        &self,
        to: Destination<'_, ClientTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let end = Instant::now() + self.confirm_timeout;
        let Ok(pending) = timeout_at(end, self.hand_over(to.target, batch)).await else {
            self.link.lose("the broker does not take messages in time");
            return batch.iter().map(|_| Err(self.disconnected())).collect();
        };
        let mut verdicts = Vec::with_capacity(batch.len());
        for one in pending {
            verdicts.push(match one {
                Err(verdict) => verdict,
                Ok(answer) => match timeout_at(end, answer).await {
                    Ok(Ok(verdict)) => verdict,
                    // The task has ended and dropped it.
                    Ok(Err(_)) => Err(self.disconnected()),
                    Err(_) => {
                        self.link.lose("the broker does not acknowledge in time");
                        Err(self.disconnected())
                    }
                },
            });
        }
        verdicts
    }

    async fn request(
        &self,
        to: Destination<'_, ClientTarget>,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let mut question = self.requests.ask(message, to.target.replies_by(), replies)?;
        self.subscribe(question.filter.as_str()).await?;
        // An acknowledgement of version 5 tells whether anybody is there.
        question.outgoing.envelope.properties_mut().durable = Some(true);
        let mut message = match self.prepare(to.target, &question.outgoing) {
            Ok(message) => message,
            Err(Ok(_)) => return Err(RequestError::Failed { reason: "it has expired".into() }),
            Err(Err(error)) => return Err(error.into()),
        };
        message.topic = question.fill(&message.topic);
        message.retain = false;
        if self.publish(message).await? == Sent::NoReceiver {
            let reason = "the broker has no subscriber to the topic";
            return Err(RequestError::NoResponder { reason: reason.into() });
        }
        self.link.lost().await;
        Err(RequestError::Disconnected(self.link.reason()))
    }

    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError> {
        let rejected = |reason: String| SendError::Rejected { reason: reason.into() };
        let topic = request::answer_topic(request).map_err(|reason| rejected(reason.to_owned()))?;
        let message = mapping::from_envelope(answer, topic, QoS::AtLeastOnce, false);
        let message = message.map_err(|error| rejected(error.to_string()))?;
        let size = packet_bytes(&self.handle, &message, self.packet_bytes_max);
        if size > self.packet_bytes_max {
            let most = self.packet_bytes_max;
            return Err(rejected(format!("the packet has {size} bytes; at most {most} are taken")));
        }
        self.publish(message).await
    }

    async fn close(&self) {
        // Without a sender the task finishes what it has and says goodbye.
        drop(self.commands.lock().await.take());
        let mut ended = self.ended.clone();
        let end = ended.wait_for(|ended| *ended);
        // An error means that the task is gone, which is as good.
        drop(timeout(self.confirm_timeout, end).await);
    }
}

impl Driver {
    /// Works until the outbound end is closed or dropped, or the connection is lost.
    pub(super) async fn run(mut self) {
        if let Err(broken) = self.work().await {
            // Acknowledgements that came in with the last read still count.
            for step in self.wire.rest() {
                self.apply(&step);
            }
            self.link.lose(broken.reason());
        }
        // Dropping what is left tells its senders that the connection is gone.
        self.waiting.clear();
        self.unacknowledged.clear();
        self.subscribing.clear();
        self.ended.send_replace(true);
    }

    async fn work(&mut self) -> Result<(), Broken> {
        let mut open = true;
        let mut goodbye = None;
        loop {
            let Self { wire, handle, commands, window, link, .. } = self;
            let Self { waiting, unacknowledged, subscribing, .. } = self;
            let step = {
                let mut poll = pin!(wire.poll());
                loop {
                    let busy = waiting.len() + unacknowledged.len();
                    if !open && busy == 0 && goodbye.is_none() {
                        handle.disconnect();
                        goodbye = Some(Instant::now() + GOODBYE);
                    }
                    let until = goodbye.unwrap_or_else(|| Instant::now() + GOODBYE);
                    tokio::select! {
                        step = &mut poll => break step,
                        () = link.lost() => return Ok(()),
                        () = tokio::time::sleep_until(until), if goodbye.is_some() => return Ok(()),
                        command = commands.recv(), if open && busy < *window => match command {
                            Some(command) => {
                                let taken = match command {
                                    Command::Publish { message, done } => {
                                        waiting.push_back(done);
                                        handle.publish(&message)
                                    }
                                    Command::Subscribe { filter, done } => {
                                        subscribing.push_back(done);
                                        handle.subscribe(&[(filter, QoS::AtLeastOnce)])
                                    }
                                };
                                if !taken {
                                    return Err(Broken::Lost("the client takes nothing".to_owned()));
                                }
                            }
                            None => open = false,
                        },
                    }
                }
            };
            match step {
                Ok(step) => self.apply(&step),
                // The broker closes after our goodbye.
                Err(_) if goodbye.is_some() => return Ok(()),
                Err(broken) => return Err(broken),
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Message(message) => self.take_reply(message),
            Step::Subscribed(refusals) => {
                if let Some(done) = self.subscribing.pop_front() {
                    let refusal = refusals.first().map(|(_, reason)| reason.clone());
                    drop(done.send(refusal));
                }
            }
            &Step::Sent(0) => {
                if let Some(done) = self.waiting.pop_front() {
                    // Whoever asked may have gone; the same below.
                    drop(done.send(Ok(Sent::Unconfirmed)));
                }
            }
            &Step::Sent(packet_id) => {
                if let Some(done) = self.waiting.pop_front() {
                    self.unacknowledged.insert(packet_id, done);
                }
            }
            &Step::Acknowledged(packet_id, answer) => {
                if let Some(done) = self.unacknowledged.remove(&packet_id) {
                    drop(done.send(verdict(answer)));
                }
            }
            Step::Connected(_) | Step::Other => {}
        }
    }

    /// This connection subscribes to replies only. What else is published under their topics comes in
    /// by the other connection, if it is wanted.
    fn take_reply(&mut self, message: &Message) {
        if !self.requests.take(message) && !self.requests.hears(&message.topic) {
            self.link.lose("the broker sent what was not subscribed to");
        }
    }
}

/// The bytes of the packet; exact only when they may be more than the bound.
fn packet_bytes(handle: &Handle, message: &Message, most: usize) -> usize {
    let known = message.properties.as_deref();
    let fields = known.map_or(0, |known| {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        let correlation = known.correlation.as_ref().map_or(0, bytes::Bytes::len);
        text(&known.content_type) + text(&known.response_topic) + correlation
    });
    // Counts more for each part than the protocol does.
    let at_most = message.size() + fields;
    if at_most <= most { at_most } else { handle.packet_bytes(message) }
}

fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Taken => Ok(Sent::Confirmed),
        Answer::NoReceiver => Ok(Sent::NoReceiver),
        Answer::Failed(reason) => Err(SendError::Failed { reason: Text::from_static(reason) }),
        Answer::Rejected(reason) => Err(SendError::Rejected { reason: Text::from_static(reason) }),
    }
}

/// The message for a target.
pub(crate) fn message(target: &ClientTarget, outgoing: &Outgoing) -> Result<Message, SendError> {
    let envelope = &outgoing.envelope;
    let topic = topic::of(outgoing, target.topic.as_deref(), "the broker's own")?;
    let rejected = |reason: String| SendError::Rejected { reason: reason.into() };
    let properties = envelope.properties();
    let qos = match target.qos {
        Some(0) => QoS::AtMostOnce,
        None if properties.durable == Some(false) => QoS::AtMostOnce,
        Some(_) | None => QoS::AtLeastOnce,
    };
    let retain = target.retain.unwrap_or(properties.retain);
    mapping::from_envelope(envelope, topic, qos, retain).map_err(|e| rejected(e.to_string()))
}
