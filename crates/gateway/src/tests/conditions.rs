use transload_adapter::Settlement;

use super::{Between, peer::Site};

const HOT: &str = r#"
[[route]]
name = "hot"
from = "source"
match = "{device}/#"
when = "payload.temperature > 30"
to = { adapter = "target", key = "{device}.{payload.unit|none}" }
[[route]]
name = "rest"
from = "source"
fallback = true
to = { adapter = "target", key = "rest" }
"#;

#[tokio::test]
async fn a_condition_decides_where_a_message_goes() {
    let site = Site::new();
    let gateway = site.start(HOT).await;
    for (payload, key) in [
        ("{\"temperature\": 31, \"unit\": \"C\"}", Some("d7.C")),
        ("{\"temperature\": 30.5}", Some("d7.none")),
        ("{\"temperature\": 30}", Some("rest")),
        ("{}", Some("rest")),
        ("ON", Some("rest")),
        ("{\"temperature\": \"hot\"}", None),
    ] {
        let before = site.target.taken().len();
        let fed = site.source.feed_text("d7/up", payload);
        assert_eq!(fed.settled().await, Settlement::Accepted, "{payload}");
        if key.is_some() {
            let taken = site.target.until_taken(before + 1).await;
            assert_eq!(taken[before].key.as_deref(), key, "{payload}");
        }
    }
    let letters = gateway.until_letters(1).await;
    assert_eq!(letters[0]["route"], "hot");
    assert_eq!(
        letters[0]["reason"],
        "`when` cannot be told: `payload.temperature > 30`: `>` cannot be used between a text and \
         an integer; payload.temperature is \"hot\""
    );
    let counted = "transload_conditions_unknown_total{route=\"hot\",reason=";
    assert!(gateway.metric(&format!("{counted}\"absent\"}} 2")).await);
    assert!(gateway.metric(&format!("{counted}\"failed\"}} 1")).await);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_absent_can_be_a_dead_letter() {
    let site = Site::new();
    let strict = HOT.replacen("when =", "when_missing = \"dead-letter\"\nwhen =", 1);
    let gateway = site.start(&strict).await;
    site.source.feed_text("d7/up", "{}").settled().await;
    let letters = gateway.until_letters(1).await;
    assert_eq!(
        letters[0]["reason"],
        "`when` cannot be told: `payload.temperature > 30`: payload.temperature is absent"
    );
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_no_condition_wants_is_unrouted() {
    let between = Between::with_route("when = \"has(payload.wanted)\"");
    let fed = between.source.feed_text("a", "{}");
    assert_eq!(fed.settled().await, Settlement::Unrouted);
    between.stop().await.unwrap();
}
