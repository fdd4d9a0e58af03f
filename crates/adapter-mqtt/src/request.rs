//! Requests over MQTT: a reply is a message under a topic that only its request knows.
//!
//! The topic is `transload/replies/INSTANCE/CORRELATION`, told as the Response Topic of version 5 with
//! the correlation also as its Correlation Data; or, for devices of version 3.1.1, what the target's
//! `reply_topic` makes of the correlation, which the topic of the request may hold too.
//!
//! Invariants:
//! - A topic for replies is never used twice, so a late reply reaches nobody else.
//! - What is published under such a topic is a reply and nothing else: it is not routed.

use std::sync::{Arc, PoisonError, RwLock};

use transload_adapter::{Lint, Observer, Replies, RequestError, Waiters, Waiting};
use transload_envelope::{Envelope, Origin, Outgoing, Text};
use transload_routing::Pattern;

use crate::{mapping, message::Message, topic};

/// Stands in the topics of a request and its reply for what tells them from others.
const CORRELATION: &str = "{correlation}";
/// All topics for replies that this program makes up begin with this.
const REPLIES: &str = "transload/replies/";
/// How many filters of `reply_topic`s are remembered.
const FILTERS_MAX: usize = 1_024;

/// The requests of one adapter instance.
#[derive(Debug)]
pub(crate) struct Requests {
    adapter: Text,
    /// What topics for replies begin with that are made up here.
    prefix: String,
    waiters: Arc<Waiters>,
    /// The filters of the targets' `reply_topic`s that have been used.
    filters: RwLock<Vec<Pattern>>,
}

/// A request that is ready to be published.
pub(crate) struct Question {
    /// The message, with the topic and the correlation for its reply.
    pub(crate) outgoing: Outgoing,
    /// What stands for `{correlation}` in the topic of the request.
    pub(crate) token: Text,
    /// Under what replies come.
    pub(crate) filter: Pattern,
    /// Ends the wait when it is dropped.
    _waiting: Waiting,
}

impl Requests {
    pub(crate) fn new(adapter: Text, observer: Arc<dyn Observer>) -> Self {
        Self {
            adapter,
            prefix: format!("{REPLIES}{}/", Waiters::token()),
            waiters: Waiters::new(observer),
            filters: RwLock::default(),
        }
    }

    /// Registers a waiter for the reply to a message.
    pub(crate) fn ask(
        &self,
        outgoing: &Outgoing,
        reply_topic: Option<&str>,
        replies: &Replies,
    ) -> Result<Question, RequestError> {
        let token = Waiters::token();
        let made = outgoing.arguments.get("reply_topic").map(|text| &**text);
        let (reply_to, filter) = match (made.or(reply_topic), reply_topic) {
            (Some(made), Some(written)) => (made.replace(CORRELATION, &token), filter(written)),
            _ => (format!("{}{token}", self.prefix), format!("{}+", self.prefix)),
        };
        let filter = Pattern::parse_filter(&filter).ok();
        let Some(filter) = filter.filter(|_| topic::is_valid_name(&reply_to)) else {
            let reason = "the message makes no topic of `reply_topic`";
            return Err(RequestError::Rejected { reason: reason.into() });
        };
        let mut outgoing = outgoing.clone();
        let properties = outgoing.envelope.properties_mut();
        let reply_to = Text::from(reply_to);
        properties.reply_to = Some(reply_to.clone());
        properties.correlation = Some(token.clone().into_bytes());
        // Nobody wants to be asked again later.
        properties.retain = false;
        if reply_topic.is_some() {
            self.remember(&filter);
        }
        let waiting = self.waiters.wait(reply_to, replies);
        Ok(Question { outgoing, token, filter, _waiting: waiting })
    }

