//! The fake behaves as the contract asks of an adapter: tests that use it lean on that.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use transload_envelope::{Arguments, Envelope, Origin, Outgoing};

use crate::{
    Adapter, ConnectError, Context, Delivery, Destination, Endpoints, Inbound, ReceiveError,
    SendError, Sent, Settlement,
    testing::{
        ConnectFault, Fake, FakeConfig, FakeTarget, Reaction, Script, SentMessage, context, within,
    },
};

async fn connect(
    script: &Script,
    context: &Context,
) -> Result<Endpoints<FakeTarget>, ConnectError> {
    let config: FakeConfig = toml::from_str(&format!("script = '{}'", script.name())).unwrap();
    Fake::connect(Arc::new(config), context.clone()).await
}

async fn receive(inbound: &mut Box<dyn Inbound>, limit: usize) -> Vec<Delivery> {
    let mut into = Vec::new();
    within("deliveries", inbound.receive(&mut into, limit)).await.unwrap();
    into
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|one| std::str::from_utf8(&one.envelope.payload).unwrap()).collect()
}

fn outgoing(text: &'static str) -> Outgoing {
    let envelope = Envelope::new(Origin::new("a", "fake", "x"), text);
    Outgoing { envelope, arguments: Arguments::default() }
}

const TARGET: FakeTarget = FakeTarget { key: None };
const TO: Destination<'static, FakeTarget> = Destination { name: "d", target: &TARGET };

#[tokio::test]
async fn credits_bound_the_unsettled() {
    let script = Script::new();
    let mut inbound = connect(&script, &context("f", 2)).await.unwrap().inbound.unwrap();
    let fed: Vec<_> = (0..5).map(|_| script.feed_text("a", "x")).collect();
    let batch = receive(&mut inbound, 10).await;
    assert_eq!(batch.len(), 2);
    let mut more = Vec::new();
    let starved = timeout(Duration::from_millis(20), inbound.receive(&mut more, 1)).await;
    assert!(starved.is_err(), "no credit, no delivery");
    for delivery in batch {
        delivery.receipt.settle(Settlement::Accepted);
    }
    assert_eq!(fed[1].settled().await, Settlement::Accepted);
    assert_eq!(receive(&mut inbound, 10).await.len(), 2);
}

#[tokio::test]
async fn a_released_message_comes_again_in_its_place() {
    let script = Script::new();
    let mut inbound = connect(&script, &context("f", 8)).await.unwrap().inbound.unwrap();
    for text in ["1", "2", "3"] {
        script.feed_text("a", text);
    }
    let batch = receive(&mut inbound, 2).await;
    assert_eq!(texts(&batch), ["1", "2"]);
    drop(batch);
    script.until_unsettled(0).await;
    assert_eq!(texts(&receive(&mut inbound, 8).await), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_with_a_delay_waits() {
    let script = Script::new();
    let mut inbound = connect(&script, &context("f", 8)).await.unwrap().inbound.unwrap();
    script.feed_text("a", "1");
    let delivery = receive(&mut inbound, 1).await.remove(0);
    let began = tokio::time::Instant::now();
    delivery.receipt.settle(Settlement::Released { after: Duration::from_secs(5) });
    assert_eq!(texts(&receive(&mut inbound, 1).await), ["1"]);
    assert!(began.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn a_lost_connection_is_told_everywhere_and_redelivers() {
    let script = Script::new();
    let context = context("f", 8);
    let endpoints = connect(&script, &context).await.unwrap();
    let mut inbound = endpoints.inbound.unwrap();
    let outbound = endpoints.outbound.unwrap();
    let fed = script.feed_text("a", "1");
    let old = receive(&mut inbound, 1).await;
    script.react([Reaction::Hold]);
    let batch = [outgoing("held")];
    let ((), results) = tokio::join!(
        async {
            script.until_taken(1).await;
            script.disconnect();
        },
        outbound.send(TO, &batch)
    );
    assert!(matches!(results[..], [Err(SendError::Disconnected(_))]), "{results:?}");
    within("the loss", endpoints.lost).await;
    let error = inbound.receive(&mut Vec::new(), 1).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Disconnected(_)), "{error}");

    let mut inbound = connect(&script, &context).await.unwrap().inbound.unwrap();
    for delivery in old {
        delivery.receipt.settle(Settlement::Accepted);
    }
    let again = receive(&mut inbound, 1).await;
    assert_eq!(texts(&again), ["1"], "the receipt of the lost connection settles nothing");
    assert_eq!(fed.outcome(), None);
    for delivery in again {
        delivery.receipt.settle(Settlement::Unrouted);
    }
    assert_eq!(fed.settled().await, Settlement::Unrouted);
}

#[tokio::test]
async fn stop_ends_the_input_and_settles_what_is_out() {
    let script = Script::new();
    let context = context("f", 8);
    let mut inbound = connect(&script, &context).await.unwrap().inbound.unwrap();
    let fed = script.feed_text("a", "1");
    let delivery = receive(&mut inbound, 1).await.remove(0);
    script.feed_text("a", "2");
    context.stop.cancel();
    let error = inbound.receive(&mut Vec::new(), 1).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Ended), "{error}");
    delivery.receipt.settle(Settlement::Accepted);
    assert_eq!(fed.settled().await, Settlement::Accepted);
    drop(inbound);
    context.tasks.close();
    within("the adapter's tasks", context.tasks.wait()).await;
}

