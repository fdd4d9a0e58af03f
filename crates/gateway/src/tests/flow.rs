use transload_adapter::{Refusal, Settlement, testing::Reaction};
use transload_envelope::{Envelope, Origin};

use super::Between;

#[tokio::test]
async fn a_message_goes_where_its_route_says_and_is_acknowledged() {
    let between = Between::start(
        r#"
        [[route]]
        name = "telemetry"
        from = "source"
        match = "devices/{device}/telemetry"
        to = { adapter = "target", key = "from.{device}" }
        "#,
    );
    let fed = between.source.feed_text("devices/d7/telemetry", "21.5");
    assert_eq!(fed.settled().await, Settlement::Accepted);
    let taken = between.target.until_taken(1).await;
    assert_eq!(taken[0].text(), "21.5");
    assert_eq!(taken[0].key.as_deref(), Some("from.d7"));
    assert_eq!(taken[0].destination, "telemetry/target");
    assert_eq!(taken[0].outgoing.envelope.id, *fed.id());
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_no_route_wants_is_told_so() {
    let between = Between::with_route("match = \"wanted/#\"");
    let fed = between.source.feed_text("unwanted", "x");
    assert_eq!(fed.settled().await, Settlement::Unrouted);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn many_messages_keep_their_order() {
    let between = Between::with_route("");
    let numbers: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    for number in &numbers {
        between.source.feed_text("a", number);
    }
    assert_eq!(between.texts(numbers.len()).await, numbers);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_fan_out_reaches_every_target_and_is_acknowledged_once() {
    let between = Between::start(
        r#"
        [[route]]
        name = "both"
        from = "source"
        to = [{ adapter = "target", key = "one" }, { adapter = "target", key = "two" }]
        [[route]]
        name = "third"
        from = "source"
        to = { adapter = "target", key = "three" }
        "#,
    );
    let fed = between.source.feed_text("a", "x");
    let mut keys: Vec<_> =
        between.target.until_taken(3).await.into_iter().filter_map(|sent| sent.key).collect();
    keys.sort();
    assert_eq!(keys, ["one", "three", "two"]);
    assert_eq!(fed.settled().await, Settlement::Accepted);
    assert_eq!(between.source.settlements().len(), 1);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn delivered_is_acknowledged_only_after_the_target_has_confirmed() {
    let between = Between::with_route("guarantee = \"delivered\"");
    between.target.react_with(|_| Reaction::Hold);
    let fed = between.source.feed_text("a", "x");
    between.target.until_attempts(1).await;
    assert_eq!(fed.outcome(), None, "the target has not confirmed yet");
    between.target.release();
    assert_eq!(fed.settled().await, Settlement::Accepted);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_runs_in_a_circle_is_refused() {
    let between = Between::with_route("");
    let mut envelope = Envelope::new(Origin::new("source", "fake", "a"), "x");
    envelope.hops = 16;
    let fed = between.source.feed(envelope);
    let settlement = fed.settled().await;
    assert!(matches!(settlement, Settlement::Rejected { refusal: Refusal::Loop, .. }));
    between.stop().await.unwrap();
}

#[tokio::test]
async fn what_has_expired_is_not_delivered() {
    let between = Between::with_route("");
    let mut expired = Envelope::new(Origin::new("source", "fake", "a"), "old");
    expired.properties_mut().expires_at = Some(transload_envelope::Timestamp { unix_ms: 1 });
    let old = between.source.feed(expired);
    between.source.feed_text("a", "new");
    assert_eq!(between.texts(1).await, ["new"]);
    assert_eq!(old.settled().await, Settlement::Accepted);
    between.stop().await.unwrap();
}
