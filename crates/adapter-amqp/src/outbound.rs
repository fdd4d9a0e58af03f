//! Publishing with confirms.
//!
//! Invariants:
//! - A message counts as sent only when the broker has confirmed it. A negative confirmation and a
//!   message that the broker returned do not count.
//! - Each destination has its own channel, so that one destination's fault does not close
//!   another's.
//! - On a channel only one call publishes at a time: the client library numbers messages and hands
//!   out their frames in two steps, and would take one's confirmation for another's.
//! - Where messages can be returned, a channel serves one call from its first message to its last
//!   confirmation, because the library may attach a returned message to another's confirmation.

mod returned;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesOrdered};
use lapin::{
    Channel, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::time::{Instant, timeout_at};
use transload_adapter::{
    Context, Destination, Outbound, Replies, RequestError, SendError, Sent, Waiters,
};
use transload_envelope::{Envelope, Outgoing, Timestamp};

use self::returned::Returned;
use crate::{
    config::{AmqpConfig, AmqpTarget},
    connect::{Link, LinkState, is_lost},
    error::{Reaction, closed_by, reaction},
    mapping::{self, Limits, Publish},
    request::ReplyDesk,
};

/// How many channels requests to all destinations, and answers, are spread over.
const REQUEST_LANES: usize = 8;

/// How many destinations may have a channel. At the bound, channels that nobody uses are closed.
const LANES_MAX: usize = 512;

/// The channel of one destination.
#[derive(Debug, Default)]
struct Lane {
    /// Taken out while a call publishes, so that a call that is dropped leaves no half-used channel.
    channel: tokio::sync::Mutex<Option<Channel>>,
    /// A call was dropped while its confirmations were on their way; the library would collect them
    /// as long as the channel is open.
    abandoned: AtomicBool,
}

/// Publishes to all destinations over one connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    link: Link,
    config: Arc<AmqpConfig>,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
    replies: ReplyDesk,
    /// Spreads requests and answers over several channels.
    turn: AtomicUsize,
}

/// What became of one message on one channel.
#[derive(Debug)]
enum Outcome {
    Settled(Result<Sent, SendError>),
    /// The channel or the connection ended first.
    Open(lapin::Error),
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
    pub(crate) fn new(link: Link, config: Arc<AmqpConfig>, context: &Context) -> Self {
        let replies = ReplyDesk::new(link.clone(), Arc::clone(&config), context);
        Self { link, config, lanes: Mutex::default(), replies, turn: AtomicUsize::new(0) }
    }

