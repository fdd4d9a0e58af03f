use serde_json::json;
use transload_adapter::testing::Reaction;
use transload_envelope::{Envelope, MessageId, Origin};

use super::peer::{Site, until};

const ALL: &str = "[[route]]\nname = \"all\"\nfrom = \"source\"\n\
                   match = [\"{device}/#\"]\nto = { adapter = \"target\", key = \"k.{device}\" }\n";

/// A gateway in front of a target that rejects what says "bad".
fn rejecting() -> Site {
    let site = Site::new();
    site.target.react_with(|sent| {
        if sent.text().starts_with("bad") { Reaction::Reject } else { Reaction::Confirm }
    });
    site
}

#[tokio::test]
async fn dead_letters_are_listed_by_filters_and_shown_whole() {
    let site = rejecting();
    let gateway = site.start(ALL).await;
    let mut envelope = Envelope::new(Origin::new("source", "fake", "d1/a"), "bad one")
        .with_id(MessageId::from_source("m/1"));
    envelope.headers.push("colour", "red");
    site.source.feed(envelope).settled().await;
    site.source.feed_text("d2/b", "bad two").settled().await;
    site.source.feed_text("d2/b", "good").settled().await;
    let letters = gateway.until_letters(2).await;
    assert_eq!(letters[0]["id"], "m/1");
    assert_eq!(letters[0]["destination"], "all/target");
    assert_eq!(letters[0]["reason"], "rejected");
    assert_eq!(
        (letters[0]["attempts"].as_u64(), letters[0]["route"].as_str()),
        (Some(1), Some("all"))
    );
    for (filter, expected) in [
        ("route=all", 2),
        ("route=none", 0),
        ("id=m/1", 1),
        ("address=d2/%23", 1),
        ("reason=REJECT", 2),
        ("reason=timeout", 0),
        ("since=2020-01-01T00:00:00Z", 2),
        ("until=2020-01-01T00:00:00Z", 0),
        ("limit=1", 1),
    ] {
        let page = gateway.get(&format!("/dead-letters?{filter}")).await;
        assert_eq!(page["letters"].as_array().unwrap().len(), expected, "{filter}: {page}");
    }
    let first = gateway.get("/dead-letters?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let second = gateway.get(&format!("/dead-letters?limit=1&after={next}")).await;
    assert_eq!(second["letters"][0], letters[1]);

    let shown = gateway.get(&format!("/dead-letters/all/{}", letters[0]["position"])).await;
    assert_eq!(shown["payload"], "bad one");
    assert_eq!(shown["headers"], json!([{ "name": "colour", "value": "red" }]));
    assert_eq!(shown["arguments"], json!({ "key": "k.d1" }));
    assert!(gateway.metric("transload_dead_letters{route=\"all\"} 2").await);
    assert_eq!(gateway.ask("GET", "/dead-letters/all/99999", &[], "").await.0, 404);
    assert_eq!(gateway.ask("GET", "/dead-letters?colour=red", &[], "").await.0, 400);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_replay_goes_back_to_its_destination_untouched() {
    let site = rejecting();
    let gateway = site.start(ALL).await;
    let fed = site.source.feed_text("d1/a", "bad one");
    fed.settled().await;
    gateway.until_letters(1).await;
    site.target.react_with(|_| Reaction::Confirm);
    let (status, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!((status, &outcome["replayed"], &outcome["left"]), (200, &json!(1), &json!([])));
    let taken = site.target.until_taken(1).await;
    assert_eq!(taken[0].outgoing.envelope.id, *fed.id());
    assert_eq!(taken[0].key.as_deref(), Some("k.d1"));
    gateway.until_letters(0).await;
    gateway.stop().await.unwrap();

    let gateway = site.start(ALL).await;
    gateway.until_letters(0).await;
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn what_fails_again_is_a_dead_letter_again() {
    let site = rejecting();
    let gateway = site.start(ALL).await;
    site.source.feed_text("d1/a", "bad").settled().await;
    let before = gateway.until_letters(1).await[0]["position"].as_u64().unwrap();
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "route": "all" })).await;
    assert_eq!(outcome["replayed"], 1);
    let attempts = site.target.until_attempts(2).await;
    assert_eq!(attempts.len(), 2);
    let after = gateway.until_letters(1).await[0]["position"].as_u64().unwrap();
    assert!(after > before);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_replay_may_go_to_another_route() {
    let site = rejecting();
    let other = "[[route]]\nname = \"other\"\nfrom = \"target\"\nmatch = \"{a}/{b}\"\n\
                 to = { adapter = \"target\", key = \"other.{b}\" }\n";
    let gateway = site.start(&format!("{ALL}{other}")).await;
    site.source.feed_text("d1/a", "bad one").settled().await;
    site.source.feed_text("d1/a/b", "bad two").settled().await;
    let positions: Vec<_> =
        gateway.until_letters(2).await.iter().map(|letter| letter["position"].clone()).collect();
    site.target.react_with(|_| Reaction::Confirm);
    let request = json!({ "route": "all", "positions": positions, "to_route": "other" });
    let (_, outcome) = gateway.post("/dead-letters/replay", &request).await;
    assert_eq!(outcome["replayed"], 1, "{outcome}");
    assert!(outcome["left"][0]["reason"].as_str().unwrap().contains("does not match"), "{outcome}");
    let taken = site.target.until_taken(1).await;
    assert_eq!(taken[0].key.as_deref(), Some("other.a"));
    assert_eq!(taken[0].destination, "other/target");
    gateway.until_letters(1).await;
    let request = json!({ "all": true, "to_route": "none" });
    assert_eq!(gateway.post("/dead-letters/replay", &request).await.0, 400);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_routed_is_routed_by_the_mended_file() {
    let site = Site::new();
    let broken = ALL.replace("k.{device}", "k.{header.tenant}");
    let gateway = site.start(&broken).await;
    site.source.feed_text("d1/a", "x").settled().await;
    let letters = gateway.until_letters(1).await;
    assert!(letters[0]["reason"].as_str().unwrap().contains("cannot be filled in"));
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!(outcome["replayed"], 0, "{outcome}");
    gateway.stop().await.unwrap();

    let gateway = site.start(ALL).await;
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!(outcome["replayed"], 1, "{outcome}");
    assert_eq!(site.target.until_taken(1).await[0].key.as_deref(), Some("k.d1"));
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_letter_for_a_queue_in_memory_leaves_when_it_is_delivered() {
    let site = rejecting();
    let gateway = site.start(&format!("{ALL}guarantee = \"delivered\"\n")).await;
    site.source.feed_text("d1/a", "bad").settled().await;
    gateway.until_letters(1).await;
    site.target.react_with(|_| Reaction::Hold);
    let all = json!({ "all": true });
    let (_, outcome) = gateway.post("/dead-letters/replay", &all).await;
    assert_eq!((&outcome["replayed"], &outcome["under_way"]), (&json!(0), &json!(1)));
    site.target.until_attempts(2).await;
    gateway.until_letters(1).await;
    let (_, again) = gateway.post("/dead-letters/replay", &all).await;
    assert!(again["left"][0]["reason"].as_str().unwrap().contains("on its way"), "{again}");
    site.target.release();
    gateway.until_letters(0).await;
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn letters_of_a_route_that_is_gone_are_still_there() {
    let site = rejecting();
    let gateway = site.start(ALL).await;
    site.source.feed_text("d1/a", "bad").settled().await;
    gateway.until_letters(1).await;
    gateway.stop().await.unwrap();

    let gateway = site.start(&ALL.replace("\"all\"", "\"new\"")).await;
    assert_eq!(gateway.until_letters(1).await[0]["route"], "all");
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    assert!(outcome["left"][0]["reason"].as_str().unwrap().contains("another route"), "{outcome}");
    let (_, outcome) = gateway.post("/dead-letters/drop", &json!({ "route": "all" })).await;
    assert_eq!(outcome["dropped"], 1);
    gateway.until_letters(0).await;
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn the_oldest_dead_letters_make_room() {
    let site = rejecting();
    let mut configuration = super::configuration(&site.source, &site.target, &site.data, ALL);
    configuration.gateway.dead_letters.messages_max = 2;
    let stop = tokio_util::sync::CancellationToken::new();
    let (ended, ()) = tokio::join!(crate::run(configuration, stop.clone()), async {
        for number in 0..4 {
            site.source.feed_text("d1/a", &format!("bad {number}")).settled().await;
            site.target.until_attempts(number + 1).await;
            // Whether the letter is there shows in nothing but the next one's delivery.
            site.source.feed_text("d1/a", "good").settled().await;
            site.target.until_taken(number + 1).await;
        }
        stop.cancel();
    });
    ended.unwrap();
    let gateway = site.start(ALL).await;
    let letters = gateway.until_letters(2).await;
    let shown = gateway.get(&format!("/dead-letters/all/{}", letters[1]["position"])).await;
    assert_eq!(shown["payload"], "bad 3");
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn pages_of_the_web_change_nothing() {
    let site = rejecting();
    let gateway = site.start(ALL).await;
    site.source.feed_text("d1/a", "bad").settled().await;
    gateway.until_letters(1).await;
    let json = "Content-Type: application/json";
    let all = "{\"all\":true}";
    for (headers, expected) in [
        (&["Content-Type: text/plain"][..], 415),
        (&[], 415),
        (&[json, "Origin: https://evil.example"], 403),
        (&[json, "Host: rebound.example"], 403),
    ] {
        let (status, body) = gateway.ask("POST", "/dead-letters/drop", headers, all).await;
        assert_eq!(status, expected, "{headers:?}: {body}");
        assert!(body["error"].is_string(), "{body}");
    }
    assert_eq!(gateway.ask("GET", "/dead-letters", &["Host: rebound.example"], "").await.0, 403);
    assert_eq!(gateway.ask("GET", "/healthz", &["Host: gateway.example"], "").await.0, 200);
    assert_eq!(gateway.ask("GET", "/dead-letters/drop", &[], "").await.0, 405);
    assert_eq!(gateway.post("/dead-letters/drop", &json!({})).await.0, 400, "no filter");
    gateway.until_letters(1).await;
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn queues_and_adapters_are_shown() {
    let site = Site::new();
    site.target.react_with(|_| Reaction::Busy(None));
    let gateway = site.start(ALL).await;
    site.source.feed_text("d1/a", "x").settled().await;
    let waiting = async || {
        let queues = gateway.get("/queues").await;
        queues["queues"].as_array().unwrap().iter().any(|queue| queue["messages"] == 1)
    };
    until("the queue", waiting).await;
    let queues = gateway.get("/queues").await;
    let queue = &queues["queues"][0];
    assert_eq!(queue["name"], "all/target");
    assert_eq!(queue["kind"], "destination");
    assert_eq!((&queue["route"], &queue["storage"]), (&json!("all"), &json!("disk")));
    assert_eq!(queue["orphan"], false);
    assert!(queue["bytes"].as_u64().unwrap() > 0);
    assert!(queue["oldest_at"].as_str().unwrap().ends_with('Z'));
    let adapters = gateway.get("/adapters").await;
    assert_eq!(adapters["adapters"][0]["name"], "source");
    assert_eq!(adapters["adapters"][0]["kind"], "fake");
    assert_eq!(adapters["adapters"][0]["state"], "up");
    gateway.stop().await.unwrap();
}
