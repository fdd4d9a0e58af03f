//! Publishing with confirms.
//!
//! Invariants:
//! - A message counts as sent only when the broker has confirmed it. A negative confirmation and a
//!   message that the broker returned do not count.
//! - Each destination has its own channel, so that one destination's fault does not close
//!   another's.

mod returned;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use transload_adapter::{
    Context, Destination, Outbound, Replies, RequestError, SendError, Sent, Waiters,
};
use transload_envelope::{Envelope, Outgoing, Timestamp};

use crate::{
    client::{self, Answer, Answers, Arrival, Channel, Client, Frames},
    config::{AmqpConfig, AmqpTarget},
    connect::{LinkState, is_lost},
    error::{Reaction, closed_by, reaction},
    mapping::{self, Limits, Publish},
    request::ReplyDesk,
};

/// How many channels requests to all destinations, and answers, are spread over.
const REQUEST_LANES: usize = 8;

/// How many destinations may have a channel. At the bound, channels that nobody uses are closed.
const LANES_MAX: usize = 512;

/// The channel of one destination, taken out while a call uses it, so that a call that is dropped
/// leaves no half-used channel.
type Lane = tokio::sync::Mutex<Option<Arc<Channel>>>;

/// Publishes to all destinations over one connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    client: Client,
    config: Arc<AmqpConfig>,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
    replies: ReplyDesk,
    /// Spreads requests and answers over several channels.
    turn: AtomicUsize,
}

/// How long to wait for what the broker has said by the deadline.
const GIVE_UP: Duration = Duration::from_secs(1);

/// What became of one message on one channel.
#[derive(Debug)]
enum Outcome {
    Settled(Result<Sent, SendError>),
    /// The channel or the connection ended first.
    Open(client::Error),
}

/// What a call wants of a channel.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// Unroutable messages are to be returned.
    mandatory: bool,
    /// The target asks for that in so many words.
    explicit: bool,
    /// A message that is returned has no receiver, which is an answer and no failure.
    asks: bool,
}

impl Publisher {
    /// What consumers are sent on this connection are replies.
    pub(crate) fn new(
        client: Client,
        replies: mpsc::Receiver<Arrival>,
        config: Arc<AmqpConfig>,
        context: &Context,
    ) -> Self {
        let replies = ReplyDesk::new(client.clone(), replies, Arc::clone(&config), context);
        Self { client, config, lanes: Mutex::default(), replies, turn: AtomicUsize::new(0) }
    }

    /// Sends one message of a request. They are spread over several channels, since a broker that
    /// will not have one message ends its channel under all.
    async fn deliver_alone(&self, purpose: &str, publish: &Publish) -> Result<Sent, SendError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % REQUEST_LANES;
        let wish = Wish { mandatory: true, explicit: true, asks: true };
        let sent = self.deliver(&format!("{purpose}/{turn}"), &[publish], wish).await.pop();
        sent.unwrap_or_else(|| {
            Err(SendError::Failed { reason: "the message has no result".into() })
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            message_bytes_max: self.config.message_bytes_max(),
            frame_bytes_max: self.client.frame_bytes_max(),
        }
    }

    fn lane(&self, name: &str) -> Option<Arc<Lane>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(name) {
            return Some(Arc::clone(lane));
        }
        if lanes.len() >= LANES_MAX {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        (lanes.len() < LANES_MAX).then(|| Arc::clone(lanes.entry(name.to_owned()).or_default()))
    }

    /// The result of each message, in order. Up to the first wait, nothing awaits anything but the
    /// lane, which serves in the order of asking.
    async fn deliver(
        &self,
        name: &str,
        messages: &[&Publish],
        wish: Wish,
    ) -> Vec<Result<Sent, SendError>> {
        let refused = match &*self.client.state().borrow() {
            LinkState::Open => None,
            LinkState::Blocked(reason) => Some(Refused::Busy(reason.to_string())),
            LinkState::Lost(error) => Some(Refused::Lost(error.clone())),
        };
        if let Some(refused) = refused {
            return messages.iter().map(|_| Err(refused.error())).collect();
        }
        let Some(lane) = self.lane(name) else {
            let busy = Refused::Busy("too many destinations publish at once".to_owned());
            return messages.iter().map(|_| Err(busy.error())).collect();
        };
        let outcomes = self.publish(&lane, messages, wish).await;
        self.resolve(messages, outcomes, wish).await
    }

