//! Another configuration while messages are under way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Registry, Settlement,
    testing::{ConnectFault, Fake, Fed, Reaction, Script},
};

use super::peer::{Asked, Site, until};
use crate::{
    Reload, Reloader,
    config::{Watched, load, load_text},
    run_reloading,
};

/// A gateway whose file can be written anew.
pub(super) struct Changing {
    pub(super) site: Site,
    drain: &'static str,
    text: Arc<Mutex<String>>,
    reloader: Reloader,
    pub(super) gateway: Asked,
}

fn with_drain(text: &str, drain: &str) -> String {
    text.replace("drain_timeout = \"5s\"", &format!("drain_timeout = {drain:?}"))
}

fn all(keys: &str) -> String {
    format!("[[route]]\nname = \"all\"\nfrom = \"source\"\nto = \"target\"\n{keys}")
}

impl Changing {
    pub(super) async fn start(rest: &str) -> Self {
        Self::start_draining(rest, "5s").await
    }

    /// The same where what is to end has so long.
    #[expect(clippy::disallowed_methods, reason = "the task is joined by `stop`")]
    pub(super) async fn start_draining(rest: &str, drain: &'static str) -> Self {
        let site = Site::new();
        let text = Arc::new(Mutex::new(with_drain(&site.text(rest), drain)));
        let read = {
            let text = Arc::clone(&text);
            move || {
                let text = text.lock().unwrap().clone();
                let registry = Registry::default().with::<Fake>();
                load_text("adapters.toml", &text, &|_| None, &registry)
            }
        };
        let mut configuration = read().configuration.unwrap();
        let address = super::peer::free().await;
        configuration.gateway.admin = Some(address);
        let (reload, reloader) = Reload::new(read, Watched::default());
        let stop = CancellationToken::new();
        let running: JoinHandle<_> = tokio::spawn({
            let stop = stop.clone();
            async move { Box::pin(run_reloading(configuration, reload, stop)).await }
        });
        until("the admin address", async || TcpStream::connect(address).await.is_ok()).await;
        let gateway = Asked { address, stop, running };
        Self { site, drain, text, reloader, gateway }
    }

    async fn change(&self, rest: &str) -> (u16, Value) {
        *self.text.lock().unwrap() = with_drain(&self.site.text(rest), self.drain);
        self.gateway.post("/reload", &json!({})).await
    }

    pub(super) async fn good_change(&self, rest: &str) -> Value {
        let (status, answer) = self.change(rest).await;
        assert_eq!((status, &answer["outcome"]), (200, &json!("applied")), "{answer}");
        answer
    }
}

async fn accepted(fed: &Fed) {
    assert_eq!(fed.settled().await, Settlement::Accepted);
}

fn texts_for(script: &Script, destination: &str) -> Vec<String> {
    let taken = script.taken().into_iter().filter(|sent| sent.destination == destination);
    taken.map(|sent| sent.text()).collect()
}

