//! Requests over MQTT: a reply is a message under a topic that only its request knows.
//!
//! The topic is `transload/replies/INSTANCE/CORRELATION`, told as the Response Topic of version 5 with
//! the correlation also as its Correlation Data; or, for devices of version 3.1.1, what the target's
//! `reply_topic` makes of the correlation, which the topic of the request may hold too. Devices whose
//! topics are fixed put the correlation of the request's payload into a member of their reply's
//! (`reply_correlation`).
//!
//! Invariants:
//! - A topic for replies, or a correlation, is never used twice, so a late reply reaches nobody else.
//! - What is published under a topic for replies only, or has a correlation of ours, is a reply and
//!   nothing else: it is not routed.

mod payload;

use std::sync::{Arc, PoisonError, RwLock};

use transload_adapter::{Lint, Observer, Replies, RequestError, Waiters, Waiting};
use transload_envelope::{Envelope, Origin, Outgoing, Text};
use transload_routing::Pattern;

use self::payload::Member;
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
    /// Under what replies have been asked for by `reply_topic`s.
    filters: RwLock<Vec<Filter>>,
}

/// How the replies to the requests of a target are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RepliesBy<'a> {
    /// The target's `reply_topic`.
    pub(crate) topic: Option<&'a str>,
    /// The target's `reply_correlation`.
    pub(crate) member: Option<&'a str>,
}

/// The topics of a `reply_topic`, and what of their messages are replies.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    topics: Pattern,
    /// Where the correlation is; all are replies where it is in the topic.
    member: Option<Member>,
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
        by: RepliesBy<'_>,
        replies: &Replies,
    ) -> Result<Question, RequestError> {
        let rejected = |reason: &'static str| RequestError::Rejected { reason: reason.into() };
        let member = by.member.and_then(Member::parse);
        let token = if member.is_some() { payload::token() } else { Waiters::token() };
        let made = outgoing.arguments.get("reply_topic").map(|text| &**text);
        let (reply_to, filter) = match (made.or(by.topic), by.topic) {
            (Some(made), Some(written)) => (made.replace(CORRELATION, &token), filter(written)),
            _ => (format!("{}{token}", self.prefix), format!("{}+", self.prefix)),
        };
        let topics = Pattern::parse_filter(&filter).ok();
        let Some(topics) = topics.filter(|_| topic::is_valid_name(&reply_to)) else {
            return Err(rejected("the message makes no topic of `reply_topic`"));
        };
        let mut outgoing = outgoing.clone();
        let mut key = Text::from(reply_to.clone());
        if member.is_some() {
            key = payload::key(&key, &token);
            outgoing.envelope.payload = payload::fill(&outgoing.envelope.payload, &token)
                .ok_or_else(|| rejected("the payload holds no `{correlation}` for the reply"))?;
        }
        let properties = outgoing.envelope.properties_mut();
        properties.reply_to = Some(reply_to.into());
        properties.correlation = Some(token.clone().into_bytes());
        // Nobody wants to be asked again later.
        properties.retain = false;
        if by.topic.is_some() {
            self.remember(&Filter { topics: topics.clone(), member });
        }
        let waiting = self.waiters.wait(key, replies);
        Ok(Question { outgoing, token, filter: topics, _waiting: waiting })
    }

    fn remember(&self, filter: &Filter) {
        let known = |filters: &[Filter]| filters.contains(filter);
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

    /// Whether replies have been asked for under this topic, among other messages.
    pub(crate) fn hears(&self, topic: &str) -> bool {
        let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
        filters.iter().any(|filter| filter.topics.matches(topic).is_some())
    }

    /// Takes a message that is a reply, wanted or late; `false` when it is none.
    pub(crate) fn take(&self, message: &Message) -> bool {
        let key = if message.topic.starts_with(REPLIES) {
            Some(message.topic.clone())
        } else {
            let filters = self.filters.read().unwrap_or_else(PoisonError::into_inner);
            filters.iter().find_map(|filter| filter.key(message))
        };
        let Some(key) = key else { return false };
        let origin = Origin::new(self.adapter.clone(), "mqtt", message.topic.clone());
        self.waiters.reply(&key, mapping::to_envelope(message, origin));
        true
    }
}

