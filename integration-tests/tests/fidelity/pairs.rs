//! A message from one protocol to another and back: what both can carry is as it was.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use transload_adapter::Part;
use transload_envelope::{Envelope, Properties, Timestamp, Value};

use crate::{
    messages::{event, message},
    protocol::{
        ALL,
        Protocol::{self, Amqp, Http},
    },
};

/// The headers that have come through: those that a protocol adds are left out, names and values
/// are as the poorest of the protocols on the way has them.
fn headers(envelope: &Envelope, way: [Protocol; 2]) -> Vec<(String, String)> {
    let added = ["webhook-id", "idempotency-key", "transload-user-id"];
    let mut headers = Vec::new();
    for header in &envelope.headers {
        if added.contains(&&*header.name) {
            continue;
        }
        let name = if way.contains(&Http) {
            header.name.to_ascii_lowercase()
        } else {
            header.name.to_string()
        };
        headers.push((name, in_words(&header.value)));
    }
    // A table of AMQP and the fields of HTTP have no order among different names.
    if way.iter().any(|protocol| matches!(protocol, Amqp | Http)) {
        headers.sort_by(|one, other| one.0.cmp(&other.0));
    }
    headers
}

/// A value as the protocols that know only text have it; JSON in one form of the many.
fn in_words(value: &Value) -> String {
    match value {
        Value::Text(text) => match serde_json::from_str(text) {
            Ok(list @ serde_json::Value::Array(_)) => plain(&list),
            Ok(_) | Err(_) => text.to_string(),
        },
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::List(list) => {
            plain(&list.iter().map(in_words).map(serde_json::Value::from).collect())
        }
        Value::UInt(_) | Value::Bytes(_) | Value::Timestamp(_) | Value::Map(_) => {
            panic!("{value:?} was not sent")
        }
    }
}

fn plain(list: &serde_json::Value) -> String {
    let item = |item: &serde_json::Value| {
        let text = item.as_str().map(str::to_owned);
        // The same number has a fraction in some forms and none in others.
        let float = item.as_f64().filter(|_| item.is_f64()).map(|number| number.to_string());
        text.or(float).unwrap_or_else(|| item.to_string())
    };
    format!("{:?}", list.as_array().into_iter().flatten().map(item).collect::<Vec<_>>())
}

/// What is left of properties that have come in by one protocol when they have been through
/// another, by what its adapter says that it carries.
fn kept(properties: &Properties, through: Protocol) -> Properties {
    let mut kept = properties.clone();
    let carriage = through.carriage();
    for part in Part::ALL.into_iter().filter(|part| !carriage.carries(*part)) {
        let nothing = Properties::NONE;
        match part {
            Part::ContentType => kept.content_type = nothing.content_type,
            Part::ContentEncoding => kept.content_encoding = nothing.content_encoding,
            Part::Correlation => kept.correlation = nothing.correlation,
            Part::ReplyTo => kept.reply_to = nothing.reply_to,
            Part::Expiry => kept.expires_at = nothing.expires_at,
            Part::Durable => kept.durable = nothing.durable,
            Part::Retain => kept.retain = nothing.retain,
            Part::Priority => kept.priority = nothing.priority,
            Part::Type => kept.kind = nothing.kind,
            Part::Application => kept.app_id = nothing.app_id,
            Part::User => kept.user_id = nothing.user_id,
            Part::Timestamp => kept.timestamp = nothing.timestamp,
            Part::Id | Part::Hops | Part::Headers => {}
        }
    }
    if through == Amqp {
        // Written as a header, and not read back as the user, since anybody can write it.
        kept.user_id = None;
    }
    kept
}

/// Whether a time is another one but for what is lost in whole seconds, rounded up.
fn is_about(time: Option<Timestamp>, wanted: Option<Timestamp>) -> bool {
    match (time, wanted) {
        (Some(time), Some(wanted)) => (0..1000).contains(&(time.unix_ms - wanted.unix_ms)),
        (time, wanted) => time == wanted,
    }
}

fn check(first: Protocol, second: Protocol, message: &Envelope) -> Result<(), TestCaseError> {
    let trip = |protocol: Protocol, envelope: &Envelope| {
        protocol.trip(envelope).map(|(_, envelope)| envelope).map_err(|error| {
            TestCaseError::fail(format!("{first:?} → {second:?}: {protocol:?}: {error:?}"))
        })
    };
    // What comes in by the first protocol is what it can carry.
    let sent = trip(first, message)?;
    let back = trip(first, &trip(second, &sent)?)?;
    let way = [first, second];
    prop_assert_eq!(&back.payload, &sent.payload, "{:?}", way);
    prop_assert_eq!(back.address.as_str(), sent.address.as_str(), "{:?}", way);
    let (mut got, mut wanted) = (back.properties().clone(), kept(sent.properties(), second));
    let carries = |part| way.iter().all(|protocol| protocol.carriage().carries(part));
    let is_same = back.id == sent.id;
    prop_assert_eq!(is_same, carries(Part::Id), "{:?}", way);
    prop_assert_eq!(back.hops, if carries(Part::Hops) { sent.hops } else { 0 }, "{:?}", way);
    if carries(Part::Headers) {
        prop_assert_eq!(headers(&back, way), headers(&sent, way), "{:?}", way);
    } else {
        prop_assert!(headers(&back, way).is_empty(), "{:?}: {:?}", way, back.headers);
    }
    let about = is_about(got.expires_at, wanted.expires_at);
    prop_assert!(about, "{:?}: {:?} {:?}", way, got.expires_at, wanted.expires_at);
    (got.expires_at, wanted.expires_at) = (None, None);
    // What a protocol does not say is left to the target, which takes more care then.
    if !second.carriage().carries(Part::Durable) || second == Protocol::JetStream {
        (got.durable, wanted.durable) = (None, None);
    }
    prop_assert_eq!(got, wanted, "{:?}", way);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_event_comes_back(event in event()) {
        for first in ALL {
            for second in ALL {
                check(first, second, &event)?;
            }
        }
    }

    #[test]
    fn what_both_can_carry_comes_back(message in message()) {
        for first in ALL {
            for second in ALL {
                check(first, second, &message)?;
            }
        }
    }
}

/// Each property by itself, so that a protocol cannot pass by refusing everything.
#[test]
fn nothing_is_refused_for_what_it_holds() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..256 {
        let message = message().new_tree(&mut runner).unwrap().current();
        for protocol in ALL {
            protocol.trip(&message).unwrap_or_else(|error| panic!("{protocol:?}: {error:?}"));
        }
    }
}
