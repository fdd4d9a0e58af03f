//! The client against a scripted broker, which does what real ones seldom do.

pub(crate) mod broker;
mod source;

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_util::task::TaskTracker;
use transload_adapter::{ConnectError, Destination, Endpoints, SendError, Sent, Settlement};
use transload_envelope::{Arguments, Envelope, Origin, Outgoing};

use self::broker::{DEADLINE, Peer, broker, connect};
use super::ClientTarget;
use crate::codec::{Packet, Reason};

fn messages(count: usize, payload: &str) -> Vec<Outgoing> {
    let message = || Outgoing {
        envelope: Envelope::new(Origin::new("web", "http", "a/b"), payload.to_owned()),
        arguments: Arguments::default(),
    };
    (0..count).map(|_| message()).collect()
}

async fn send(
    endpoints: &Endpoints<ClientTarget>,
    target: &ClientTarget,
    batch: &[Outgoing],
) -> Vec<Result<Sent, SendError>> {
    let outbound = endpoints.outbound.as_ref().unwrap();
    timeout(DEADLINE, outbound.send(Destination { name: "d", target }, batch)).await.unwrap()
}

const VERSIONS: [&str; 2] = ["5", "3.1.1"];

#[tokio::test]
async fn confirmations_go_by_packet_id_and_reason() {
    let (listener, url) = broker().await;
    let script = TaskTracker::new().spawn(async move {
        let mut sink = Peer::accept(&listener, Reason::SUCCESS).await;
        assert_eq!(sink.client_id, "transload-other-out");
        let ids = sink.expect_publishes(4).await;
        let answers = [
            Reason::SUCCESS,
            Reason::NO_MATCHING_SUBSCRIBERS,
            Reason::QUOTA_EXCEEDED,
            Reason::PAYLOAD_FORMAT_INVALID,
        ];
        // The other way round, which the specification does not allow, and is met all the same.
        for (id, reason) in ids.into_iter().zip(answers).rev() {
            sink.puback(id, reason).await;
        }
        sink
    });
    let endpoints = connect(&url, &[]).await.unwrap();
    let results = send(&endpoints, &ClientTarget::default(), &messages(4, "x")).await;
    assert!(
        matches!(
            &*results,
            [
                Ok(Sent::Confirmed),
                Ok(Sent::NoReceiver),
                Err(SendError::Failed { .. }),
                Err(SendError::Rejected { .. })
            ]
        ),
        "{results:?}"
    );
    // The broker's own bound, from its CONNACK.
    let large = send(&endpoints, &ClientTarget::default(), &messages(1, &"x".repeat(2_000))).await;
    assert!(matches!(&*large, [Err(SendError::Rejected { .. })]), "{large:?}");
    let unacknowledged = ClientTarget { qos: Some(0), ..ClientTarget::default() };
    let results = send(&endpoints, &unacknowledged, &messages(1, "")).await;
    assert!(matches!(&*results, [Ok(Sent::Unconfirmed)]), "{results:?}");
    drop(script.await.unwrap());
}

#[tokio::test]
async fn what_is_not_acknowledged_when_the_connection_breaks_is_not_confirmed() {
    for version in VERSIONS {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            let mut sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let ids = sink.expect_publishes(3).await;
            sink.puback(ids[0], Reason::SUCCESS).await;
            // Closing with nothing unread, so that the acknowledgement still arrives.
            sink.stream.shutdown().await.unwrap();
            (listener, sink)
        });
        let settings = format!("{url}version = '{version}'");
        let mut endpoints = connect(&settings, &[]).await.unwrap();
        let results = send(&endpoints, &ClientTarget::default(), &messages(3, "x")).await;
        assert!(
            matches!(
                &*results,
                [
                    Ok(Sent::Confirmed),
                    Err(SendError::Disconnected(_)),
                    Err(SendError::Disconnected(_))
                ]
            ),
            "{version}: {results:?}"
        );
        timeout(DEADLINE, &mut endpoints.lost).await.unwrap();
        let again = send(&endpoints, &ClientTarget::default(), &messages(1, "x")).await;
        assert!(matches!(&*again, [Err(SendError::Disconnected(_))]), "{version}: {again:?}");
        // Nobody connects again behind the gateway's back.
        let (listener, _sink) = script.await.unwrap();
        assert!(timeout(Duration::from_millis(200), listener.accept()).await.is_err());
    }
}

