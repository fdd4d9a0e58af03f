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
