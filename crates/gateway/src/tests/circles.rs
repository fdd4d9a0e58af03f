//! Messages that run in a circle, through two routes and through two gateways.

use transload_adapter::{Refusal, Settlement};
use transload_envelope::{Envelope, Origin};

use super::{Between, peer::Site};

/// Sends `a` on as `b`, and `b` as `a`.
const ROUTES: &str = r#"
[[route]]
name = "there"
from = "source"
match = "a"
to = { adapter = "target", key = "b" }
[[route]]
name = "back"
from = "source"
match = "b"
to = { adapter = "target", key = "a" }
"#;

/// What a target has got, as its broker would send it back.
fn sent_back(sent: &transload_adapter::testing::SentMessage) -> Envelope {
    let before = &sent.outgoing.envelope;
    let address = sent.key.clone().unwrap();
    let mut again = Envelope::new(Origin::new("source", "fake", address), before.payload.clone())
        .with_id(before.id.clone());
    again.hops = before.hops;
    again
}

fn is_stopped(settlement: &Settlement) -> bool {
    matches!(settlement, Settlement::Rejected { refusal: Refusal::Loop, .. })
}

#[tokio::test]
async fn a_circle_through_two_routes_ends_at_the_bound() {
    let between = Between::start(ROUTES);
    let mut message = Envelope::new(Origin::new("source", "fake", "a"), "x");
    for round in 1..=16 {
        assert_eq!(between.source.feed(message.clone()).settled().await, Settlement::Accepted);
        let taken = between.target.until_taken(round).await;
        message = sent_back(&taken[round - 1]);
        assert_eq!(usize::from(message.hops), round);
    }
    assert!(is_stopped(&between.source.feed(message).settled().await));
    assert_eq!(between.target.taken().len(), 16);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_circle_through_two_gateways_ends_at_the_bound_and_is_counted() {
    let sites = [Site::new(), Site::new()];
    let gateways = [sites[0].start(ROUTES).await, sites[1].start(ROUTES).await];
    let mut message = Envelope::new(Origin::new("source", "fake", "a"), "x");
    for round in 0..16 {
        let site = &sites[round % 2];
        assert_eq!(site.source.feed(message.clone()).settled().await, Settlement::Accepted);
        let taken = site.target.until_taken(round / 2 + 1).await;
        message = sent_back(&taken[round / 2]);
    }
    assert!(is_stopped(&sites[0].source.feed(message).settled().await));
    let refused = "transload_messages_refused_total{adapter=\"source\"} 1";
    assert!(gateways[0].metric(refused).await);
    assert!(!gateways[1].metric(refused).await);
    for gateway in gateways {
        gateway.stop().await.unwrap();
    }
}
