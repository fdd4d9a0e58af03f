use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Adapter, Carriage, ConnectError, Context, Endpoints, Lint, ReplyPath, SourceCapabilities,
    TargetCapabilities, units::HumanDuration,
};

use super::{ADAPTERS, environment, findings, registry};
use crate::config::{Loaded, Reply, load_text};

/// Settings of [`Desk`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeskConfig {
    /// How long a caller waits.
    patience: HumanDuration,
}

/// A target of [`Desk`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeskTarget {
    /// Where it is asked.
    topic: Option<String>,
    /// Where it answers.
    reply_topic: Option<String>,
}

/// Asks and answers.
struct Desk;

#[async_trait]
impl Adapter for Desk {
    const KIND: &'static str = "desk";
    const ROLE_KEY: &'static str = "patience";
    const SUMMARY: &'static str = "asks and answers";
    const TEMPLATED: &'static [&'static str] = &["topic", "reply_topic"];
    type Config = DeskConfig;
    type Target = DeskTarget;

    fn lint(_: &DeskConfig) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_target(_: &DeskConfig, _: &DeskTarget) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_source(_: &DeskConfig, _: &str) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_reply(config: &DeskConfig, timeout: Duration) -> Vec<Lint> {
        if config.patience.get() > timeout {
            return Vec::new();
        }
        vec![Lint::warning("", "nobody waits so long").with_help("ask for less")]
    }

    fn describe(_: &DeskConfig) -> String {
        "a desk".to_owned()
    }

    fn describe_target(_: &DeskConfig, target: &DeskTarget) -> String {
        format!("{:?} {:?}", target.topic, target.reply_topic)
    }

    fn source(_: &DeskConfig) -> SourceCapabilities {
        SourceCapabilities {
            receives: true,
            acknowledges: true,
            refuses: true,
            replies: ReplyPath::Settlement,
            brings: &Carriage::EVERYTHING,
        }
    }

    fn target(_: &DeskConfig, _: &DeskTarget) -> TargetCapabilities {
        TargetCapabilities {
            sends: true,
            confirms: true,
            replies: true,
            carries: &Carriage::EVERYTHING,
        }
    }

    async fn connect(
        _: Arc<DeskConfig>,
        _: Context,
    ) -> Result<Endpoints<DeskTarget>, ConnectError> {
        panic!("checking a configuration must not connect")
    }
}

/// Reads a route whose keys are given, from line 12 on.
fn load(keys: &str) -> Loaded {
    let desk = "[adapters.desk]\nkind = \"desk\"\npatience = \"30s\"\n";
    let text = format!("{ADAPTERS}{desk}[[route]]\nname = \"r\"\n{keys}\n");
    load_text("adapters.toml", &text, &environment, &registry().with::<Desk>())
}

fn route(keys: &str, expected: &[&str]) {
    assert_eq!(findings(&load(keys)), expected, "{keys}");
}

fn desk(keys: &str, expected: &[&str]) {
    route(&format!("from = \"desk\"\nto = \"desk\"\n{keys}"), expected);
}

#[test]
fn replies_are_read() {
    let reply = |keys: &str| {
        let loaded = load(&format!("from = \"desk\"\nto = \"desk\"\nreply = {keys}"));
        assert_eq!(findings(&loaded), [""; 0]);
        loaded.configuration.unwrap().routes.remove(0).reply.unwrap()
    };
    let default = Reply { timeout: Duration::from_secs(5), gather: 1, in_flight_max: 1000 };
    assert_eq!(reply("{}"), default);
    let all = Reply { timeout: Duration::from_millis(20), gather: 3, in_flight_max: 7 };
    assert_eq!(reply("{ timeout = \"20ms\", gather = 3, max_in_flight = 7 }"), all);
}

#[test]
fn callers_must_be_able_to_take_replies_and_targets_to_give_them() {
    let help = "name the adapters whose messages can be answered in `from`";
    let deaf = format!("14:9 `door` cannot take replies -> {help}");
    route("from = [\"door\", \"desk\"]\nto = \"desk\"\nreply = {}", &[&deaf]);
    let deaf = format!("13:9 `door`, `broker` cannot take replies -> {help}");
    route("to = \"desk\"\nreply = {}", &[&deaf]);
    let mute = "13:15 `door` gives no replies here";
    route("from = \"desk\"\nto = [\"desk\", \"door\"]\nreply = {}", &[mute]);
}

#[test]
fn what_says_how_messages_are_stored_has_no_meaning_for_requests() {
    let help = "leave it out: a request is asked at once and never stored, and its caller gets a \
                reply or is told why not";
    for (key, column) in [
        ("guarantee = \"delivered\"", 13),
        ("queue = { max_messages = 5 }", 9),
        ("ordered_by = \"{address}\"", 14),
        ("batch = { max_messages = 5 }", 9),
    ] {
        let name = key.split(' ').next().unwrap();
        let expected =
            format!("15:{column} `{name}` has no meaning for a route with `reply` -> {help}");
        desk(&format!("reply = {{}}\n{key}"), &[&expected]);
    }
    let help = "leave it out: a request is asked once, within `timeout`";
    for key in ["when_full = \"reject\"", "attempts = 3", "expires = \"5s\""] {
        let name = key.split(' ').next().unwrap();
        let expected = format!("14:9 `{name}` has no meaning for a route with `reply` -> {help}");
        desk(&format!("reply = {{}}\n{key}"), &[&expected]);
    }
}

#[test]
fn times_and_numbers_have_their_bounds() {
    for (reply, expected) in [
        ("{ timeout = \"0s\" }", "14:21 `timeout` must be at least 1ms"),
        ("{ gather = 1001 }", "14:20 `gather` may be 1000 at most"),
        ("{ max_in_flight = 1000001 }", "14:27 `max_in_flight` may be 1000000 at most"),
    ] {
        desk(&format!("reply = {reply}"), &[expected]);
    }
    let late = "14:21 `desk`: nobody waits so long -> ask for less";
    let long = "14:21 `timeout` may be 1h at most";
    desk("reply = { timeout = \"61m\" }", &[long, late]);
}

#[test]
fn a_reply_must_come_before_the_caller_has_gone() {
    desk("reply = { timeout = \"29s\" }", &[]);
    let late = "14:21 `desk`: nobody waits so long -> ask for less";
    desk("reply = { timeout = \"30s\" }", &[late]);
    // The route is fed by all adapters.
    let loaded = load("to = \"desk\"\nreply = { timeout = \"1m\" }");
    assert!(findings(&loaded).iter().any(|found| found.contains("nobody waits so long")));
}

#[test]
fn correlations_belong_to_requests() {
    let asked =
        "{ adapter = \"desk\", topic = \"a/{correlation}\", reply_topic = \"b/{correlation}\" }";
    route(&format!("from = \"desk\"\nto = {asked}\nreply = {{}}"), &[]);
    let message =
        "this has a meaning only for a route with `reply` -> add `reply = {}` to the route";
    let found = findings(&load(&format!("from = \"desk\"\nto = {asked}")));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|found| found.ends_with(message)), "{found:?}");
}
