//! Explanations and tests of the rules, without anything running.

use serde_json::{Value, json};
use tempfile::TempDir;
use transload_adapter::testing::Script;
use transload_envelope::{Envelope, MessageId, Origin};

use super::configuration;
use crate::{Explainer, Message, config::Configuration, run_tests};

#[tokio::test]
async fn a_recent_message_of_a_running_gateway_is_explained_by_its_id() {
    let peers = super::peer::Site::new();
    let gateway = peers.start(ROUTES).await;
    let mut message = Envelope::new(Origin::new("source", "fake", "devices/d7/telemetry"), "21.5");
    message = message.with_id(MessageId::from_source("m-7"));
    peers.source.feed(message).settled().await;
    let explained = gateway.get("/explain?id=m-7").await;
    let one = &explained["explanations"][0];
    assert_eq!(one["from"], "source");
    assert_eq!(one["message"]["payload"], "21.5");
    assert_eq!(one["outputs"][0]["keys"], json!({ "key": "from.d7" }));
    let (status, answer) = gateway.ask("GET", "/explain?id=m-8", &[], "").await;
    assert_eq!(status, 404);
    assert!(answer["error"].as_str().unwrap().contains("recent_messages"), "{answer}");
    gateway.stop().await.unwrap();
}

struct Site {
    _scripts: (Script, Script),
    _data: TempDir,
    configuration: Configuration,
}

fn site(rest: &str) -> Site {
    let (source, target) = (Script::new(), Script::new());
    let data = tempfile::tempdir().unwrap();
    let configuration = configuration(&source, &target, &data, rest);
    Site { _scripts: (source, target), _data: data, configuration }
}

const ROUTES: &str = r#"
[[route]]
name = "telemetry"
from = "source"
match = "devices/{device}/telemetry"
to = { adapter = "target", key = "from.{device}" }

[[route]]
name = "alarms"
from = "source"
match = "devices/{device}/alarm"
stop = true
to = [{ adapter = "target", key = "alarm" }, { adapter = "source", key = "{header.zone}" }]

[[route]]
name = "all alarms"
match = "+/+/alarm"
to = "target"

[[route]]
name = "rest"
fallback = true
to = "target"
"#;

fn explain(message: &Value, all: bool) -> Value {
    let site = site(ROUTES);
    let message = Message::from_json(message.as_object().unwrap()).unwrap();
    Explainer::new(&site.configuration).explain(&message, all).unwrap()
}

#[test]
fn an_explanation_says_what_applies_and_what_each_target_gets() {
    let message = json!({
        "from": "source", "address": "devices/d1/telemetry", "id": "m", "json": { "t": 1 },
    });
    let explained = explain(&message, false);
    let one = &explained["explanations"][0];
    assert_eq!(one["outcome"], "routed");
    let rules = json!({
        "all": 4, "other_source": 0, "no_pattern_matches": 2, "not_listed": 0,
    });
    assert_eq!(one["rules"], rules);
    let considered = json!([
        {
            "route": "telemetry", "verdict": "applies", "pattern": "devices/{device}/telemetry",
            "captures": { "device": "d1" }, "guarantee": "stored",
        },
        { "route": "rest", "verdict": "not_needed", "because_of": "telemetry" },
    ]);
    assert_eq!(one["considered"], considered);
    let output = &one["outputs"][0];
    assert_eq!(output["destination"], "telemetry/target");
    assert_eq!(output["keys"], json!({ "key": "from.d1" }));
    assert_eq!(output["at"], "key from.{device}");
    assert_eq!(output["message"]["payload"], "{\"t\":1}");
    assert_eq!(output["changes"], json!({}));
    assert_eq!(one["outputs"].as_array().unwrap().len(), 1);
}