#[tokio::test]
async fn a_backlog_before_the_suback_does_not_wedge_and_is_acknowledged_in_order() {
    for version in VERSIONS {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            let sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let mut source = Peer::accept(&listener, Reason::SUCCESS).await;
            assert_eq!(source.client_id, "transload-other");
            let subscribe = source.expect_subscribe().await;
            for id in 1..=3 {
                source.publish(id, &id.to_string()).await;
            }
            source.suback(subscribe, Reason(1)).await;
            let mut ids = Vec::new();
            while ids.len() < 3 {
                match source.packet().await {
                    Some(Packet::Ack(ack)) => ids.push(ack.packet_id),
                    other => panic!("PUBACK is expected, not {other:?}"),
                }
            }
            drop(sink);
            ids
        });
        let settings = format!("{url}version = '{version}'\nmax_inflight = 3");
        let mut endpoints = connect(&settings, &["a/#"]).await.unwrap();
        let inbound = endpoints.inbound.as_mut().unwrap();
        let mut got = Vec::new();
        while got.len() < 3 {
            timeout(DEADLINE, inbound.receive(&mut got, 10)).await.unwrap().unwrap();
        }
        let payloads: Vec<_> =
            got.iter().map(|delivery| delivery.envelope.payload.clone()).collect();
        assert_eq!(payloads, ["1", "2", "3"]);
        for delivery in got.into_iter().rev() {
            delivery.receipt.settle(Settlement::Accepted);
        }
        assert_eq!(script.await.unwrap(), [1, 2, 3], "{version}");
    }
}

#[tokio::test]
async fn a_released_message_is_offered_again_on_the_same_connection() {
    let (listener, url) = broker().await;
    let script = TaskTracker::new().spawn(async move {
        let sink = Peer::accept(&listener, Reason::SUCCESS).await;
        let mut source = Peer::accept(&listener, Reason::SUCCESS).await;
        let subscribe = source.expect_subscribe().await;
        source.suback(subscribe, Reason(1)).await;
        source.publish(9, "x").await;
        let ack = source.packet().await;
        drop(sink);
        ack
    });
    let mut endpoints = connect(&url, &["a/#"]).await.unwrap();
    let inbound = endpoints.inbound.as_mut().unwrap();
    for verdict in [Settlement::RELEASED, Settlement::Accepted] {
        let mut got = Vec::new();
        timeout(DEADLINE, inbound.receive(&mut got, 10)).await.unwrap().unwrap();
        assert_eq!(got.len(), 1);
        got.remove(0).receipt.settle(verdict);
    }
    assert!(matches!(script.await.unwrap(), Some(Packet::Ack(ack)) if ack.packet_id == 9));
}

#[tokio::test]
async fn refusals_are_told_from_outages() {
    for version in VERSIONS {
        let (listener, url) = broker().await;
        let script = TaskTracker::new().spawn(async move {
            drop(Peer::accept(&listener, Reason(0x87)).await);
            let sink = Peer::accept(&listener, Reason::SUCCESS).await;
            let mut source = Peer::accept(&listener, Reason::SUCCESS).await;
            let subscribe = source.expect_subscribe().await;
            source.suback(subscribe, Reason(0x87)).await;
            (sink, source)
        });
        let settings = format!("{url}version = '{version}'");
        let login = connect(&settings, &[]).await;
        assert!(matches!(login, Err(ConnectError::Refused { .. })), "{version}: {login:?}");
        let subscription = connect(&settings, &["a/#"]).await;
        let Err(ConnectError::Refused { reason }) = subscription else {
            panic!("{version}: {subscription:?}")
        };
        assert!(reason.contains("a/#"), "{reason}");
        drop(script.await.unwrap());
        let away = connect(&settings, &[]).await;
        assert!(matches!(away, Err(ConnectError::Unreachable(_))), "{version}: {away:?}");
    }
}
