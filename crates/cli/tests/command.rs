//! The program as a shell sees it: exit codes and what is printed where.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Ten faults, each on a line of its own.
const TEN_FAULTS: &str = "\
[gateway]
drain_timeout = 10
[adapters.devices]
kind = \"mqtt\"
listen = \"127.0.0.1:1883\"
max_conections = 5
[adapters.services]
kind = \"amqp\"
url = \"http://127.0.0.1\"
prefetch = -1
[adapters.events]
kind = \"natz\"
[[route]]
name = \"a\"
from = \"devises\"
match = \"a/{x}/#/b\"
to = \"devices\"
[[route]]
name = \"b\"
match = \"b/{x}\"
to = { adapter = \"devices\", topic = \"b/{y}\" }
[[route]]
name = \"b\"
to = { adapter = \"services\", exchange = 5 }
[[rout]]
";
const LINES: [u64; 11] = [2, 6, 9, 10, 12, 15, 16, 21, 23, 24, 25];

#[expect(clippy::unwrap_used, reason = "a test that cannot start the program has failed")]
fn transload(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_transload"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

#[test]
fn faults_are_all_found_and_nothing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("adapters.toml"), TEN_FAULTS).unwrap();
    let output = transload(folder.path(), &["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let lines: Vec<_> = findings.iter().filter_map(|finding| finding["line"].as_u64()).collect();
    assert_eq!(lines, LINES, "{report:#}");
    let output = transload(folder.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "no table is shown");
    assert!(String::from_utf8_lossy(&output.stderr).contains("adapters.toml:6:1"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
}

#[test]
fn warnings_are_faults_when_they_are_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[adapters.devices]\nkind = \"mqtt\"\nlisten = \"127.0.0.1:0\"\n\
                [[route]]\nname = \"all\"\nstop = true\nto = \"devices\"\n\
                [[route]]\nname = \"none\"\nto = \"devices\"\n";
    fs::write(folder.path().join("other.toml"), text).unwrap();
    let output = transload(folder.path(), &["check", "--config", "other.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("warning: route `none` never gets a message"), "{shown}");
    let output = transload(folder.path(), &["check", "--config", "other.toml", "--strict"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_password_becomes_a_line_of_a_users_file() {
    for (name, typed, code) in
        [("pump-1", "secret\n", 0), ("a:b", "secret\n", 2), ("pump-1", "\n", 2), ("pump-1", "", 2)]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_transload"))
            .args(["hash-password", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that has refused the name already does not read the password.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{name} {typed:?} {output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert_eq!(line.starts_with("pump-1:$argon2id$v=19$"), code == 0, "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[test]
fn other_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["schema"], 0),
        (&["check"], 1),
        (&["--no-such-option"], 2),
        (&["--log-level", "warn,x=y=z"], 3),
    ] {
        let output = transload(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {output:?}");
    }
}

/// Devices, with a target of each protocol that leaves the place to the address.
const EACH_PROTOCOL: &str = "\
[adapters.devices]
kind = \"mqtt\"
listen = \"127.0.0.1:1883\"
[adapters.services]
kind = \"amqp\"
url = \"amqp://127.0.0.1\"
[adapters.events]
kind = \"nats\"
url = \"nats://127.0.0.1\"
[adapters.hook]
kind = \"http\"
url = \"http://127.0.0.1:9/base\"
[adapters.web]
kind = \"http\"
listen = \"127.0.0.1:8080\"
[[route]]
name = \"all\"
from = \"devices\"
match = \"a/#\"
to = [{ adapter = \"services\", exchange = \"x\" }, \"events\", \"hook\", \"web\", { adapter = \"devices\", topic = \"b\" }]
";

#[test]
fn the_place_that_follows_from_the_address_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("adapters.toml"), EACH_PROTOCOL).unwrap();
    let explain = |address: &str, more: &[&str]| {
        let arguments = ["explain", address, "--from", "devices", "--property", "retain=true"];
        let arguments = [&arguments[..], more].concat();
        let output = transload(folder.path(), &arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let outputs = |address: &str| {
        let text = explain(address, &["--format", "json"]);
        let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
        explained["explanations"][0]["outputs"].as_array().unwrap().clone()
    };
    let places = |address: &str| -> Vec<_> {
        outputs(address).iter().map(|output| output["place"].clone()).collect()
    };
    let json = |name: &str, text: &str| serde_json::json!({ name: text });
    assert_eq!(
        places("a/v1.0/x y"),
        [
            json("routing_key", "a.v1/0.x y"),
            // No space in a subject.
            serde_json::Value::Null,
            json("path", "/base/a/v1.0/x%20y"),
            json("stream", "/streams/a/v1.0/x y"),
            json("topic", "b"),
        ]
    );
    let rejected = &outputs("a/v1.0/x y")[1]["rejected"];
    assert!(rejected.as_str().unwrap().contains("NATS"), "{rejected}");
    assert_eq!(places("a/v1.0")[1], json("subject", "a.v1//0"));
    let lost = |place: usize| outputs("a/b")[place]["lost"].clone();
    assert_eq!(lost(0), serde_json::json!([]));
    assert_eq!(lost(2), serde_json::json!(["retain"]));
    let text = explain("a/x y", &[]);
    for line in
        ["routing_key = \"a.x y\"", "the target will reject it", "cannot be carried: retain"]
    {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}
