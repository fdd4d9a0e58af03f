use std::collections::BTreeSet;

use super::{
    CREDITS, Fixture,
    connection::{Connection, accept, is_disconnected, texts_of},
    texts,
};
use crate::{ReceiveError, Refusal, Settlement, testing::within};

/// No more deliveries are unsettled than there are credits, and each credit that comes back lets
/// one more in. Everything arrives.
pub(super) async fn credits_bound_the_unsettled<F: Fixture>(fixture: &mut F) {
    let sent = texts("credits", 3 * CREDITS);
    let mut connection = Connection::open(fixture).await;
    fixture.publish(&sent).await;
    let mut received = Vec::new();
    if fixture.uses_credits() {
        let first = connection.receive(CREDITS).await;
        received.extend(texts_of(&first));
        connection.receives_nothing("without a credit nothing is delivered").await;
        accept(first);
    }
    while received.len() < sent.len() {
        let next = connection.receive(1).await;
        received.extend(texts_of(&next));
        accept(next);
    }
    if fixture.receives_in_order() {
        assert_eq!(received, sent, "in the order in which they were published");
    } else {
        assert_eq!(received.iter().collect::<BTreeSet<_>>(), sent.iter().collect());
    }
    connection.receives_nothing("nothing comes twice").await;
    connection.until_settled().await;
    connection.close().await;
}

/// What is refused for good does not come again.
pub(super) async fn rejected_does_not_come_again<F: Fixture>(fixture: &mut F) {
    let mut connection = Connection::open(fixture).await;
    fixture.publish(&texts("rejected", 1)).await;
    for delivery in connection.receive(1).await {
        let reason = "by the conformance suite".into();
        delivery.receipt.settle(Settlement::Rejected { refusal: Refusal::Invalid, reason });
    }
    connection.until_settled().await;
    connection.close().await;
    nothing_but(fixture, "after a rejection").await;
}

/// What was accepted does not come again, also not to the next connection.
pub(super) async fn accepted_does_not_come_again<F: Fixture>(fixture: &mut F) {
    let mut connection = Connection::open(fixture).await;
    fixture.publish(&texts("accepted", CREDITS)).await;
    let deliveries = connection.receive(CREDITS).await;
    // Settled in another order than received, as happens when targets differ in speed.
    accept(deliveries.into_iter().rev().collect());
    connection.until_settled().await;
    connection.close().await;
    nothing_but(fixture, "after an acceptance").await;
}

/// The next thing that is received is published now.
async fn nothing_but<F: Fixture>(fixture: &mut F, text: &str) {
    let sent = texts(text, 1);
    let mut connection = Connection::open(fixture).await;
    fixture.publish(&sent).await;
    let deliveries = connection.receive(1).await;
    assert_eq!(texts_of(&deliveries), sent);
    accept(deliveries);
    connection.receives_nothing("nothing comes again").await;
    connection.until_settled().await;
    connection.close().await;
}

/// A receipt that is dropped gives the message back to its source, which delivers it again: on
/// this connection, or on the next if the protocol redelivers only then.
pub(super) async fn dropped_comes_again<F: Fixture>(fixture: &mut F) {
    let sent = texts("dropped", 1);
    let mut connection = Connection::open(fixture).await;
    if !connection.source.acknowledges {
        connection.close().await;
        return;
    }
    fixture.publish(&sent).await;
    drop(connection.receive(1).await);
    let again = loop {
        let mut deliveries = Vec::new();
        match within("the message to come again", connection.inbound().receive(&mut deliveries, 1))
            .await
        {
            Ok(_) => break deliveries,
            Err(error) if is_disconnected(&error) => {
                connection.close().await;
                connection = Connection::open(fixture).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(texts_of(&again), sent);
    accept(again);
    connection.until_settled().await;
    connection.close().await;
}

/// When the adapter is to stop, `receive` ends, and what was handed over is still settled.
pub(super) async fn stop_ends_the_input<F: Fixture>(fixture: &mut F) {
    let mut connection = Connection::open(fixture).await;
    fixture.publish(&texts("stop", 1)).await;
    let held = connection.receive(1).await;
    connection.context.stop.cancel();
    loop {
        let mut deliveries = Vec::new();
        match within("the end of input", connection.inbound().receive(&mut deliveries, 1)).await {
            Ok(_) => accept(deliveries),
            Err(ReceiveError::Ended) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    accept(held);
    connection.until_settled().await;
    connection.close().await;
    nothing_but(fixture, "after a stop").await;
}
