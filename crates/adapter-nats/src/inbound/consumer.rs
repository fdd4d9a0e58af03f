//! Finding and making durable consumers, by the API of `JetStream`.
//! <https://docs.nats.io/reference/reference-protocols/nats_api_reference>

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use transload_adapter::ConnectError;

use super::Shared;
use crate::{
    config::{Consume, DeliverPolicy},
    error::{self, ApiError},
};

/// A consumer that is there.
#[derive(Debug)]
pub(super) struct Consumer {
    /// Its stream and its name, for people.
    pub(super) name: String,
    /// The subject on which it is asked for messages.
    pub(super) next: String,
    /// How many messages are asked for at once.
    pub(super) batch: usize,
    /// How long the server waits for an acknowledgement.
    pub(super) ack_wait: Duration,
}

/// What is wanted of a consumer that is made.
#[derive(Debug, Serialize)]
struct Create<'a> {
    stream_name: &'a str,
    config: Wanted<'a>,
}

#[derive(Debug, Serialize)]
struct Wanted<'a> {
    durable_name: &'a str,
    description: &'static str,
    deliver_policy: &'static str,
    ack_policy: &'static str,
    /// In nanoseconds.
    ack_wait: u64,
    max_ack_pending: u32,
    replay_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    filter_subjects: &'a [String],
}

/// The answer to both questions.
#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<ApiError>,
    config: Option<Found>,
}

#[derive(Debug, Deserialize)]
struct Found {
    ack_policy: String,
    /// In nanoseconds.
    #[serde(default)]
    ack_wait: u64,
    #[serde(default)]
    max_batch: i64,
}

/// Finds the consumer, or makes it where the settings say so.
pub(super) async fn find(shared: &Shared, consume: &Consume) -> Result<Consumer, ConnectError> {
    let Consume { stream, durable, .. } = consume;
    let name = format!("{stream}/{durable}");
    let (subject, question) = if consume.create {
        several_filters(shared, consume)?;
        creation(consume)
    } else {
        (format!("$JS.API.CONSUMER.INFO.{stream}.{durable}"), Bytes::new())
    };
    let within = shared.config.confirm_timeout.get();
    let answer = shared.client.request(&subject, &question, within).await;
    let found = match answer {
        Ok(Some(answer)) => read(&name, &answer)?,
        Ok(None) => return Err(error::no_consumer(&name, "nobody answers for streams")),
        Err(_) if shared.link.is_lost() => return Err(shared.lost()),
        Err(_) => return Err(error::no_consumer(&name, "the server does not answer")),
    };
    if found.ack_policy != "explicit" {
        let reason = format!("consumer {name} does not acknowledge each message by itself");
        return Err(ConnectError::Refused { reason: reason.into() });
    }
    let most = usize::try_from(found.max_batch).ok().filter(|most| *most > 0);
    Ok(Consumer {
        name,
        next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"),
        batch: usize::from(consume.batch).min(most.unwrap_or(usize::MAX)).max(1),
        ack_wait: Duration::from_nanos(found.ack_wait),
    })
}

fn read(name: &str, answer: &[u8]) -> Result<Found, ConnectError> {
    let unreadable = |why: &str| error::no_consumer(name, &format!("unreadable answer: {why}"));
    let answer: Answer =
        serde_json::from_slice(answer).map_err(|error| unreadable(&error.to_string()))?;
    match answer {
        Answer { error: Some(refusal), .. } => Err(error::consumer(name, &refusal)),
        Answer { config: Some(found), .. } => Ok(found),
        Answer { .. } => Err(unreadable("no settings")),
    }
}

fn creation(consume: &Consume) -> (String, Bytes) {
    let Consume { stream, durable, .. } = consume;
    let mut subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{durable}");
    let (one, several) = match &*consume.subjects {
        [one] => (Some(&**one), &[][..]),
        several => (None, several),
    };
    if let Some(one) = one {
        // The server permits by it, and refuses where it is not the filter of the settings.
        subject.push('.');
        subject.push_str(one);
    }
    let config = Wanted {
        durable_name: durable,
        description: "made by Transload",
        deliver_policy: match consume.deliver_policy {
            DeliverPolicy::All => "all",
            DeliverPolicy::Last => "last",
            DeliverPolicy::LastPerSubject => "last_per_subject",
            DeliverPolicy::New => "new",
        },
        ack_policy: "explicit",
        ack_wait: u64::try_from(consume.ack_wait.get().as_nanos()).unwrap_or(u64::MAX),
        max_ack_pending: consume.max_ack_pending,
        replay_policy: "instant",
        filter_subject: one,
        filter_subjects: several,
    };
    let create = serde_json::to_vec(&Create { stream_name: stream, config });
    // Texts and numbers are always JSON.
    (subject, create.unwrap_or_default().into())
}

/// One filter is understood by every server, several only since 2.10: an older one would ignore
/// them and deliver the whole stream.
fn several_filters(shared: &Shared, consume: &Consume) -> Result<(), ConnectError> {
    if consume.subjects.len() > 1 && !shared.client.server_is_at_least(2, 10) {
        return Err(ConnectError::Refused {
            reason: "several `subjects` of a consumer need nats-server 2.10 or later".into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consume(more: &str) -> Consume {
        toml::from_str(&format!("stream = 'S'\ndurable = 'd'\ncreate = true\n{more}")).unwrap()
    }

    #[test]
    fn a_consumer_is_asked_for_as_the_server_wants_it() {
        let (subject, question) = creation(&consume("subjects = ['a.>']\nack_wait = '2s'"));
        assert_eq!(subject, "$JS.API.CONSUMER.CREATE.S.d.a.>");
        let question: serde_json::Value = serde_json::from_slice(&question).unwrap();
        assert_eq!(question["stream_name"], "S");
        let config = &question["config"];
        assert_eq!(
            (&config["ack_wait"], &config["filter_subject"]),
            (&2_000_000_000_u64.into(), &"a.>".into())
        );
        assert!(config.get("filter_subjects").is_none());
        let (subject, question) = creation(&consume("subjects = ['a', 'b']"));
        assert_eq!(subject, "$JS.API.CONSUMER.CREATE.S.d");
        let question: serde_json::Value = serde_json::from_slice(&question).unwrap();
        assert_eq!(question["config"]["filter_subjects"], serde_json::json!(["a", "b"]));
        assert!(question["config"].get("filter_subject").is_none());
    }

    #[test]
    fn answers_are_read() {
        let found = read("c", br#"{"type":"x","config":{"ack_policy":"explicit","ack_wait":5}}"#);
        assert_eq!(found.unwrap().ack_wait, 5);
        let refused = br#"{"error":{"code":404,"err_code":10014,"description":"not found"}}"#;
        let refused = read("c", refused).unwrap_err();
        assert!(matches!(&refused, ConnectError::Refused { .. }), "{refused:?}");
        for unreadable in [&b""[..], b"{}", b"[]"] {
            assert!(matches!(read("c", unreadable), Err(ConnectError::Unreachable(_))));
        }
    }
}