    async fn publish(&self, lane: &Lane, messages: &[&Publish], wish: Wish) -> Vec<Outcome> {
        let deadline = self.deadline();
        let Ok(mut slot) = timeout_at(deadline, lane.lock()).await else {
            return self.all_late(messages);
        };
        let usable = slot.take().filter(|channel| !channel.has_ended());
        let channel = match usable {
            Some(channel) => channel,
            None => match timeout_at(deadline, self.client.open_channel()).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => return all_open(messages, &error),
                Err(_) => return self.all_late(messages),
            },
        };
        let published = self.client.publish(&channel, self.frames(&channel, messages, wish));
        let answers = match timeout_at(deadline, published).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return all_open(messages, &error),
            Err(_) => return self.all_late(messages),
        };
        *slot = Some(Arc::clone(&channel));
        drop(slot);
        self.outcomes(messages, self.answers(&channel, answers, deadline).await, wish)
    }

    fn frames(&self, channel: &Channel, messages: &[&Publish], wish: Wish) -> Frames {
        let bytes_max = self.client.frame_bytes_max();
        let mut frames = Frames::new(channel.number(), bytes_max, wish.mandatory);
        for Publish { exchange, routing_key, properties, payload, .. } in messages {
            frames.push(exchange, routing_key, properties, payload);
        }
        frames
    }

    /// Waits for the answers. After the deadline the channel is given up, and what the broker has
    /// said by then is what counts.
    async fn answers(
        &self,
        channel: &Arc<Channel>,
        mut answers: oneshot::Receiver<Answers>,
        deadline: Instant,
    ) -> Option<Answers> {
        if let Ok(answers) = timeout_at(deadline, &mut answers).await {
            return Some(answers.unwrap_or_else(|_| Answers::lost(self.client.loss())));
        }
        let given_up = async {
            self.client.give_up(channel).await.ok()?;
            answers.await.ok()
        };
        let mut answers = timeout(GIVE_UP, given_up).await.ok().flatten()?;
        answers.end = None;
        Some(answers)
    }

    /// What the answers mean for each message; those without one and without a reason are late.
    fn outcomes(
        &self,
        messages: &[&Publish],
        answers: Option<Answers>,
        wish: Wish,
    ) -> Vec<Outcome> {
        let Some(Answers { each, returned, end }) = answers else { return self.all_late(messages) };
        let outcome = |answer: Answer| match (answer, &end) {
            (Answer::Taken, _) => Outcome::Settled(Ok(Sent::Confirmed)),
            (Answer::NotTaken, _) => {
                let reason = "the broker did not take it (basic.nack)".into();
                Outcome::Settled(Err(SendError::Failed { reason }))
            }
            (Answer::Open, Some(error)) => Outcome::Open(error.clone()),
            (Answer::Open, None) => self.late(),
        };
        let each = each.into_iter().chain(std::iter::repeat(Answer::Open));
        let mut outcomes: Vec<_> = each.take(messages.len()).map(outcome).collect();
        returned::apply(&returned, messages, &mut outcomes, wish);
        outcomes
    }

    fn all_late(&self, messages: &[&Publish]) -> Vec<Outcome> {
        messages.iter().map(|_| self.late()).collect()
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let limit = self.config.confirm_timeout();
        now.checked_add(limit).unwrap_or(now + Duration::from_hours(1))
    }

    fn late(&self) -> Outcome {
        let limit = self.config.confirm_timeout;
        let reason = format!("the broker has not confirmed within {limit}").into();
        Outcome::Settled(Err(SendError::Busy { after: None, reason }))
    }

    /// Finds out what became of the messages whose channel ended first. A broker that will not have
    /// one message closes the channel under all, so each goes again, alone, on a channel that
    /// nobody else uses.
    async fn resolve(
        &self,
        messages: &[&Publish],
        outcomes: Vec<Outcome>,
        wish: Wish,
    ) -> Vec<Result<Sent, SendError>> {
        let alone = Lane::default();
        let mut refused: Option<Refused> = None;
        let mut results = Vec::with_capacity(outcomes.len());
        for (publish, outcome) in messages.iter().zip(outcomes) {
            let result = match (outcome, &refused) {
                (Outcome::Settled(result), _) => result,
                (Outcome::Open(_), Some(refused)) => Err(refused.error()),
                (Outcome::Open(error), None) if self.is_lost(&error) => {
                    Err(refused.insert(Refused::Lost(error)).error())
                }
                (Outcome::Open(_), None) => self.publish_alone(&alone, publish, wish).await,
            };
            if let (Err(SendError::Busy { reason, .. }), None) = (&result, &refused) {
                refused = Some(Refused::Busy(reason.to_string()));
            }
            results.push(result);
        }
        results
    }

    /// A channel of a lost connection only says that it is closed.
    fn is_lost(&self, error: &client::Error) -> bool {
        is_lost(error) || matches!(&*self.client.state().borrow(), LinkState::Lost(_))
    }

    async fn publish_alone(
        &self,
        lane: &Lane,
        publish: &Publish,
        wish: Wish,
    ) -> Result<Sent, SendError> {
        let outcome = self.publish(lane, &[publish], wish).await.pop();
        settled(outcome.unwrap_or_else(|| self.late()), publish)
    }
}

