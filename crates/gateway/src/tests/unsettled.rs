use transload_adapter::{Settlement, testing::Reaction};

use super::Between;

/// A queue that would refuse a fourth message.
const SHORT_QUEUE: &str = "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = { adapter = \"target\" }\n\
    guarantee = \"delivered\"\nwhen_full = \"reject\"\nqueue = { max_messages = 3 }";

/// Ten messages of 50 kB arrive in order under this bound, and the queue is never full.
async fn all_arrive(bound: &str) {
    let keys = format!("max_unsettled_bytes = \"{bound}\"");
    let between = Between::with_source(&keys, SHORT_QUEUE);
    between.target.react(vec![Reaction::Busy(None); 5]);
    let texts: Vec<_> = (0..10).map(|number| format!("{number:050000}")).collect();
    let fed: Vec<_> = texts.iter().map(|text| between.source.feed_text("a", text)).collect();
    assert_eq!(between.texts(texts.len()).await, texts);
    for one in fed {
        assert_eq!(one.settled().await, Settlement::Accepted);
    }
    between.stop().await.unwrap();
}

#[tokio::test]
async fn large_messages_wait_at_their_source_when_too_many_bytes_are_unsettled() {
    all_arrive("100KiB").await;
}

#[tokio::test]
async fn a_message_larger_than_the_bound_goes_alone() {
    all_arrive("20KiB").await;
}
