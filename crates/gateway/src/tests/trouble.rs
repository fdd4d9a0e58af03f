use std::time::Duration;

use transload_adapter::{
    Refusal, Settlement,
    testing::{ConnectFault, Reaction},
};

use super::Between;

#[tokio::test]
async fn a_target_that_is_away_gets_everything_in_order_when_it_is_back() {
    let between = Between::with_route("");
    between.target.until_connected().await;
    between.target.fail_connections(Some(ConnectFault::Unreachable));
    between.target.disconnect();
    let numbers: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for number in &numbers {
        between.source.feed_text("a", number);
    }
    between.target.until_connect_attempts(3).await;
    between.target.fail_connections(None);
    assert_eq!(between.texts(numbers.len()).await, numbers);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_loss_in_the_middle_of_a_batch_loses_nothing_and_keeps_the_order() {
    let between = Between::with_route("");
    between.target.react([Reaction::Confirm, Reaction::Disconnect]);
    for number in 0..5 {
        between.source.feed_text("a", &number.to_string());
    }
    assert_eq!(between.texts(5).await, ["0", "1", "2", "3", "4"]);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_busy_target_gets_the_message_later() {
    let between = Between::with_route("attempts = 1");
    between.target.react([Reaction::Busy(None), Reaction::Busy(Some(Duration::from_millis(5)))]);
    let fed = between.source.feed_text("a", "x");
    assert_eq!(between.texts(1).await, ["x"]);
    assert_eq!(fed.settled().await, Settlement::Accepted);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_poison_message_does_not_wedge_its_queue() {
    let between = Between::with_route("attempts = 3");
    between.target.react_with(|sent| {
        if sent.text() == "poison" { Reaction::Fail } else { Reaction::Confirm }
    });
    between.source.feed_text("a", "poison");
    between.source.feed_text("a", "good");
    assert_eq!(between.texts(1).await, ["good"]);
    between.source.feed_text("a", "better");
    assert_eq!(between.texts(2).await, ["good", "better"]);
    let attempts = between.target.attempts();
    assert!(attempts.iter().filter(|sent| sent.text() == "poison").count() <= 3);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_rejected_message_is_acknowledged_once_it_is_among_the_dead_letters() {
    let between = Between::with_route("guarantee = \"delivered\"");
    between.target.react([Reaction::Reject]);
    let fed = between.source.feed_text("a", "x");
    assert_eq!(fed.settled().await, Settlement::Accepted);
    assert!(between.target.taken().is_empty());
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_where_the_route_says_so() {
    let between = Between::with_route(
        "guarantee = \"best-effort\"\nwhen_full = \"reject\"\nqueue = { max_messages = 3 }",
    );
    between.target.react_with(|_| Reaction::Busy(Some(Duration::from_mins(1))));
    let mut refused = false;
    for number in 0..10 {
        let settlement = between.source.feed_text("a", &number.to_string()).settled().await;
        refused |= matches!(settlement, Settlement::Rejected { refusal: Refusal::Full, .. });
    }
    assert!(refused, "10 messages do not fit 3 places");
    between.stop.cancel();
}

#[tokio::test]
async fn a_full_queue_lets_its_source_wait() {
    let between = Between::with_route("guarantee = \"best-effort\"\nqueue = { max_messages = 3 }");
    between.target.react_with(|_| Reaction::Hold);
    for number in 0..10 {
        between.source.feed_text("a", &number.to_string());
    }
    between.target.until_attempts(1).await;
    between.target.release();
    let numbers: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(between.texts(10).await, numbers);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn the_oldest_make_room_where_the_route_says_so() {
    let between = Between::with_route(
        "guarantee = \"best-effort\"\nwhen_full = \"drop-oldest\"\nqueue = { max_messages = 2 }",
    );
    between.target.react_with(|_| Reaction::Hold);
    for number in 0..10 {
        let fed = between.source.feed_text("a", &number.to_string());
        assert_eq!(fed.settled().await, Settlement::Accepted);
    }
    between.target.release();
    let mut taken = between.texts(1).await;
    while taken.last().is_none_or(|text| text != "9") {
        taken = between.texts(taken.len() + 1).await;
    }
    assert!(taken.len() < 10, "some of them have made room: {taken:?}");
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_capture_that_is_missing_leads_to_the_dead_letters() {
    let between = Between::start(
        r#"
        [[route]]
        name = "all"
        from = "source"
        to = [{ adapter = "target", key = "{header.absent}" }, { adapter = "target" }]
        "#,
    );
    let fed = between.source.feed_text("a", "x");
    assert_eq!(fed.settled().await, Settlement::Accepted);
    let taken = between.target.until_taken(1).await;
    assert_eq!(taken[0].destination, "all/target/2", "the other target has it");
    between.stop().await.unwrap();
}
