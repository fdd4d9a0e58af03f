use std::time::Duration;

use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Refusal, Settlement,
    testing::{Fed, Reaction, Script},
};
use transload_envelope::{Envelope, Origin, Value};

use super::{Between, configuration};
use crate::run;

fn reply(text: &str) -> Reaction {
    let mut reply = Envelope::new(Origin::new("target", "fake", "answers"), text.to_owned());
    reply.properties_mut().retain = true;
    reply.properties_mut().content_type = Some("text/x".into());
    Reaction::Reply(Box::new(reply))
}

pub(super) fn question(source: &Script, text: &str, asker: Option<&str>) -> Fed {
    let mut envelope = Envelope::new(Origin::new("source", "fake", "questions"), text.to_owned());
    envelope.properties_mut().correlation = Some(text.to_owned().into());
    envelope.properties_mut().reply_to = asker.map(Into::into);
    source.feed(envelope)
}

pub(super) async fn answered(fed: &Fed) -> Envelope {
    let settlement = fed.settled().await;
    let Settlement::Replied(reply) = settlement else { panic!("{settlement:?}") };
    *reply
}

pub(super) fn status(answer: &Envelope) -> Option<i64> {
    match answer.headers.get("status") {
        Some(Value::Int(status)) => Some(*status),
        _ => None,
    }
}

#[tokio::test]
async fn a_reply_goes_back_to_its_own_question() {
    let between = Between::with_route("reply = {}");
    between.target.react_with(|message| reply(&format!("re: {}", message.text())));
    let one = question(&between.source, "one", None);
    let other = question(&between.source, "other", None);
    for (fed, text, asked) in [(&one, "re: one", "one"), (&other, "re: other", "other")] {
        let answer = answered(fed).await;
        assert_eq!(answer.payload, text);
        assert_eq!(answer.properties().content_type.as_deref(), Some("text/x"));
        assert_eq!(answer.properties().correlation.as_deref(), Some(asked.as_bytes()));
        assert!(!answer.properties().retain);
    }
    let asked = &between.target.taken()[0].outgoing.envelope;
    assert!(asked.properties().expires_at.is_some(), "nobody is to work for nobody");
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_question_without_a_reply_is_answered_with_the_reason() {
    let between = Between::with_route("reply = { timeout = \"40ms\" }");
    for (reaction, expected) in [
        (Reaction::Confirm, 504),
        (Reaction::NoReceiver, 503),
        (Reaction::Busy(None), 503),
        (Reaction::Fail, 502),
        (Reaction::Reject, 502),
        (Reaction::Disconnect, 503),
    ] {
        between.target.until_connected().await;
        between.target.react([reaction.clone()]);
        let answer = answered(&question(&between.source, "x", None)).await;
        assert_eq!(status(&answer), Some(expected), "{reaction:?}");
        assert_eq!(answer.properties().correlation.as_deref(), Some(&b"x"[..]));
    }
    between.stop().await.unwrap();
}

#[tokio::test]
async fn beyond_the_bound_callers_are_told_to_come_again() {
    let between = Between::with_route("reply = { timeout = \"30s\", max_in_flight = 1 }");
    between.target.react([Reaction::Hold]);
    let waiting = question(&between.source, "first", None);
    between.target.until_attempts(1).await;
    let answer = answered(&question(&between.source, "second", None)).await;
    assert_eq!(status(&answer), Some(503));
    assert_eq!(answer.headers.get("retry-after"), Some(&Value::Int(1)));
    assert_eq!(waiting.outcome(), None);
    // The end of its connection ends the first one too.
    between.target.disconnect();
    assert_eq!(status(&answered(&waiting).await), Some(503));
    between.stop().await.unwrap();
}

#[tokio::test]
async fn the_first_of_several_targets_wins_and_others_may_be_gathered() {
    let targets = "to = [{ adapter = \"target\", key = \"1\" }, { adapter = \"target\", \
                   key = \"2\" }, { adapter = \"target\", key = \"3\" }]";
    let route = |name: &str, reply: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nfrom = \"source\"\nmatch = \"{name}\"\nreply = {reply}\n{targets}\n"
        )
    };
    let between = Between::start(&format!(
        "{}{}{}",
        route("first", "{}"),
        route("two", "{ gather = 2 }"),
        route("four", "{ gather = 4, timeout = \"100ms\" }")
    ));
    between.target.react_with(|message| match message.key.as_deref() {
        Some("2") => Reaction::Fail,
        Some(key) => reply(key),
        None => Reaction::Reject,
    });
    let ask = async |address: &str| answered(&between.source.feed_text(address, "?")).await;
    assert_eq!(ask("first").await.payload, "1");
    let two = ask("two").await;
    assert_eq!((&*two.payload, status(&two)), (&b"[1,3]"[..], Some(200)));
    let some = ask("four").await;
    assert_eq!((&*some.payload, status(&some)), (&b"[1,3]"[..], Some(206)));
    between.stop().await.unwrap();
}

