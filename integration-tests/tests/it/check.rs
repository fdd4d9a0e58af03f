//! `transload check` and `transload schema`.

use std::collections::BTreeSet;

use transload_integration_tests::{directory, free_port, transload_to_end};

/// Ten faults of different kinds. Each is marked by a comment in its line.
const TEN_FAULTS: &str = r#"[gateway]
data_dir = "DATA"
admin = "127.0.0.1"                                       # FAULT 1: no port
drain_timout = "5s"                                       # FAULT 2: misspelt key

[adapters.devices]
kind = "mqtt"
listen = "0.0.0.0:PORT"                                   # FAULT 3: open to the world

[adapters.web]
kind = "http"
listen = "127.0.0.1:PORT2"
max_body_bytes = "many"                                   # FAULT 4: no size

[adapters.services]
kind = "ampq"                                             # FAULT 5: unknown kind
url = "amqp://127.0.0.1"

[adapters.events]
kind = "nats"
url = "http://127.0.0.1:4222"                             # FAULT 6: wrong scheme

[[route]]
name = "one"
from = "device"                                           # FAULT 7: no such adapter
match = "a/#"
to = "devices"

[[route]]
name = "two"
from = "devices"
match = "a/#/b"                                           # FAULT 8: `#` is not last
to = "devices"

[[route]]
name = "three"
from = "devices"
match = "a/{x}"
to = { adapter = "devices", topic = "b/{y}" }             # FAULT 9: no such capture

[[route]]
name = "four"
from = "devices"
match = "c"
guarantee = "stord"                                       # FAULT 10: no such guarantee
to = "devices"
"#;

fn write(name: &str, text: &str) -> (std::path::PathBuf, String) {
    let directory = directory("check");
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    (directory, path.display().to_string())
}

/// The lines that findings point at: `--> path:LINE:COLUMN`.
fn lines_of(report: &str) -> BTreeSet<usize> {
    let arrows = report.lines().filter_map(|line| line.trim().strip_prefix("--> "));
    let line = |place: &str| place.rsplit(':').nth(1)?.trim().parse().ok();
    arrows.filter_map(line).collect()
}

#[tokio::test]
async fn a_file_with_ten_faults_has_ten_findings_at_their_lines() {
    let data = directory("never-made").join("data");
    let text = TEN_FAULTS
        .replace("DATA", &data.display().to_string())
        .replace("PORT2", &free_port().to_string())
        .replace("PORT", &free_port().to_string());
    let expected: BTreeSet<usize> = text
        .lines()
        .enumerate()
        .filter_map(|(number, line)| line.contains("# FAULT").then_some(number + 1))
        .collect();
    assert_eq!(expected.len(), 10);
    let (directory, path) = write("adapters.toml", &text);
    let before = std::fs::read_dir(&directory).unwrap().count();
    let (code, output, errors) = transload_to_end(&["check", "--config", &path]).await;
    let report = output + &errors;
    assert_eq!(code, 1, "{report}");
    assert_eq!(lines_of(&report), expected, "{report}");
    let findings = report.lines().filter(|line| line.starts_with("error")).count();
    assert_eq!(findings, 10, "{report}");
    for suggestion in ["drain_timeout", "amqp", "devices", "stored"] {
        assert!(report.contains(suggestion), "{suggestion} is suggested:\n{report}");
    }
    assert!(!data.exists(), "checking makes no directory");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), before, "and no file");
}

#[tokio::test]
async fn a_good_file_passes() {
    let text = format!(
        "[adapters.web]\nkind = \"http\"\nlisten = \"127.0.0.1:{}\"\n\
         [[route]]\nname = \"r\"\nfrom = \"web\"\nmatch = \"a/#\"\nto = \"web\"\n",
        free_port()
    );
    let (directory, path) = write("adapters.toml", &text);
    let (code, output, errors) = transload_to_end(&["check", "--config", &path]).await;
    assert_eq!(code, 0, "{output}{errors}");
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1, "no side effects");
}

/// What would have to be a secret is not in the report, though its line is.
#[tokio::test]
async fn secrets_are_not_printed() {
    let text = "[adapters.services]\nkind = \"amqp\"\nurl = \"amqp://u:geheim@127.0.0.1\"\n\
                password = \"auch-geheim\"\npasswort = \"sehr-geheim\"\n";
    let (_, path) = write("adapters.toml", text);
    let (code, output, errors) = transload_to_end(&["check", "--config", &path]).await;
    let report = output + &errors;
    assert_eq!(code, 1, "{report}");
    assert!(!report.contains("geheim"), "{report}");
}

#[tokio::test]
async fn the_schema_is_json_and_knows_every_kind() {
    let (code, output, _) = transload_to_end(&["schema"]).await;
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert!(schema["$schema"].is_string());
    for word in ["mqtt", "amqp", "nats", "http", "routing_key", "data_dir"] {
        assert!(output.contains(&format!("\"{word}\"")), "{word}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    for command in ["check", "run"] {
        let (code, output, errors) = transload_to_end(&[command, "--config", "nowhere.toml"]).await;
        assert_ne!(code, 0);
        let said = output + &errors;
        assert!(said.contains("nowhere.toml"), "{said}");
    }
}

#[tokio::test]
async fn help_teaches() {
    let (code, output, _) = transload_to_end(&["--help"]).await;
    assert_eq!(code, 0);
    for word in ["run", "check", "schema", "adapters.toml"] {
        assert!(output.contains(word), "{word}:\n{output}");
    }
}