    /// Sends one message of a request, which waits for no other: each goes on a channel of its own
    /// as far as there are any, since a channel serves one call at a time where messages can be
    /// returned.
    async fn deliver_alone(&self, purpose: &str, publish: &Publish) -> Result<Sent, SendError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % REQUEST_LANES;
        let wish = Wish { mandatory: true, explicit: true, asks: true };
        let sent = self.deliver(&format!("{purpose}/{turn}"), &[publish], wish).await.pop();
        sent.unwrap_or_else(|| {
            Err(SendError::Failed { reason: "the message has no result".into() })
        })
    }

    fn limits(&self) -> Limits {
        let frame_max = self.link.connection.configuration().frame_max();
        Limits {
            message_bytes_max: self.config.message_bytes_max(),
            frame_bytes_max: usize::try_from(frame_max).unwrap_or(usize::MAX),
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
        let refused = match &*self.link.state.borrow() {
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
        let all = |error: &lapin::Error| {
            messages.iter().map(|_| Outcome::Open(error.clone())).collect::<Vec<_>>()
        };
        let none_in_time = || messages.iter().map(|_| self.late()).collect::<Vec<_>>();
        let Ok(mut slot) = timeout_at(deadline, lane.channel.lock()).await else {
            return none_in_time();
        };
        let stale = lane.abandoned.swap(false, Ordering::AcqRel);
        let usable = slot.take().filter(|channel| channel.status().connected() && !stale);
        let channel = match usable {
            Some(channel) => channel,
            None => match timeout_at(deadline, self.open_channel()).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => return all(&error),
                Err(_) => return none_in_time(),
            },
        };
        let published = timeout_at(deadline, publish_all(&channel, messages, wish.mandatory));
        let Ok(published) = published.await else { return none_in_time() };
        if wish.mandatory {
            let outcomes = self.confirm_all(messages, published, deadline, wish).await;
            if !outcomes.iter().any(is_late) {
                *slot = Some(channel);
            }
            return outcomes;
        }
        *slot = Some(channel);
        drop(slot);
        let mut abandoned = Abandoned(Some(&lane.abandoned));
        let outcomes = self.confirm_all(messages, published, deadline, wish).await;
        if !outcomes.iter().any(is_late) {
            abandoned.0 = None;
        }
        outcomes
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

    async fn open_channel(&self) -> lapin::Result<Channel> {
        let channel = self.link.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    async fn confirm_all(
        &self,
        messages: &[&Publish],
        published: Vec<lapin::Result<PublisherConfirm>>,
        deadline: Instant,
        wish: Wish,
    ) -> Vec<Outcome> {
        let mut returned = Returned::default();
        let mut outcomes = Vec::with_capacity(published.len());
        for confirm in published {
            let confirmation = match confirm {
                Ok(confirm) => timeout_at(deadline, confirm).await,
                Err(error) => Ok(Err(error)),
            };
            outcomes.push(match confirmation {
                Ok(Ok(confirmation)) => Outcome::Settled(returned.verdict(confirmation)),
                Ok(Err(error)) => Outcome::Open(error),
                Err(_) => self.late(),
            });
        }
        returned.apply(messages, &mut outcomes, wish);
        outcomes
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
        let mut channel = None;
        let mut refused: Option<Refused> = None;
        let mut results = Vec::with_capacity(outcomes.len());
        for (publish, outcome) in messages.iter().zip(outcomes) {
            let result = match (outcome, &refused) {
                (Outcome::Settled(result), _) => result,
                (Outcome::Open(_), Some(refused)) => Err(refused.error()),
                (Outcome::Open(error), None) if self.is_lost(&error) => {
                    Err(refused.insert(Refused::Lost(error)).error())
                }
                (Outcome::Open(_), None) => self.publish_alone(&mut channel, publish, wish).await,
            };
            if let (Err(SendError::Busy { reason, .. }), None) = (&result, &refused) {
                refused = Some(Refused::Busy(reason.to_string()));
            }
            results.push(result);
        }
        results
    }

    /// A channel of a lost connection only says that it is closed.
    fn is_lost(&self, error: &lapin::Error) -> bool {
        is_lost(error) || !self.link.connection.status().connected()
    }

    async fn publish_alone(
        &self,
        kept: &mut Option<Channel>,
        publish: &Publish,
        wish: Wish,
    ) -> Result<Sent, SendError> {
        let deadline = self.deadline();
        let channel = match kept.take() {
            Some(channel) => channel,
            None => match timeout_at(deadline, self.open_channel()).await {
                Ok(channel) => channel.map_err(|error| alone_error(error, publish))?,
                Err(_) => return settled(self.late(), publish),
            },
        };
        let alone = [publish];
        let published = timeout_at(deadline, publish_all(&channel, &alone, wish.mandatory));
        let Ok(published) = published.await else { return settled(self.late(), publish) };
        let outcome = self.confirm_all(&alone, published, deadline, wish).await.pop();
        if channel.status().connected() && !outcome.as_ref().is_some_and(is_late) {
            *kept = Some(channel);
        }
        settled(outcome.unwrap_or_else(|| self.late()), publish)
    }
}

fn settled(outcome: Outcome, publish: &Publish) -> Result<Sent, SendError> {
    match outcome {
        Outcome::Settled(result) => result,
        Outcome::Open(error) => Err(alone_error(error, publish)),
    }
}

/// What the end of a channel means that carried one message only.
fn alone_error(error: lapin::Error, publish: &Publish) -> SendError {
    match reaction(&error) {
        Reaction::ChannelClosed(cause, text) => {
            closed_by(cause, &text, publish.own_exchange, publish.own_key)
        }
        Reaction::ChannelGone => SendError::Failed { reason: error.to_string().into() },
        Reaction::NoRoom => SendError::Busy { after: None, reason: error.to_string().into() },
        Reaction::Lost | Reaction::Refused(_) => SendError::Disconnected(error.into()),
    }
}

fn is_late(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Settled(Err(SendError::Busy { .. })))
}

/// Marks the lane unless it is disarmed: also when the call is dropped.
struct Abandoned<'a>(Option<&'a AtomicBool>);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(flag) = self.0 {
            flag.store(true, Ordering::Release);
        }
    }
}

/// Why nothing goes out at present.
#[derive(Debug)]
enum Refused {
    Busy(String),
    Lost(lapin::Error),
}

impl Refused {
    fn error(&self) -> SendError {
        match self {
            Self::Busy(reason) => SendError::Busy { after: None, reason: reason.as_str().into() },
            Self::Lost(error) => SendError::Disconnected(error.clone().into()),
        }
    }
}

/// All are polled together, so that their frames leave together and in order; awaited one after the
/// other, each would cost a switch to the library's thread and back.
async fn publish_all(
    channel: &Channel,
    messages: &[&Publish],
    mandatory: bool,
) -> Vec<lapin::Result<PublisherConfirm>> {
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let publishing: FuturesOrdered<_> = messages
        .iter()
        .map(|publish| {
            channel.basic_publish(
                publish.exchange.clone(),
                publish.routing_key.clone(),
                options,
                &publish.payload,
                publish.properties.clone(),
            )
        })
        .collect();
    publishing.collect().await
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
        publish.properties = publish.properties.with_reply_to(desk.queue.clone());
        let _waiting = desk.waiters.wait(token, replies);
        if self.deliver_alone("requests", &publish).await? == Sent::NoReceiver {
            let key = publish.routing_key.as_str();
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
        self.link.close().await;
    }
}
