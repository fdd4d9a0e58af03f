use transload_adapter::{
    Settlement,
    testing::{ConnectFault, Reaction},
};
use transload_envelope::{Envelope, MessageId, Origin};

use super::peer::{Site, until};

fn all(keys: &str) -> String {
    format!("[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"\n{keys}")
}

/// The routes behind a source that recognizes repeats.
fn recognizing(how: &str, keys: &str) -> String {
    format!("[adapters.source.deduplicate]\n{how}\n{}", all(keys))
}

fn message(id: &str, text: &str) -> Envelope {
    let origin = Origin::new("source", "fake", "a");
    Envelope::new(origin, text.to_owned()).with_id(MessageId::from_source(id))
}

#[tokio::test]
async fn a_repeat_is_accepted_and_not_routed_also_after_a_restart() {
    let site = Site::new();
    let rest = recognizing("window = \"1h\"", "");
    let gateway = site.start(&rest).await;
    for text in ["one", "repeat"] {
        assert_eq!(site.source.feed(message("m-1", text)).settled().await, Settlement::Accepted);
    }
    site.source.feed(message("m-2", "two")).settled().await;
    site.target.until_taken(2).await;
    assert!(gateway.metric("transload_messages_duplicate_total{adapter=\"source\"} 1").await);
    assert!(gateway.metric("transload_deduplication_ids{adapter=\"source\"} 2").await);
    gateway.stop().await.unwrap();

    let gateway = site.start(&rest).await;
    assert_eq!(site.source.feed(message("m-1", "again")).settled().await, Settlement::Accepted);
    site.source.feed(message("m-3", "three")).settled().await;
    let taken = site.target.until_taken(3).await;
    let texts: Vec<_> = taken.iter().map(transload_adapter::testing::SentMessage::text).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_header_can_say_what_is_a_repeat() {
    let site = Site::new();
    let gateway = site.start(&recognizing("by = \"header:Idempotency-Key\"", "")).await;
    for (key, text) in [(Some("k"), "one"), (Some("k"), "repeat"), (None, "two"), (None, "three")] {
        let mut envelope = Envelope::new(Origin::new("source", "fake", "a"), text);
        if let Some(key) = key {
            envelope.headers.push("idempotency-key", key);
        }
        assert_eq!(site.source.feed(envelope).settled().await, Settlement::Accepted);
    }
    let taken = site.target.until_taken(3).await;
    let texts: Vec<_> = taken.iter().map(transload_adapter::testing::SentMessage::text).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_repeat_waits_for_the_first_that_is_still_under_way() {
    let site = Site::new();
    let gateway = site.start(&recognizing("", "guarantee = \"delivered\"")).await;
    site.target.react_with(|_| Reaction::Hold);
    let first = site.source.feed(message("m-1", "one"));
    let repeat = site.source.feed(message("m-1", "repeat"));
    site.target.until_attempts(1).await;
    assert_eq!((first.outcome(), repeat.outcome()), (None, None));
    site.target.release();
    assert_eq!(first.settled().await, Settlement::Accepted);
    assert_eq!(repeat.settled().await, Settlement::Accepted);
    assert_eq!(site.target.attempts().len(), 1);
    gateway.stop().await.unwrap();
}

/// Its source gets it back, and when it comes again, it is not taken for a repeat of itself.
#[tokio::test]
async fn what_was_not_delivered_before_the_stop_comes_again() {
    let site = Site::new();
    let rest = recognizing("", "guarantee = \"delivered\"");
    site.target.react_with(|_| Reaction::Busy(None));
    let gateway = site.start(&rest).await;
    site.source.feed(message("m-1", "one"));
    site.source.feed(message("m-1", "repeat"));
    site.target.until_attempts(1).await;
    gateway.stop().await.unwrap();
    assert!(site.source.settlements().iter().all(|(_, one)| *one != Settlement::Accepted));

    site.target.react_with(|_| Reaction::Confirm);
    let gateway = site.start(&rest).await;
    let outcome = || site.source.settlements();
    until("both settlements", async || {
        outcome().iter().filter(|(_, one)| *one == Settlement::Accepted).count() == 2
    })
    .await;
    assert_eq!(site.target.taken().len(), 1);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn at_the_bound_the_oldest_are_forgotten() {
    let site = Site::new();
    let gateway = site.start(&recognizing("max_ids = 2", "")).await;
    for id in ["1", "2", "3", "1", "3"] {
        site.source.feed(message(id, id)).settled().await;
    }
    let taken = site.target.until_taken(4).await;
    let texts: Vec<_> = taken.iter().map(transload_adapter::testing::SentMessage::text).collect();
    assert_eq!(texts, ["1", "2", "3", "1"]);
    assert!(gateway.metric("transload_deduplication_ids{adapter=\"source\"} 2").await);
    assert!(gateway.metric("transload_deduplication_forgotten_total{adapter=\"source\"} 2").await);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn many_at_once_are_all_settled() {
    let site = Site::new();
    site.target.fail_connections(Some(ConnectFault::Unreachable));
    let gateway = site.start(&recognizing("", "")).await;
    let fed: Vec<_> =
        (0..600).map(|n| site.source.feed(message(&(n % 300).to_string(), "x"))).collect();
    for one in &fed {
        assert_eq!(one.settled().await, Settlement::Accepted);
    }
    site.target.fail_connections(None);
    site.target.until_taken(300).await;
    assert!(gateway.metric("transload_messages_duplicate_total{adapter=\"source\"} 300").await);
    gateway.stop().await.unwrap();
}