#[tokio::test]
async fn every_reaction_gives_its_result_in_order() {
    let script = Script::new();
    let outbound = connect(&script, &context("f", 1)).await.unwrap().outbound.unwrap();
    script.react([
        Reaction::Confirm,
        Reaction::Unconfirmed,
        Reaction::NoReceiver,
        Reaction::Busy(None),
        Reaction::Fail,
        Reaction::Reject,
        Reaction::Disconnect,
    ]);
    let batch = ["0", "1", "2", "3", "4", "5", "6", "7"].map(outgoing);
    let results = outbound.send(TO, &batch).await;
    assert!(
        matches!(
            results[..],
            [
                Ok(Sent::Confirmed),
                Ok(Sent::Unconfirmed),
                Ok(Sent::NoReceiver),
                Err(SendError::Busy { after: None, .. }),
                Err(SendError::Failed { .. }),
                Err(SendError::Rejected { .. }),
                Err(SendError::Disconnected(_)),
                Err(SendError::Disconnected(_)),
            ]
        ),
        "{results:?}"
    );
    let taken: Vec<_> = script.taken().iter().map(SentMessage::text).collect();
    assert_eq!(taken, ["0", "1", "2"]);
}

#[tokio::test]
async fn what_is_held_is_confirmed_at_the_release() {
    let script = Script::new();
    let outbound = connect(&script, &context("f", 1)).await.unwrap().outbound.unwrap();
    script.react_with(|message| match message.text().as_str() {
        "held" => Reaction::Hold,
        _ => Reaction::Confirm,
    });
    let batch = ["held", "free"].map(outgoing);
    let mut sending = outbound.send(TO, &batch);
    assert!(timeout(Duration::from_millis(20), &mut sending).await.is_err(), "held");
    assert_eq!(script.taken().len(), 2, "the peer has what it does not confirm");
    script.release();
    let results = within("the confirmations", sending).await;
    assert!(matches!(results[..], [Ok(Sent::Confirmed), Ok(Sent::Confirmed)]), "{results:?}");
}

#[tokio::test]
async fn connections_fail_as_told() {
    let script = Script::new();
    let context = context("f", 1);
    script.fail_connections(Some(ConnectFault::Unreachable));
    let error = connect(&script, &context).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    script.fail_connections(None);
    connect(&script, &context).await.unwrap();
    assert_eq!(script.connect_attempts(), 2);
}
