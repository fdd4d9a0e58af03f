use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    CREDITS, Fixture,
    connection::{Connection, accept, texts_of},
    texts,
};
use crate::{Adapter, SendError, Sent, testing::within};

/// A connection that is lost is told of, and what was not settled on it comes again. Receipts of
/// the lost connection settle nothing and break nothing.
pub(super) async fn the_unsettled_comes_again<F: Fixture>(fixture: &mut F) {
    let sent = texts("unsettled", CREDITS);
    let mut connection = Connection::open(fixture).await;
    fixture.publish(&sent).await;
    let held = connection.receive(CREDITS).await;
    fixture.cut().await;
    connection.is_told_lost(held).await;
    fixture.restore().await;
    let acknowledges = connection.source.acknowledges;
    connection.close().await;

    if acknowledges {
        all_come(Connection::open(fixture).await, sent).await;
    } else {
        // Nobody is subscribed before the connection is made.
        let connection = Connection::open(fixture).await;
        let sent = texts("after a loss", 1);
        fixture.publish(&sent).await;
        all_come(connection, sent).await;
    }
}

/// Receives until all of these texts were received, repeats allowed, and closes.
async fn all_come<A: Adapter>(mut connection: Connection<A>, texts: Vec<String>) {
    let texts: BTreeSet<_> = texts.into_iter().collect();
    let mut received = BTreeSet::new();
    while received.len() < texts.len() {
        let deliveries = connection.receive(1).await;
        received.extend(texts_of(&deliveries));
        accept(deliveries);
    }
    assert_eq!(received, texts);
    connection.until_settled().await;
    connection.close().await;
}

/// With the peer taken away in the middle, each message still has a result, nothing is refused for
/// good, and what was confirmed has arrived.
pub(super) async fn nothing_is_confirmed_that_did_not_arrive<F: Fixture>(fixture: &mut F) {
    let connection = Connection::open(fixture).await;
    let is_cut = AtomicBool::new(false);
    let cutting = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        fixture.cut().await;
        is_cut.store(true, Ordering::Relaxed);
    };
    let both = async { tokio::join!(send_until_lost(&connection, &is_cut), cutting) };
    let (confirmed, ()) = within("sending to fail", both).await;
    fixture.restore().await;
    connection.close().await;

    let connection = Connection::open(fixture).await;
    let final_text = texts("after the cut", 1);
    let results = connection.send(&final_text).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut wanted = final_text;
    if fixture.keeps_confirmed() {
        wanted.extend(confirmed);
    }
    let all = async {
        loop {
            let arrived: BTreeSet<_> = fixture.arrived().await.into_iter().collect();
            let missing: Vec<_> = wanted.iter().filter(|text| !arrived.contains(*text)).collect();
            if missing.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("everything that was confirmed to arrive", all).await;
    connection.close().await;
}

/// Sends batch after batch until the loss shows, and returns what was confirmed.
async fn send_until_lost<A: Adapter>(
    connection: &Connection<A>,
    is_cut: &AtomicBool,
) -> Vec<String> {
    let mut confirmed = Vec::new();
    let mut is_lost = false;
    let mut round = 0;
    while !is_lost {
        let sent = texts(&format!("cut {round}"), 20);
        let was_cut = is_cut.load(Ordering::Relaxed);
        for (text, result) in sent.iter().zip(connection.send(&sent).await) {
            match result {
                Ok(Sent::Confirmed) => confirmed.push(text.clone()),
                Ok(Sent::Unconfirmed) => {}
                // A protocol without connections cannot tell a lost one from a failure.
                Err(
                    SendError::Disconnected(_) | SendError::Busy { .. } | SendError::Failed { .. },
                ) => is_lost = was_cut,
                other => panic!("{text}: {other:?}"),
            }
        }
        round += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    confirmed
}