impl Filter {
    /// Under what the asker waits to whom this message replies; `None` for one that is no reply.
    fn key(&self, message: &Message) -> Option<Text> {
        self.topics.matches(&message.topic)?;
        let Some(member) = &self.member else { return Some(message.topic.clone()) };
        let token = member.token(&message.payload)?;
        Some(payload::key(&message.topic, &token))
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

/// What there is to say about the `reply_topic` and the `reply_correlation` of a target.
pub(crate) fn lint(by: RepliesBy<'_>) -> Option<Lint> {
    if let Some(member) = by.member {
        let lint = |message| Some(Lint::error("reply_correlation", message));
        if Member::parse(member).is_none() {
            return lint("expected a member of the payload, such as `payload.id`");
        }
        if by.topic.is_none() {
            let help = "write as `reply_topic` under what the device replies";
            return lint(
                "this tells replies under `reply_topic` from each other, and there is none",
            )
            .map(|lint| lint.with_help(help));
        }
    }
    let reply_topic = by.topic?;
    let whole = reply_topic.split('/').any(|level| level == CORRELATION);
    if !whole && by.member.is_none() {
        let help = "write `{correlation}` as one of its levels, and in `topic` where the device \
                    can read it; or say with `reply_correlation` where in the reply it is";
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

    fn by<'a>(topic: Option<&'a str>, member: Option<&'a str>) -> RepliesBy<'a> {
        RepliesBy { topic, member }
    }

    #[test]
    fn a_reply_is_known_by_a_member_of_its_payload() {
        let requests = Requests::new("a".into(), Arc::new(NoObserver));
        let envelope = Envelope::new(
            Origin::new("web", "http", "x"),
            r#"{ "id": "{correlation}", "n": 1.0 }"#,
        );
        let mut outgoing = Outgoing { envelope, arguments: Arguments::default() };
        outgoing.arguments.push("reply_topic", "d1/rpc");
        let by = by(Some("{device}/rpc"), Some("payload.re.id"));
        let (replies, mut received) = Replies::new(2, Instant::now());
        let one = requests.ask(&outgoing, by, &replies).unwrap();
        let other = requests.ask(&outgoing, by, &replies).unwrap();
        assert_eq!(one.filter.as_str(), "+/rpc");
        let asked = format!(r#"{{ "id": "{}", "n": 1.0 }}"#, one.token);
        assert_eq!(one.outgoing.envelope.payload, asked);
        assert_ne!(one.token, other.token);
        let message = |topic: &'static str, payload: String| Message {
            payload: payload.into(),
            ..message(&Text::from_static(topic))
        };
        let reply = |token: &str| format!(r#"{{"re":{{"id":"{token}"}}}}"#);
        assert!(requests.take(&message("d1/rpc", reply(&other.token))));
        assert_eq!(received.try_recv().unwrap().payload, reply(&other.token));
        // Another device cannot reply for this one.
        assert!(requests.take(&message("d2/rpc", reply(&one.token))));
        assert!(received.try_recv().is_err());
        for no_reply in
            ["{\"re\":{\"id\":\"7\"}}", "{\"re\":{\"id\":7}}", "{\"x\":1}", "[]", "no JSON", ""]
        {
            assert!(!requests.take(&message("d1/rpc", no_reply.to_owned())), "{no_reply}");
        }
        let token = one.token.clone();
        drop(one);
        assert!(requests.take(&message("d1/rpc", reply(&token))), "a late reply is a reply too");
        assert!(received.try_recv().is_err());
        outgoing.envelope.payload = "{}".into();
        let unmarked = requests.ask(&outgoing, by, &replies);
        assert!(matches!(unmarked, Err(RequestError::Rejected { .. })));
    }

    #[test]
    fn a_member_must_be_one_and_needs_a_topic() {
        for (topic, member, sound) in [
            (Some("{device}/rpc"), "payload.id", true),
            (Some("{device}/rpc"), "payload.re.id", true),
            (Some("{device}/rpc"), "payload", false),
            (Some("{device}/rpc"), "payload..id", false),
            (Some("{device}/rpc"), "header.id", false),
            (Some("+/rpc"), "payload.id", false),
            (None, "payload.id", false),
        ] {
            assert_eq!(lint(by(topic, Some(member))).is_none(), sound, "{topic:?} {member}");
        }
    }

    #[test]
    fn a_reply_is_known_by_its_topic() {
        let requests = Requests::new("a".into(), Arc::new(NoObserver));
        let envelope = Envelope::new(Origin::new("web", "http", "x"), "?");
        let mut outgoing = Outgoing { envelope, arguments: Arguments::default() };
        let (replies, mut received) = Replies::new(1, Instant::now());
        let by_property = requests.ask(&outgoing, by(None, None), &replies).unwrap();
        let topic = by_property.outgoing.envelope.properties().reply_to.clone().unwrap();
        assert!(by_property.filter.matches(&topic).is_some());
        assert!(requests.waiters.knows(&topic) && requests.take(&message(&topic)));
        assert_eq!(received.try_recv().unwrap().payload, "yes");
        drop(by_property);
        assert!(requests.take(&message(&topic)), "a late reply is a reply too");

        let written = "devices/{device}/replies/{correlation}";
        outgoing.arguments.push("reply_topic", "devices/d1/replies/{correlation}");
        let by_topic = requests.ask(&outgoing, by(Some(written), None), &replies).unwrap();
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
            assert_eq!(lint(by(topic, None)).is_none(), sound, "{topic:?}");
        }
    }
}
