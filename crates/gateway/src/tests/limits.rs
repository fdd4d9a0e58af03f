//! Limits of routes, and messages that no route wants.

use transload_adapter::{Refusal, Settlement, testing::SentMessage};

use super::{
    Between,
    peer::{Asked, Site},
};
use crate::config::{Configuration, Unrouted};

fn route(keys: &str) -> String {
    format!(
        "[[route]]\nname = \"all\"\nfrom = \"source\"\nmatch = \"{{key}}/#\"\nto = \"target\"\n{keys}"
    )
}

fn texts(taken: &[SentMessage]) -> Vec<String> {
    taken.iter().map(SentMessage::text).collect()
}

async fn limited(gateway: &Asked, limit: &str, outcome: &str, count: usize) -> bool {
    let name = "transload_messages_limited_total";
    let line = format!("{name}{{route=\"all\",limit=\"{limit}\",outcome=\"{outcome}\"}} {count}");
    gateway.metric(&line).await
}

#[tokio::test]
async fn what_is_too_much_is_dropped_or_refused_as_the_route_says() {
    for (over, expected) in [("drop", None), ("reject", Some(Refusal::Full))] {
        let site = Site::new();
        let rate =
            format!("rate = {{ limit = \"1/h\", burst = 2, by = \"{{key}}\", over = \"{over}\" }}");
        let gateway = site.start(&route(&rate)).await;
        let mut settled = Vec::new();
        for text in ["1", "2", "3"] {
            settled.push(site.source.feed_text("a/x", text).settled().await);
        }
        assert_eq!(site.source.feed_text("b/x", "4").settled().await, Settlement::Accepted);
        assert_eq!(settled[..2], [Settlement::Accepted, Settlement::Accepted]);
        let refused = if let Settlement::Rejected { refusal, .. } = settled[2] {
            Some(refusal)
        } else {
            None
        };
        assert_eq!(refused, expected, "{over}");
        assert_eq!(texts(&site.target.until_taken(3).await), ["1", "2", "4"]);
        let outcome = if over == "drop" { "dropped" } else { "refused" };
        assert!(limited(&gateway, "rate", outcome, 1).await);
        gateway.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_source_waits_for_a_rate_and_nothing_is_lost() {
    let between = Between::with_route("rate = { limit = \"100/s\", burst = 1 }");
    let start = std::time::Instant::now();
    let fed: Vec<_> =
        (0..20).map(|number| between.source.feed_text("a", &number.to_string())).collect();
    for one in &fed {
        assert_eq!(one.settled().await, Settlement::Accepted);
    }
    assert!(start.elapsed() >= std::time::Duration::from_millis(185), "{:?}", start.elapsed());
    let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(between.texts(20).await, expected);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_payload_that_is_too_large_goes_where_the_route_says() {
    let site = Site::new();
    let gateway = site.start(&route("max_payload = 4")).await;
    assert_eq!(site.source.feed_text("a/b", "12345").settled().await, Settlement::Accepted);
    assert_eq!(site.source.feed_text("a/b", "1234").settled().await, Settlement::Accepted);
    assert_eq!(texts(&site.target.until_taken(1).await), ["1234"]);
    let letters = gateway.until_letters(1).await;
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(reason.contains("5 bytes"), "{reason}");
    gateway.stop().await.unwrap();

    let between = Between::start(&route("max_payload = { limit = \"4B\", over = \"reject\" }"));
    let settled = between.source.feed_text("a/b", "12345").settled().await;
    assert!(matches!(settled, Settlement::Rejected { .. }), "{settled:?}");
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_sample_is_taken_and_the_rest_is_acknowledged_and_counted() {
    let site = Site::new();
    let gateway = site.start(&route("sample = \"1/4\"")).await;
    for number in 0..200 {
        let fed = site.source.feed_text("a/b", &number.to_string());
        assert_eq!(fed.settled().await, Settlement::Accepted);
    }
    let name = "transload_messages_limited_total{route=\"all\",limit=\"sample\"";
    let metrics = gateway.get("/metrics").await;
    let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with(name)).unwrap();
    let dropped: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((110..190).contains(&dropped), "{dropped}");
    site.target.until_taken(200 - dropped).await;
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_throttle_lets_the_first_and_the_latest_pass() {
    for guarantee in ["", "guarantee = \"best-effort\"\n"] {
        let site = Site::new();
        let throttle = "throttle = { interval = \"400ms\", by = \"{key}\" }";
        let gateway = site.start(&route(&format!("{guarantee}{throttle}"))).await;
        let fed = ["a1", "a2", "b1", "a3", "a4"].map(|text| {
            let address = format!("{}/x", text.split_at(1).0);
            site.source.feed_text(&address, text)
        });
        for one in fed {
            assert_eq!(one.settled().await, Settlement::Accepted);
        }
        assert_eq!(texts(&site.target.until_taken(3).await), ["a1", "b1", "a4"], "{guarantee}");
        assert!(limited(&gateway, "throttle", "superseded", 2).await);
        site.source.feed_text("a/x", "a5").settled().await;
        assert_eq!(texts(&site.target.until_taken(4).await)[3], "a5");
        gateway.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_throttle_holds_survives_a_restart_and_a_changed_file() {
    let site = Site::new();
    let gateway = site.start(&route("throttle = \"1h\"")).await;
    for text in ["1", "2", "3"] {
        assert_eq!(site.source.feed_text("a/b", text).settled().await, Settlement::Accepted);
    }
    gateway.stop().await.unwrap();
    assert_eq!(texts(&site.target.until_taken(1).await), ["1"]);

    let gateway = site.start(&route("throttle = \"1h\"")).await;
    assert_eq!(site.source.feed_text("a/b", "4").settled().await, Settlement::Accepted);
    assert!(limited(&gateway, "throttle", "superseded", 1).await);
    gateway.stop().await.unwrap();

    let gateway = site.start(&route("")).await;
    assert_eq!(texts(&site.target.until_taken(2).await), ["1", "4"]);
    gateway.stop().await.unwrap();

    // Nothing is left to be sent again.
    let gateway = site.start(&route("")).await;
    site.source.feed_text("a/b", "5").settled().await;
    assert_eq!(texts(&site.target.until_taken(3).await), ["1", "4", "5"]);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_throttle_held_for_a_route_that_is_gone_is_among_the_dead_letters() {
    let site = Site::new();
    let gateway = site.start(&route("throttle = \"1h\"")).await;
    for text in ["1", "2"] {
        site.source.feed_text("a/b", text).settled().await;
    }
    gateway.stop().await.unwrap();
    let other = route("").replace("\"all\"", "\"other\"");
    let gateway = site.start(&other).await;
    let letters = gateway.until_letters(1).await;
    assert_eq!(letters[0]["route"], "all");
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn what_no_route_wants_fares_as_the_file_says() {
    let narrow = route("").replace("{key}/#", "wanted");
    let between = Between::start(&narrow);
    assert_eq!(between.source.feed_text("x", "1").settled().await, Settlement::Unrouted);
    between.stop().await.unwrap();

    let site = Site::new();
    let says = |unrouted| {
        move |configuration: &mut Configuration| {
            configuration.adapters.iter_mut().for_each(|adapter| adapter.unrouted = unrouted);
        }
    };
    let gateway = site.start_changed(&narrow, says(Unrouted::Reject)).await;
    let settled = site.source.feed_text("x", "1").settled().await;
    assert!(matches!(settled, Settlement::Rejected { refusal: Refusal::Invalid, .. }));
    gateway.stop().await.unwrap();

    let gateway = site.start_changed(&narrow, says(Unrouted::DeadLetter)).await;
    assert_eq!(site.source.feed_text("x", "1").settled().await, Settlement::Accepted);
    let letters = gateway.until_letters(1).await;
    assert_eq!(letters[0]["route"], "(unrouted)");
    assert!(gateway.metric("transload_messages_unrouted_total{adapter=\"source\"} 1").await);
    gateway.stop().await.unwrap();
}
