//! Messages of different keys side by side, and messages put together.

use std::time::Duration;

use transload_adapter::{
    Settlement,
    testing::{Reaction, SentMessage, within},
};
use transload_envelope::{Envelope, Origin};

use super::Between;

const LANES: &str = "match = \"{device}/{number}\"\nordered_by = \"{device}\"\n";

/// What the target took of each device, in order.
fn by_device(between: &Between) -> Vec<(String, Vec<String>)> {
    let mut devices: Vec<(String, Vec<String>)> = Vec::new();
    for sent in between.target.taken() {
        let text = sent.text();
        let (device, number) = text.split_once('/').unwrap();
        match devices.iter_mut().find(|(known, _)| known == device) {
            Some((_, numbers)) => numbers.push(number.to_owned()),
            None => devices.push((device.to_owned(), vec![number.to_owned()])),
        }
    }
    devices
}

#[tokio::test]
async fn a_message_that_fails_holds_up_its_own_key_only() {
    for guarantee in ["stored", "delivered", "best-effort"] {
        let between = Between::with_route(&format!("{LANES}guarantee = \"{guarantee}\""));
        between.target.react_with(|sent| match sent.text().as_str() {
            "a/0" => Reaction::Fail,
            _ => Reaction::Confirm,
        });
        for number in 0..50 {
            for device in ["a", "b", "c"] {
                let address = format!("{device}/{number}");
                between.source.feed_text(&address, &address);
            }
        }
        between.target.until_taken(100).await;
        let taken = by_device(&between);
        let numbers: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        assert!(taken.iter().all(|(device, _)| device != "a"), "they wait behind the first");
        assert!(taken.iter().all(|(_, taken)| *taken == numbers), "{guarantee}: {taken:?}");
        // From now on it is taken, and the others of its key come behind it.
        between.target.react_with(|_| Reaction::Confirm);
        between.target.until_taken(150).await;
        let taken = by_device(&between);
        assert!(taken.iter().all(|(_, taken)| *taken == numbers), "{guarantee}: {taken:?}");
        between.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_poison_message_goes_and_its_key_goes_on() {
    let between = Between::with_route(&format!("{LANES}attempts = 2"));
    between.target.react_with(|sent| match sent.text().as_str() {
        "a/0" => Reaction::Fail,
        "b/0" => Reaction::Reject,
        _ => Reaction::Confirm,
    });
    for address in ["a/0", "b/0", "a/1", "b/1"] {
        between.source.feed_text(address, address);
    }
    let mut taken: Vec<_> = between.texts(2).await;
    taken.sort();
    assert_eq!(taken, ["a/1", "b/1"]);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn lanes_lose_nothing_when_the_connection_breaks_and_the_gateway_starts_anew() {
    let (source, target) =
        (transload_adapter::testing::Script::new(), transload_adapter::testing::Script::new());
    let data = tempfile::tempdir().unwrap();
    let route = format!(
        "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = {{ adapter = \"target\" }}\n{LANES}"
    );
    target.react_with(|_| Reaction::Busy(None));
    for round in 0..2 {
        let configuration = super::configuration(&source, &target, &data, &route);
        let stop = tokio_util::sync::CancellationToken::new();
        let gateway = crate::run(configuration, stop.clone());
        let work = async {
            if round == 0 {
                for number in 0..60 {
                    let address = format!("{}/{number}", number % 3);
                    source.feed_text(&address, &address).settled().await;
                }
                target.until_attempts(1).await;
            } else {
                target.react([Reaction::Confirm, Reaction::Disconnect, Reaction::Fail]);
                target.react_with(|_| Reaction::Confirm);
                target.until_taken(60).await;
            }
            stop.cancel();
        };
        let (ran, ()) = within("the gateway", async { tokio::join!(gateway, work) }).await;
        ran.unwrap();
    }
    for device in 0..3 {
        let own: Vec<_> = target.taken().iter().map(SentMessage::text).collect();
        let own: Vec<_> =
            own.into_iter().filter(|text| text.starts_with(&format!("{device}/"))).collect();
        let expected: Vec<_> = (0..60)
            .filter(|number| number % 3 == device)
            .map(|number| format!("{device}/{number}"))
            .collect();
        assert_eq!(own, expected);
    }
}

#[tokio::test]
async fn so_many_sends_are_under_way_as_there_are_lanes() {
    let between = Between::with_route(&format!("{LANES}lanes = 3"));
    between.target.react_with(|_| Reaction::Hold);
    for number in 0..9 {
        let address = format!("{number}/0");
        between.source.feed_text(&address, &address);
    }
    between.target.until_attempts(3).await;
    let mut names: Vec<_> =
        between.target.attempts().into_iter().map(|sent| sent.destination).collect();
    names.sort();
    names.dedup();
    assert!(names.len() <= 3, "{names:?}");
    between.target.release();
    between.target.until_taken(9).await;
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_busy_target_is_asked_with_one_message() {
    let between = Between::with_route(LANES);
    between.target.react_with(|_| Reaction::Busy(Some(Duration::from_millis(200))));
    for number in 0..100 {
        let address = format!("{number}/0");
        between.source.feed_text(&address, &address).settled().await;
    }
    let asked = between.target.attempts().len();
    between.target.until_attempts(asked + 2).await;
    assert!(between.target.attempts().len() <= asked + 3, "no storm");
    between.target.react_with(|_| Reaction::Confirm);
    between.target.until_taken(100).await;
    between.stop().await.unwrap();
}

#[tokio::test]
async fn messages_are_put_together_to_an_array() {
    let between = Between::with_route(
        "guarantee = \"delivered\"\nbatch = { max_messages = 3, max_wait = \"1m\" }",
    );
    let fed: Vec<_> = ["1", "{\"a\": 2}", "3", "4"]
        .iter()
        .map(|text| between.source.feed_text("a", text))
        .collect();
    assert_eq!(between.texts(1).await, ["[1,{\"a\": 2},3]"]);
    for fed in &fed[..3] {
        assert_eq!(fed.settled().await, Settlement::Accepted);
    }
    assert_eq!(fed[3].outcome(), None, "it waits for others");
    // A queue in memory is emptied before the end.
    let target = between.target.clone();
    between.stop().await.unwrap();
    let taken: Vec<_> = target.taken().iter().map(SentMessage::text).collect();
    assert_eq!(taken, ["[1,{\"a\": 2},3]", "[4]"]);
}

#[tokio::test]
async fn a_batch_that_fails_is_sent_again_as_it_was_and_goes_member_by_member_at_the_end() {
    let between =
        Between::with_route("attempts = 2\nbatch = { max_messages = 2, format = \"lines\" }");
    between.target.react([Reaction::Fail, Reaction::Confirm, Reaction::Fail, Reaction::Fail]);
    for text in ["a", "b", "c", "d", "two\nlines", "e", "f"] {
        between.source.feed_text("x", text);
    }
    let taken = between.target.until_taken(2).await;
    let texts: Vec<_> = taken.iter().map(SentMessage::text).collect();
    assert_eq!(texts[0], "a\nb\n");
    let attempts = between.target.attempts();
    assert_eq!(attempts[0].outgoing.envelope.id, attempts[1].outgoing.envelope.id);
    assert_eq!(attempts[0].text(), attempts[1].text());
    assert!(texts[1].contains('e'), "what is behind the given up goes on: {texts:?}");
    between.stop().await.unwrap();
}

#[tokio::test]
async fn addresses_are_not_mixed_where_the_target_follows_them() {
    for (to, expected) in [
        ("to = { adapter = \"target\" }", vec!["[1]", "[2]"]),
        ("to = { adapter = \"target\", key = \"all\" }", vec!["[1,2]"]),
    ] {
        let between = Between::start(&format!(
            "[[route]]\nname = \"all\"\nfrom = \"source\"\n{to}\nbatch = {{ max_wait = \"300ms\" }}"
        ));
        for (address, text) in [("a", "1"), ("b", "2")] {
            between.source.feed(Envelope::new(Origin::new("source", "fake", address), text));
        }
        assert_eq!(between.texts(expected.len()).await, expected);
        between.stop().await.unwrap();
    }
}