#[test]
fn an_explanation_says_why_a_route_does_not_apply_and_what_cannot_be_filled_in() {
    let message = json!({ "from": "source", "address": "devices/d1/alarm" });
    let explained = explain(&message, true);
    let one = &explained["explanations"][0];
    let verdicts: Vec<_> = one["considered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["route"].as_str().unwrap(), rule["verdict"].as_str().unwrap()))
        .collect();
    let expected = [
        ("telemetry", "no_pattern_matches"),
        ("alarms", "applies"),
        ("all alarms", "stopped"),
        ("rest", "not_needed"),
    ];
    assert_eq!(verdicts, expected);
    let reason = one["outputs"][1]["dead_letter"].as_str().unwrap();
    assert!(reason.contains("header.zone"), "{reason}");
}

#[test]
fn without_a_source_each_is_explained() {
    let explained = explain(&json!({ "address": "x" }), false);
    let outcomes: Vec<_> = explained["explanations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["from"].as_str().unwrap(), one["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, [("source", "routed"), ("target", "routed")]);
    let site = site(ROUTES);
    let message = Message { from: Some("nobody".to_owned()), ..Message::default() };
    let fault = Explainer::new(&site.configuration).explain(&message, false).unwrap_err();
    let expected = "there is no adapter named `nobody`; messages come from `source`, `target`";
    assert_eq!(fault, expected);
}

/// Runs one test, and gives what was different.
fn differences(test: &str) -> Value {
    let site = site(&format!("{ROUTES}\n[[test]]\nfrom = \"source\"\n{test}"));
    let outcome = run_tests(&site.configuration, "");
    let test = &outcome["tests"][0];
    assert_eq!(test["passed"], test["differences"] == json!([]));
    test["differences"].clone()
}

#[test]
fn a_test_passes_where_exactly_the_expected_goes_out() {
    for test in [
        r#"
        address = "devices/d1/telemetry"
        json = { t = 21.0, list = [1, 2] }
        headers = { a = ["x", "y"], n = 1 }
        properties = { content_type = "application/json" }
        expect = [{ to = "target", route = "telemetry", key = "from.d1", json = { list = [1, 2], t = 21 },
            headers = { a = ["x", "y"], other = [] }, properties = { content_type = "application/json" },
            address = "devices/d1/telemetry" }]
        "#,
        r#"
        address = "devices/d1/alarm"
        payload = "text"
        headers = { zone = "z" }
        expect = [{ to = "source" }, { to = "target", payload = "text" }]
        "#,
        r#"
        address = "devices/d1/alarm"
        dead_letter = "header.zone"
        expect = { to = "target", key = "alarm" }
        "#,
        "address = \"other\"\nexpect = [{ to = \"target\", route = \"rest\" }]\n",
    ] {
        assert_eq!(differences(test), json!([]), "{test}");
    }
}

#[test]
fn a_test_that_fails_says_what_is_different() {
    let found = differences(
        r#"
        address = "devices/d1/telemetry"
        json = { t = 1 }
        expect = [{ to = "target", key = "from.d2", json = { t = 2 } }, { to = "source" }]
        "#,
    );
    let expected = json!([
        {
            "what": "different", "to": "target", "route": "telemetry",
            "keys": [
                { "key": "key", "expected": "from.d2", "found": "from.d1" },
                { "key": "payload", "diff": [" {", "-  \"t\": 2", "+  \"t\": 1", " }"] },
            ],
        },
        { "what": "missing", "to": "source", "route": null, "expected": {} },
    ]);
    assert_eq!(found, expected);
    let found = differences("address = \"other\"\nexpect = []\n");
    assert_eq!(found[0]["what"], "unexpected");
    assert_eq!(found[0]["route"], "rest");
    let alarm = "address = \"devices/d1/alarm\"\nexpect = [{ to = \"target\" }]\n";
    let found = differences(alarm);
    assert_eq!(found[0]["what"], "dead_letter");
    let found =
        differences("address = \"x\"\nexpect = { to = \"target\" }\ndead_letter = \"no\"\n");
    assert_eq!(found, json!([{ "what": "no_dead_letter", "expected": "no" }]));
}

#[test]
fn an_explanation_shows_what_a_condition_read() {
    let site = site(
        r#"
        [[route]]
        name = "hot"
        when = "payload.t > 30"
        to = { adapter = "target", key = "{payload.t * 2}" }
        "#,
    );
    let explainer = Explainer::new(&site.configuration);
    for (payload, verdict, reason) in [
        (json!({ "t": 5 }), "not_true", "`payload.t > 30` does not hold; payload.t is 5"),
        (json!({}), "absent", "`payload.t > 30` cannot be told; payload.t is absent"),
        (
            json!({ "t": "x" }),
            "failed",
            "`payload.t > 30` fails: `>` cannot be used between a text and an integer; payload.t \
             is \"x\"",
        ),
    ] {
        let message = json!({ "from": "source", "address": "a", "json": payload });
        let message = Message::from_json(message.as_object().unwrap()).unwrap();
        let explained = explainer.explain(&message, false).unwrap();
        let considered = &explained["explanations"][0]["considered"][0];
        assert_eq!(considered["verdict"], verdict, "{explained}");
        assert_eq!(considered["reason"], reason);
    }
    let message = json!({ "from": "source", "address": "a", "json": { "t": 31 } });
    let message = Message::from_json(message.as_object().unwrap()).unwrap();
    let explained = explainer.explain(&message, false).unwrap();
    assert_eq!(explained["explanations"][0]["outputs"][0]["keys"], json!({ "key": "62" }));
}