fn all_open(messages: &[&Publish], error: &client::Error) -> Vec<Outcome> {
    messages.iter().map(|_| Outcome::Open(error.clone())).collect()
}

fn settled(outcome: Outcome, publish: &Publish) -> Result<Sent, SendError> {
    match outcome {
        Outcome::Settled(result) => result,
        Outcome::Open(error) => Err(alone_error(error, publish)),
    }
}

/// What the end of a channel means that carried one message only.
fn alone_error(error: client::Error, publish: &Publish) -> SendError {
    match reaction(&error) {
        Reaction::ChannelClosed(cause, text) => {
            closed_by(cause, &text, publish.own_exchange, publish.own_key)
        }
        Reaction::ChannelGone => SendError::Failed { reason: error.to_string().into() },
        Reaction::NoRoom => SendError::Busy { after: None, reason: error.to_string().into() },
        Reaction::Lost | Reaction::Refused(_) => SendError::Disconnected(error.into()),
    }
}

/// Why nothing goes out at present.
#[derive(Debug)]
enum Refused {
    Busy(String),
    Lost(client::Error),
}

impl Refused {
    fn error(&self) -> SendError {
        match self {
            Self::Busy(reason) => SendError::Busy { after: None, reason: reason.as_str().into() },
            Self::Lost(error) => SendError::Disconnected(error.clone().into()),
        }
    }
}

#[async_trait]
impl Outbound<AmqpTarget> for Publisher {
    async fn send(
        &self,
        to: Destination<'_, AmqpTarget>,
        batch: &[Outgoing],
    ) -> Vec<Result<Sent, SendError>> {
        let now = Timestamp::now();
        let (limits, mapping) = (self.limits(), self.config.address_mapping);
        let prepared: Vec<_> = batch
            .iter()
            .map(|outgoing| mapping::publish(outgoing, to.target, mapping, limits, now))
            .collect();
        let messages: Vec<_> = prepared.iter().filter_map(|made| made.as_ref().ok()).collect();
        let wish = Wish {
            mandatory: to.target.is_mandatory(),
            explicit: to.target.mandatory == Some(true),
            asks: false,
        };
        let mut results = if messages.is_empty() {
            Vec::new()
        } else {
            self.deliver(to.name, &messages, wish).await
        }
        .into_iter();
        let missing = || Err(SendError::Failed { reason: "the message has no result".into() });
        prepared
            .into_iter()
            .map(|made| match made {
                Ok(_) => results.next().unwrap_or_else(missing),
                Err(error) => Err(error),
            })
            .collect()
    }

    async fn request(
        &self,
        to: Destination<'_, AmqpTarget>,
        message: &Outgoing,
        replies: &Replies,
    ) -> Result<(), RequestError> {
        let desk = self.replies.open().await?;
        let token = Waiters::token();
        let mut message = message.clone();
        let properties = message.envelope.properties_mut();
        properties.correlation = Some(token.clone().into_bytes());
        // Nobody needs a request to survive the broker.
        properties.durable = Some(false);
        let (limits, mapping) = (self.limits(), self.config.address_mapping);
        let mut publish = mapping::publish(&message, to.target, mapping, limits, Timestamp::now())?;
        publish.properties.reply_to = Some(desk.queue.clone());
        let _waiting = desk.waiters.wait(token, replies);
        if self.deliver_alone("requests", &publish).await? == Sent::NoReceiver {
            let key = &*publish.routing_key;
            let reason = format!("no queue takes messages with the routing key {key:?}");
            return Err(RequestError::NoResponder { reason: reason.into() });
        }
        desk.ended.cancelled().await;
        Err(RequestError::Disconnected("the queue for replies is gone".into()))
    }

    async fn answer(&self, request: &Envelope, answer: &Envelope) -> Result<Sent, SendError> {
        let (limits, mapping) = (self.limits(), self.config.address_mapping);
        let publish = mapping::answer(request, answer, mapping, limits, Timestamp::now())?;
        self.deliver_alone("answers", &publish).await
    }

    async fn close(&self) {
        self.client.close().await;
    }
}
