use serde_json::json;
use transload_adapter::{Settlement, testing::Reaction};

use super::{Between, peer::Site};

#[tokio::test]
async fn each_target_gets_what_the_rule_and_its_own_shape_make() {
    let between = Between::start(
        r#"
        [[route]]
        name = "as it is"
        from = "source"
        to = { adapter = "target", key = "plain" }
        [[route]]
        name = "shaped"
        from = "source"
        match = "devices/{device}"
        shape = { set.payload.device = "{device}", set.address = "shaped/{device}" }
        to = [
            { adapter = "target", key = "{address}" },
            { adapter = "target", key = "own", shape = { remove = "payload.a" } },
        ]
        "#,
    );
    let fed = between.source.feed_text("devices/d7", "{\"a\":1.0}");
    let mut taken: Vec<_> = between
        .target
        .until_taken(3)
        .await
        .into_iter()
        .map(|sent| (sent.text(), sent.key.unwrap_or_default()))
        .collect();
    taken.sort();
    let expected = [
        ("{\"a\":1.0,\"device\":\"d7\"}", "shaped/d7"),
        ("{\"a\":1.0}", "plain"),
        ("{\"device\":\"d7\"}", "own"),
    ];
    assert_eq!(taken, expected.map(|(text, key)| (text.to_owned(), key.to_owned())));
    assert_eq!(fed.settled().await, Settlement::Accepted);
    assert_eq!(between.source.settlements().len(), 1);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn a_split_message_is_acknowledged_once_when_all_parts_are_delivered() {
    let between =
        Between::with_route("guarantee = \"delivered\"\nshape = { split = \"payload.items\" }");
    between.target.react_with(|_| Reaction::Hold);
    let fed = between.source.feed_text("a", "{\"items\":[1,2,3]}");
    between.target.until_attempts(1).await;
    assert_eq!(fed.outcome(), None, "no part is confirmed yet");
    between.target.react_with(|_| Reaction::Confirm);
    between.target.release();
    let taken = between.target.until_taken(3).await;
    let parts: Vec<_> =
        taken.iter().map(|sent| (sent.text(), sent.outgoing.envelope.id.to_string())).collect();
    let id = fed.id();
    let part = |number: u8| (number.to_string(), format!("{id}-{number}"));
    assert_eq!(parts, [part(1), part(2), part(3)]);
    assert_eq!(fed.settled().await, Settlement::Accepted);
    assert_eq!(between.source.settlements().len(), 1);
    between.stop().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_shaped_is_kept_untouched_and_shaped_when_it_is_sent_again() {
    let route = |shape: &str| {
        format!(
            "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = {{ adapter = \"target\" }}\n\
             shape = {{ {shape} }}\n"
        )
    };
    let site = Site::new();
    let gateway = site.start(&route("validate = { required = [\"t\"] }, set.payload.x = 1")).await;
    let fed = site.source.feed_text("a", "{\"T\":1}");
    assert_eq!(fed.settled().await, Settlement::Accepted);
    let letters = gateway.until_letters(1).await;
    let reason = "`validate its schema` failed: the payload: \"t\" is a required property";
    assert_eq!(letters[0]["reason"], reason);
    let shown = gateway.get(&format!("/dead-letters/all/{}", letters[0]["position"])).await;
    assert_eq!(shown["payload"], "{\"T\":1}");
    // The route is as strict as before: the letter stays, with the reason.
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!((&outcome["replayed"], &outcome["left"][0]["reason"]), (&json!(0), &json!(reason)));
    gateway.stop().await.unwrap();

    let gateway = site.start(&route("split = \"payload.T\", set.header.x = 1")).await;
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    let reason = "`split payload.T` failed: `payload.T` is a number, no array";
    assert_eq!(outcome["left"][0]["reason"], reason);
    gateway.stop().await.unwrap();

    let gateway = site.start(&route("rename.payload.T = \"payload.t\", set.payload.x = 1")).await;
    let (_, outcome) = gateway.post("/dead-letters/replay", &json!({ "all": true })).await;
    assert_eq!(outcome["replayed"], 1, "{outcome}");
    let taken = site.target.until_taken(1).await;
    assert_eq!(taken[0].text(), "{\"t\":1,\"x\":1}");
    assert_eq!(taken[0].outgoing.envelope.id, *fed.id());
    gateway.until_letters(0).await;
    gateway.stop().await.unwrap();
}
