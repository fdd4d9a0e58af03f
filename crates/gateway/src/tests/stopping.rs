use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Settlement,
    testing::{ConnectFault, Reaction, Script},
};

use super::{Between, configuration};
use crate::{RunError, Summary, run};

#[tokio::test]
async fn what_is_in_flight_finishes() {
    let between = Between::with_route("guarantee = \"delivered\"");
    between.target.react([Reaction::Hold]);
    let fed = between.source.feed_text("a", "x");
    between.target.until_attempts(1).await;
    between.stop.cancel();
    between.target.release();
    assert_eq!(fed.settled().await, Settlement::Accepted);
    assert_eq!(between.stop().await.unwrap(), Summary::default());
}

#[tokio::test]
async fn what_is_not_delivered_in_time_stays_with_its_source() {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let rest = "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"\n\
                guarantee = \"delivered\"";
    let mut configuration = configuration(&source, &target, &data, rest);
    configuration.gateway.drain_timeout = Duration::from_millis(50);
    target.react_with(|_| Reaction::Hold);
    let stop = CancellationToken::new();
    let (ended, ()) = tokio::join!(run(configuration, stop.clone()), async {
        source.feed_text("a", "x");
        target.until_attempts(1).await;
        stop.cancel();
    });
    ended.unwrap();
    let accepted = |settlement: &Settlement| matches!(settlement, Settlement::Accepted);
    assert!(!source.settlements().iter().any(|(_, settlement)| accepted(settlement)));
}

#[tokio::test]
async fn a_gateway_that_can_never_work_does_not_start() {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let rest = "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"";
    let configuration = configuration(&source, &target, &data, rest);
    target.fail_connections(Some(ConnectFault::Unusable));
    let ended = run(configuration, CancellationToken::new()).await;
    assert!(matches!(ended, Err(RunError::Adapter { name, .. }) if *name == *"target"));
}

#[tokio::test]
async fn what_was_stored_is_delivered_after_a_restart() {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let rest = "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"";
    target.fail_connections(Some(ConnectFault::Unreachable));
    let stop = CancellationToken::new();
    let (ended, asked) =
        tokio::join!(run(configuration(&source, &target, &data, rest), stop.clone()), async {
            for number in 0..3 {
                let fed = source.feed_text("a", &number.to_string());
                assert_eq!(fed.settled().await, Settlement::Accepted);
            }
            stop.cancel();
            Instant::now()
        });
    assert_eq!(ended.unwrap(), Summary { waiting: 3, lost: 0 });
    assert!(asked.elapsed() < Duration::from_secs(4), "a target that is away is not waited for");

    target.fail_connections(None);
    let stop = CancellationToken::new();
    let (ended, taken) =
        tokio::join!(run(configuration(&source, &target, &data, rest), stop.clone()), async {
            let taken = target.until_taken(3).await;
            stop.cancel();
            taken
        });
    let texts: Vec<_> = taken.iter().map(transload_adapter::testing::SentMessage::text).collect();
    assert_eq!(texts, ["0", "1", "2"]);
    assert_eq!(ended.unwrap(), Summary::default());
}

#[tokio::test]
async fn a_second_gateway_on_one_data_directory_is_refused() {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let rest = "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"";
    let stop = CancellationToken::new();
    let (first, ()) =
        tokio::join!(run(configuration(&source, &target, &data, rest), stop.clone()), async {
            target.until_connected().await;
            let second = configuration(&source, &target, &data, rest);
            let refused = run(second, CancellationToken::new()).await;
            assert!(
                matches!(&refused, Err(RunError::Data(reason)) if reason.contains("in use")),
                "{refused:?}"
            );
            stop.cancel();
        });
    first.unwrap();
}
