use std::time::Duration;

use transload_integration_tests::faults::{Path, Plan, Report, run};

const PLAN: Plan = Plan {
    path: Path::MqttAmqp,
    messages: 2_000,
    kills: 3,
    rate: None,
    seed: 1,
    small_disk: false,
    best_effort: false,
    patience: Duration::from_secs(45),
    verbose: true,
};

async fn nothing_is_lost(path: Path) {
    let mut report = run(&Plan { path, ..PLAN }).await;
    eprintln!("{report}");
    if the_source_is_stuck(path, &report) {
        eprintln!(
            "NOT CONCLUSIVE: RabbitMQ confirms nothing to its own publishers. Once more, with another one:"
        );
        report = run(&Plan { path, ..PLAN }).await;
        eprintln!("{report}");
    }
    assert!(report.is_good(), "{report}");
    assert_eq!(report.kills, 3);
}

/// `RabbitMQ`, killed and started again, was seen once to confirm nothing any more. Where publishers
/// talk to it directly, the gateway has no part in that, and such a run says nothing about it.
fn the_source_is_stuck(path: Path, report: &Report) -> bool {
    let direct = matches!(path, Path::AmqpMqtt | Path::AmqpMosquitto);
    let lost: u64 = report.tally.targets.iter().map(|target| target.lost).sum();
    let failure = report.failure.as_deref().unwrap_or_default();
    direct && lost == 0 && failure.starts_with("nothing was acknowledged")
}

#[tokio::test]
async fn devices_to_amqp() {
    nothing_is_lost(Path::MqttAmqp).await;
}

#[tokio::test]
async fn http_to_jetstream() {
    nothing_is_lost(Path::HttpJetstream).await;
}

#[tokio::test]
async fn amqp_to_devices() {
    nothing_is_lost(Path::AmqpMqtt).await;
}

#[tokio::test]
async fn amqp_to_a_foreign_mqtt_broker() {
    nothing_is_lost(Path::AmqpMosquitto).await;
}

#[tokio::test]
async fn jetstream_to_http() {
    nothing_is_lost(Path::JetstreamHttp).await;
}

/// A full disk refuses and loses nothing. It needs a file system of its own, which only root may
/// mount: elsewhere the rest of the schedule runs, and the report says what did not.
#[tokio::test]
async fn a_full_disk() {
    let report = run(&Plan { path: Path::HttpJetstream, small_disk: true, ..PLAN }).await;
    eprintln!("{report}");
    assert!(report.is_good(), "{report}");
}

/// The comparison can fail: a route that promises nothing loses messages, and that is seen.
#[tokio::test]
async fn a_loss_is_noticed() {
    let patience = Duration::from_secs(8);
    let plan = Plan { path: Path::HttpJetstream, best_effort: true, patience, ..PLAN };
    let report = run(&plan).await;
    assert!(report.tally.targets.iter().any(|target| target.lost > 0), "{report}");
    assert!(!report.is_good());
}
