use serde_json::json;
use transload_adapter::testing::ConnectFault;

use super::peer::Site;
use crate::{Offline, OfflineError};

fn route(name: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nfrom = \"source\"\nmatch = \"{{d}}/#\"\n\
         to = {{ adapter = \"target\", key = \"{name}.{{d}}\" }}\n"
    )
}

/// A site where three messages wait for a route that has been renamed since.
async fn renamed() -> Site {
    let site = Site::new();
    site.target.fail_connections(Some(ConnectFault::Unreachable));
    let gateway = site.start(&route("old")).await;
    for number in 0..3 {
        site.source.feed_text("d1/a", &number.to_string()).settled().await;
    }
    assert_eq!(gateway.stop().await.unwrap().waiting, 3);
    site.target.fail_connections(None);
    site
}

#[tokio::test]
async fn what_waits_for_a_renamed_route_can_be_moved() {
    let site = renamed().await;
    let gateway = site.start(&route("new")).await;
    let queues = gateway.get("/queues").await;
    let orphan = queues["queues"].as_array().unwrap().iter().find(|queue| queue["orphan"] == true);
    assert_eq!(orphan.unwrap()["name"], "old/target");
    assert_eq!(orphan.unwrap()["messages"], 3);
    for (from, to) in [("none", "new/target"), ("new/target", "new/target"), ("old/target", "x/y")]
    {
        let request = json!({ "from": from, "to": to });
        assert_eq!(gateway.post("/queues/move", &request).await.0, 400, "{from} to {to}");
    }
    let request = json!({ "from": "old/target", "to": "new/target" });
    let (status, outcome) = gateway.post("/queues/move", &request).await;
    assert_eq!((status, &outcome["moved"], &outcome["remaining"]), (200, &json!(3), &json!(0)));
    let taken = site.target.until_taken(3).await;
    let texts: Vec<_> = taken.iter().map(transload_adapter::testing::SentMessage::text).collect();
    assert_eq!(texts, ["0", "1", "2"]);
    let queues = gateway.get("/queues").await;
    assert!(!queues.to_string().contains("old/target"), "{queues}");
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn an_orphan_is_dropped_only_when_somebody_says_so() {
    let site = renamed().await;
    let gateway = site.start(&route("new")).await;
    gateway.stop().await.unwrap();
    let gateway = site.start(&route("new")).await;
    let drop_it = json!({ "name": "old/target" });
    let (status, outcome) = gateway.post("/queues/drop", &drop_it).await;
    assert_eq!((status, &outcome["dropped"]), (200, &json!(3)));
    let drop_used = json!({ "name": "new/target" });
    assert_eq!(gateway.post("/queues/drop", &drop_used).await.0, 400);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn the_files_of_a_stopped_gateway_say_the_same() {
    let site = renamed().await;
    let configuration =
        || super::configuration(&site.source, &site.target, &site.data, &route("new"));
    let gateway = site.start(&route("new")).await;
    assert!(matches!(Offline::open(&configuration()).await, Err(OfflineError::Running)));
    gateway.stop().await.unwrap();

    let offline = Offline::open(&configuration()).await.unwrap();
    let request = json!({ "from": "old/target", "to": "new/target" });
    let (status, outcome) = offline.request("POST", "/queues/move", Some(&request)).await;
    assert_eq!((status, &outcome["moved"]), (200, &json!(3)), "{outcome}");
    offline.close().await;

    let gateway = site.start(&route("new")).await;
    site.target.until_taken(3).await;
    gateway.stop().await.unwrap();
}
