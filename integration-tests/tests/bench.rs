//! The benchmark measures what it says: a short run of each kind of figure.

use transload_integration_tests::bench::{Candidate, End, Guarantee, Path, Plan, run};

fn plan(rate: Option<f64>) -> Plan {
    Plan {
        path: Path { from: End::Listener, to: End::Listener },
        candidate: Candidate::Transload(Guarantee::Delivered),
        messages: 400,
        bytes: 256,
        rate,
        connections: None,
    }
}

#[tokio::test]
async fn everything_that_is_sent_is_acknowledged_and_timed() {
    let done = run(&plan(None), None).await;
    assert_eq!(done.failure, None);
    assert_eq!((done.acknowledged, done.delivered, done.lost), (400, 400, 0));
    assert_eq!((done.duplicated, done.reordered), (0, 0));
    let [median, p99, most] = done.latency_us;
    assert!(0 < median && median <= p99 && p99 <= most, "{:?}", done.latency_us);
    assert_eq!(done.used.len(), 1, "the gateway alone");
    let (name, cpu, peak) = done.used[0];
    assert!(name == "transload" && cpu >= 0.0 && peak > 1_000_000, "{:?}", done.used);
}

#[tokio::test]
async fn a_fixed_rate_is_kept() {
    let done = run(&plan(Some(800.0)), None).await;
    assert_eq!((done.failure, done.delivered), (None, 400));
    assert!(done.seconds > 0.45, "400 messages at 800 a second took {} s", done.seconds);
}