    fn remember(&self, filter: &Pattern) {
        let known = |filters: &[Pattern]| filters.contains(filter);
        if known(&self.filters.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut filters = self.filters.write().unwrap_or_else(PoisonError::into_inner);
        if !known(&filters) && filters.len() < FILTERS_MAX {
            filters.push(filter.clone());
        }
    }

    /// Whether somebody waits for what is published under this topic. Who was asked may answer.
    pub(crate) fn expects(&self, topic: &str) -> bool {
        self.waiters.knows(topic)
    }

    /// Takes a message that is a reply, wanted or late; `false` when it is none.
    pub(crate) fn take(&self, message: &Message) -> bool {
        let ours = message.topic.starts_with(REPLIES) || {
            let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
            filters.iter().any(|filter| filter.matches(&message.topic).is_some())
        };
        if ours {
            let origin = Origin::new(self.adapter.clone(), "mqtt", message.topic.clone());
            self.waiters.reply(&message.topic, mapping::to_envelope(message, origin));
        }
        ours
    }
}

impl Question {
    /// The topic of the request.
    pub(crate) fn fill(&self, topic: &Text) -> Text {
        if topic.contains(CORRELATION) {
            topic.replace(CORRELATION, &self.token).into()
        } else {
            topic.clone()
        }
    }
}

/// The attribute of a message's origin that says that its sender may use its Response Topic in no
/// way, so that the gateway does not for it either.
pub(crate) const FORBIDDEN: Text = Text::from_static("response_topic_forbidden");

/// The topic for an answer to a request that came in.
pub(crate) fn answer_topic(request: &Envelope) -> Result<Text, &'static str> {
    if request.origin.attribute(&FORBIDDEN).is_some() {
        return Err("whoever asks may neither hear nor use the Response Topic");
    }
    match &request.properties().reply_to {
        None => Err("the request has no Response Topic"),
        Some(topic) if !topic::is_valid_name(topic) || topic::is_reserved(topic) => {
            Err("the Response Topic is none to publish under")
        }
        Some(topic) => Ok(topic.clone()),
    }
}

/// The filter for all topics that a `reply_topic` can come to: what a message fills in is one level.
fn filter(reply_topic: &str) -> String {
    let level = |level: &str| if level.contains('{') { "+".to_owned() } else { level.to_owned() };
    reply_topic.split('/').map(level).collect::<Vec<_>>().join("/")
}

/// What there is to say about the `reply_topic` of a target.
pub(crate) fn lint(reply_topic: Option<&str>) -> Option<Lint> {
    let reply_topic = reply_topic?;
    let whole = reply_topic.split('/').any(|level| level == CORRELATION);
    if !whole {
        let help = "write `{correlation}` as one of its levels, and in `topic` where the device \
                    can read it";
        let message = "replies under this topic could not be told from each other";
        return Some(Lint::error("reply_topic", message).with_help(help));
    }
    (topic::is_reserved(reply_topic) || reply_topic.contains(['+', '#']))
        .then(|| Lint::error("reply_topic", "this is no topic to publish under"))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use transload_adapter::NoObserver;
    use transload_envelope::Arguments;

    use super::*;
    use crate::codec::QoS;

    fn message(topic: &Text) -> Message {
        Message {
            topic: topic.clone(),
            payload: "yes".into(),
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            properties: None,
        }
    }

    #[test]
    fn a_reply_is_known_by_its_topic() {
        let requests = Requests::new("a".into(), Arc::new(NoObserver));
        let envelope = Envelope::new(Origin::new("web", "http", "x"), "?");
        let mut outgoing = Outgoing { envelope, arguments: Arguments::default() };
        let (replies, mut received) = Replies::new(1, Instant::now());
        let by_property = requests.ask(&outgoing, None, &replies).unwrap();
        let topic = by_property.outgoing.envelope.properties().reply_to.clone().unwrap();
        assert!(by_property.filter.matches(&topic).is_some());
        assert!(requests.waiters.knows(&topic) && requests.take(&message(&topic)));
        assert_eq!(received.try_recv().unwrap().payload, "yes");
        drop(by_property);
        assert!(requests.take(&message(&topic)), "a late reply is a reply too");

        let written = "devices/{device}/replies/{correlation}";
        outgoing.arguments.push("reply_topic", "devices/d1/replies/{correlation}");
        let by_topic = requests.ask(&outgoing, Some(written), &replies).unwrap();
        assert_eq!(by_topic.filter.as_str(), "devices/+/replies/+");
        let topic = by_topic.outgoing.envelope.properties().reply_to.clone().unwrap();
        assert_eq!(*topic, *format!("devices/d1/replies/{}", by_topic.token));
        let asked = by_topic.fill(&"devices/d1/do/{correlation}".into());
        assert_eq!(*asked, *format!("devices/d1/do/{}", by_topic.token));
        assert!(requests.take(&message(&topic)));
        assert!(!requests.take(&message(&"devices/d1/telemetry".into())));
    }

    #[test]
    fn a_reply_topic_must_tell_replies_from_each_other() {
        for (topic, sound) in [
            (None, true),
            (Some("a/{device}/{correlation}"), true),
            (Some("a/{device}"), false),
            (Some("a/x-{correlation}"), false),
            (Some("a/+/{correlation}"), false),
            (Some("$a/{correlation}"), false),
        ] {
            assert_eq!(lint(topic).is_none(), sound, "{topic:?}");
        }
    }
}