/// A gateway whose source takes replies as messages.
async fn with_reply_messages(test: impl AsyncFnOnce(&Script, &Script)) {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let rest = "[[route]]\nname = \"ask\"\nfrom = \"source\"\nto = \"target\"\n\
                reply = { timeout = \"40ms\" }\n";
    let settings = format!("reply_messages = true\n[adapters.target]\n{}", target.settings());
    // The line goes into the table of the source.
    let between = format!("{}{settings}{rest}", source.settings());
    let text = format!("[gateway]\ndata_dir = {:?}\n[adapters.source]\n{between}", data.path());
    let registry =
        transload_adapter::Registry::default().with::<transload_adapter::testing::Fake>();
    let loaded = crate::config::load_text("adapters.toml", &text, &|_| None, &registry);
    let stop = CancellationToken::new();
    let running = run(loaded.configuration.unwrap(), stop.clone());
    let (ended, ()) = tokio::join!(running, async {
        test(&source, &target).await;
        stop.cancel();
    });
    ended.unwrap();
}

#[tokio::test]
async fn an_answer_is_sent_to_who_asked_before_the_message_is_settled() {
    with_reply_messages(async |source, target| {
        target.react([reply("yes"), Reaction::Confirm, reply("unheard"), Reaction::Reject]);
        let fed = question(source, "a", Some("inbox/7"));
        assert_eq!(fed.settled().await, Settlement::Accepted);
        let late = question(source, "b", Some("inbox/7"));
        assert_eq!(late.settled().await, Settlement::Accepted);
        let answers = source.until_answers(2).await;
        assert_eq!((&answers[0].0, &*answers[0].1.payload), (fed.id(), &b"yes"[..]));
        assert_eq!((&answers[1].0, status(&answers[1].1)), (late.id(), Some(504)));
        assert_eq!(answers[1].1.properties().correlation.as_deref(), Some(&b"b"[..]));
        // Without an address the reply is dropped, and a failure is told by the settlement.
        assert_eq!(question(source, "c", None).settled().await, Settlement::Accepted);
        let refused = question(source, "d", None).settled().await;
        assert!(matches!(refused, Settlement::Rejected { refusal: Refusal::Target, .. }));
        assert_eq!(source.until_answers(2).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn who_still_waits_when_the_gateway_stops_is_told() {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let rest = "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"\n\
                reply = { timeout = \"30s\" }";
    let mut configuration = configuration(&source, &target, &data, rest);
    configuration.gateway.drain_timeout = Duration::from_millis(50);
    target.react_with(|_| Reaction::Hold);
    let stop = CancellationToken::new();
    let (ended, ()) = tokio::join!(run(configuration, stop.clone()), async {
        let fed = question(&source, "x", None);
        target.until_attempts(1).await;
        stop.cancel();
        let answer = answered(&fed).await;
        assert_eq!(status(&answer), Some(503));
        assert_eq!(answer.headers.get("reply-error"), Some(&"stopping".into()));
    });
    ended.unwrap();
}
