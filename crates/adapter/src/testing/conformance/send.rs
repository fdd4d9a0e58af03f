use super::{Fixture, connection::Connection, texts};
use crate::{SendError, Sent, testing::within};

const BATCH: usize = 60;

/// Each message has its result, and they arrive in the order of the batch.
pub(super) async fn one_result_for_each_message_in_order<F: Fixture>(fixture: &mut F) {
    let sent = texts("batch", BATCH);
    let connection = Connection::open(fixture).await;
    let results = connection.send(&sent).await;
    for result in &results {
        assert!(is_good(result, connection.capabilities.confirms), "{result:?}");
    }
    assert_eq!(connection.send(&[]).await.len(), 0, "an empty batch is no fault");
    until_arrived(fixture, &sent).await;
    connection.close().await;
}

/// Two calls that are under way at once take effect in the order of their first poll.
pub(super) async fn overlapping_calls_keep_their_order<F: Fixture>(fixture: &mut F) {
    let sent = texts("overlapping", 2 * BATCH);
    let (first, second) = sent.split_at(BATCH);
    let connection = Connection::open(fixture).await;
    let (one, other) = tokio::join!(biased; connection.send(first), connection.send(second));
    for result in one.iter().chain(&other) {
        assert!(is_good(result, connection.capabilities.confirms), "{result:?}");
    }
    until_arrived(fixture, &sent).await;
    connection.close().await;
}

fn is_good(result: &Result<Sent, SendError>, confirms: bool) -> bool {
    match result {
        Ok(Sent::Confirmed) => confirms,
        Ok(Sent::Unconfirmed) => !confirms,
        Ok(Sent::NoReceiver) | Err(_) => false,
    }
}

/// Waits until exactly these texts have arrived, among those of other checks.
async fn until_arrived<F: Fixture>(fixture: &mut F, sent: &[String]) {
    let mut arrived = Vec::new();
    let all = async {
        loop {
            arrived = fixture.arrived().await;
            arrived.retain(|text| sent.contains(text));
            if arrived.len() >= sent.len() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(&format!("{} messages to arrive", sent.len()), all).await;
    assert_eq!(arrived, sent, "in order, once each");
}