#[tokio::test]
async fn other_rules_hold_at_once_and_connections_stay() {
    let changing = Changing::start(&all("")).await;
    let (source, target) = (&changing.site.source, &changing.site.target);
    accepted(&source.feed_text("a", "one")).await;
    target.until_taken(1).await;
    let (from, to) = (source.connect_attempts(), target.connect_attempts());

    let other = "[[route]]\nname = \"other\"\nfrom = \"source\"\n\
                 to = { adapter = \"target\", key = \"k\" }\n";
    let answer = changing.good_change(other).await;
    assert_eq!(answer["adapters"]["kept"], json!(["source", "target"]), "{answer}");
    accepted(&source.feed_text("a", "two")).await;
    let taken = target.until_taken(2).await;
    assert_eq!(
        (taken[1].destination.as_str(), taken[1].key.as_deref()),
        ("other/target", Some("k"))
    );
    assert_eq!(target.connect_attempts(), to);
    // Both routes want the same of the source.
    assert_eq!(source.connect_attempts(), from);
    assert!(changing.gateway.metric("transload_reloads_total{outcome=\"applied\"} 1").await);
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_faulty_file_changes_nothing_and_is_told() {
    let changing = Changing::start(&all("")).await;
    let (status, answer) = changing.change(&all("gurantee = \"stored\"")).await;
    assert_eq!((status, &answer["outcome"]), (422, &json!("refused")));
    assert!(answer["error"].as_str().unwrap().contains("gurantee"), "{answer}");
    let ready = changing.gateway.get("/readyz").await;
    assert_eq!(ready["configuration"]["state"], "refused");
    assert!(ready["configuration"]["reason"].as_str().unwrap().contains("adapters.toml:"));
    accepted(&changing.site.source.feed_text("a", "one")).await;
    changing.site.target.until_taken(1).await;

    changing.good_change(&all("attempts = 3")).await;
    assert_eq!(changing.gateway.get("/readyz").await["configuration"]["state"], "current");
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn an_adapter_with_other_settings_starts_anew_and_nothing_is_lost() {
    let changing = Changing::start(&all("guarantee = \"delivered\"")).await;
    let (source, target) = (&changing.site.source, &changing.site.target);
    accepted(&source.feed_text("a", "one")).await;
    target.react([Reaction::Hold]);
    let under_way = source.feed_text("a", "two");
    target.until_attempts(2).await;
    let attempts = target.connect_attempts();
    let change = async {
        let keys = "[adapters.target.deduplicate]\nwindow = \"1m\"\n";
        let answer =
            changing.good_change(&format!("{keys}{}", all("guarantee = \"delivered\""))).await;
        assert_eq!(answer["adapters"]["restarted"], json!(["target"]), "{answer}");
    };
    let release = async {
        // The change waits for what is in hand.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(target.connect_attempts(), attempts);
        target.release();
    };
    tokio::join!(change, release);
    accepted(&under_way).await;
    accepted(&source.feed_text("a", "three")).await;
    assert_eq!(target.connect_attempts(), attempts + 1);
    assert_eq!(texts_for(target, "all/target"), ["one", "two", "three"]);
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn what_waits_for_a_route_that_is_gone_is_delivered_or_stays() {
    let changing = Changing::start(&all("")).await;
    let (source, target) = (&changing.site.source, &changing.site.target);
    target.react_with(|_| Reaction::Hold);
    for number in 0..600 {
        accepted(&source.feed_text("a", &number.to_string())).await;
    }
    let release = async {
        target.until_attempts(1).await;
        target.release();
    };
    tokio::join!(changing.good_change(""), release);
    assert_eq!(texts_for(target, "all/target").len(), 600, "drained before it ended");

    changing.good_change(&all("")).await;
    target.fail_connections(Some(ConnectFault::Unreachable));
    target.disconnect();
    accepted(&source.feed_text("a", "waits")).await;
    changing.good_change("").await;
    let queues = changing.gateway.get("/queues").await;
    let orphan = &queues["queues"][0];
    assert_eq!((&orphan["name"], &orphan["orphan"]), (&json!("all/target"), &json!(true)));
    target.fail_connections(None);
    changing.good_change(&all("")).await;
    target.until_taken(601).await;
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_source_that_waits_for_room_goes_by_the_new_rules() {
    let keys = "guarantee = \"best-effort\"\nqueue = { max_messages = 2 }";
    let changing = Changing::start(&all(keys)).await;
    let (source, target) = (&changing.site.source, &changing.site.target);
    target.react_with(|sent| {
        if sent.destination == "all/target" { Reaction::Busy(None) } else { Reaction::Confirm }
    });
    for number in 0..2 {
        accepted(&source.feed_text("a", &number.to_string())).await;
    }
    target.until_attempts(1).await;
    let fed: Vec<_> = (2..8).map(|number| source.feed_text("a", &number.to_string())).collect();
    source.until_unsettled(6).await;
    let other = "[[route]]\nname = \"other\"\nfrom = \"source\"\nto = \"target\"\n";
    *changing.text.lock().unwrap() =
        changing.site.text(&format!("{}\n{other}", all(keys)).replace(
            "from = \"source\"\nto = \"target\"\nguarantee",
            "from = \"target\"\nto = \"target\"\nguarantee",
        ));
    changing.reloader.reload();
    for one in &fed {
        accepted(one).await;
    }
    until("the rest by the other route", async || {
        texts_for(target, "other/target") == ["2", "3", "4", "5", "6", "7"]
    })
    .await;
    target.react_with(|_| Reaction::Confirm);
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn keys_that_count_later_are_named() {
    let changing = Changing::start(&all("")).await;
    let text = changing.site.text(&all(""));
    *changing.text.lock().unwrap() =
        text.replace("[gateway]", "[gateway]\nmax_disk_bytes = \"1GiB\"");
    let (status, answer) = changing.gateway.post("/reload", &json!({})).await;
    assert_eq!((status, &answer["restart_needed"]), (200, &json!(["admin", "max_disk_bytes"])));
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_queue_in_memory_does_not_go_to_disk() {
    let changing = Changing::start(&all("guarantee = \"delivered\"")).await;
    let (status, answer) = changing.change(&all("guarantee = \"stored\"")).await;
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("all/target"), "{answer}");
    changing.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn the_token_guards_the_pages_and_can_be_replaced() {
    let changing = Changing::start(&all("")).await;
    let with = |token: &str| {
        let text = changing.site.text(&all(""));
        text.replace("[gateway]", &format!("[gateway]\nadmin_token = \"{token}\""))
    };
    *changing.text.lock().unwrap() = with("first-token-of-this-test");
    assert_eq!(changing.gateway.post("/reload", &json!({})).await.0, 200);
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    for path in ["/config", "/queues", "/adapters", "/dead-letters", "/metrics"] {
        assert_eq!(changing.gateway.ask("GET", path, &[], "").await.0, 401, "{path}");
        let (status, body) =
            changing.gateway.ask("GET", path, &[&bearer("first-token-of-this-test")], "").await;
        assert_eq!(status, 200, "{path}");
        assert!(!body.to_string().contains("first-token"), "{body}");
    }
    assert_eq!(changing.gateway.ask("POST", "/reload", &[], "{}").await.0, 401);
    let (status, body) = changing.gateway.ask("GET", "/readyz", &[], "").await;
    assert_eq!((status, body), (200, json!({ "ready": true })));
    assert_eq!(changing.gateway.ask("GET", "/healthz", &[], "").await.0, 200);

    *changing.text.lock().unwrap() = with("second-token-of-this-test");
    changing.reloader.reload();
    until("the other token", async || {
        let headers = [&*bearer("second-token-of-this-test"), "Host: gateway.example"];
        changing.gateway.ask("GET", "/config", &headers, "").await.0 == 200
    })
    .await;
    changing.gateway.stop().await.unwrap();
}

/// Each set of rules has a route of its own name, so that each message says by which rules it was
/// routed. The rules swap between two targets; a message must be with all targets of one set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_under_load_lose_and_tear_nothing() {
    const CHANGES: usize = 25;
    let rules = |number: usize| {
        let from = "from = \"source\"\n";
        let all = "to = [{ adapter = \"target\", key = \"one\" }, { adapter = \"target\", key = \"two\" }]";
        let queue = if number.is_multiple_of(2) { "stored" } else { "delivered" };
        // A route that stays, one that comes and goes, and a target that changes.
        format!(
            "[[route]]\nname = \"stays\"\n{from}to = {{ adapter = \"target\", key = \"{number}\" }}\n\
             [[route]]\nname = \"set-{number}\"\n{from}{all}\nguarantee = \"{queue}\"\n"
        )
    };
    let changing = Changing::start(&rules(0)).await;
    let (source, target) = (changing.site.source.clone(), changing.site.target.clone());
    let done = CancellationToken::new();
    let load = {
        let (source, done) = (source.clone(), done.clone());
        async move {
            let mut fed = Vec::new();
            while !done.is_cancelled() {
                for _ in 0..20 {
                    fed.push(source.feed_text("a", &fed.len().to_string()));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            for one in &fed {
                accepted(one).await;
            }
            fed.len()
        }
    };
    let changes = async {
        for number in 1..=CHANGES {
            changing.good_change(&rules(number)).await;
        }
        done.cancel();
    };
    let (count, ()) = tokio::join!(load, changes);
    until("everything at the target", async || {
        let stays = texts_for(&target, "stays/target");
        stays.iter().collect::<std::collections::BTreeSet<_>>().len() == count
    })
    .await;
    changing.gateway.stop().await.unwrap();

    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for sent in target.taken() {
        if let Some(set) = sent.destination.strip_prefix("set-") {
            let list = sets.entry(sent.text()).or_default();
            if !list.contains(&set.to_owned()) {
                list.push(set.to_owned());
            }
        }
    }
    assert_eq!(sets.len(), count, "every message went by some set");
    for (text, mut list) in sets {
        list.sort();
        let number = list[0].split('/').next().unwrap();
        assert_eq!(list, [format!("{number}/target"), format!("{number}/target/2")], "{text}");
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the task is joined at the end")]
async fn a_file_that_changed_is_read_anew() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.toml");
    std::fs::write(&path, site.text(&all(""))).unwrap();
    let read = {
        let path = path.clone();
        move || load(&path, &|_| None, &Registry::default().with::<Fake>())
    };
    let loaded = read();
    let (reload, _) = Reload::new(read, loaded.watched);
    let stop = CancellationToken::new();
    let configuration = loaded.configuration.unwrap();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { Box::pin(run_reloading(configuration, reload, stop)).await }
    });
    site.target.until_connected().await;
    let other = all("").replace("\"all\"", "\"other\"");
    std::fs::write(&path, site.text(&other)).unwrap();
    until("the other rules", async || {
        accepted(&site.source.feed_text("a", "x")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        !texts_for(&site.target, "other/target").is_empty()
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
