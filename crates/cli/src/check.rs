//! `transload check`

use std::{io, mem::ManuallyDrop, path::Path};

use transload_gateway::config::{Loaded, Notice, load_with_tests, notices, overview};

use crate::{
    adapters,
    arguments::{CheckArguments, ReportFormat},
    colored, environment,
    exit::Outcome,
    print,
};

/// Shows the findings about a file, and what it amounts to.
pub(crate) fn check(path: &Path, how: &CheckArguments) -> Outcome {
    let Loaded { configuration, mut report, .. } =
        load_with_tests(path, &environment, &adapters::registry());
    // The process ends soon, and a large configuration takes long to take apart.
    let configuration = configuration.map(ManuallyDrop::new);
    if how.strict {
        report.be_strict();
    }
    match how.format {
        ReportFormat::Json => {
            let mut json = report.to_json();
            let told = configuration.as_deref().map(notices).unwrap_or_default();
            if let Some(json) = json.as_object_mut() {
                json.insert("notices".to_owned(), told.iter().map(Notice::to_json).collect());
            }
            print(&format!("{json:#}\n"));
        }
        ReportFormat::Text => {
            print(&report.render(colored(&io::stdout())));
            if let (Some(configuration), 0) = (configuration, report.errors()) {
                if !report.findings.is_empty() {
                    print("\n");
                }
                print(&overview(&configuration));
                print(&format!("\n`{}` is in order: {}\n", path.display(), report.summary()));
            }
        }
    }
    if report.errors() == 0 { Outcome::Well } else { Outcome::Faults }
}

#[cfg(test)]
mod tests {
    use transload_gateway::config::load_text;

    use super::*;

    const FILE: &str = r#"
[adapters.devices]
kind = "mqtt"
listen = "127.0.0.1:1883"

[adapters.old]
kind = "mqtt"
url = "mqtt://127.0.0.1"
version = "3.1.1"

[adapters.web]
kind = "http"
url = "http://127.0.0.1:9"

[adapters.events]
kind = "nats"
url = "nats://127.0.0.1"

[[route]]
name = "one"
from = "devices"
match = "a/#"
to = ["web", "old", "events"]

[[route]]
name = "two"
from = "devices"
match = "b/#"
to = ["web", { adapter = "events", jetstream = true, ttl = true }]

[[route]]
name = "asks"
from = "devices"
match = "c/#"
to = "web"
reply = { timeout = "5s" }

[[route]]
name = "old-to-new"
from = "old"
match = "d/#"
to = "events"
"#;

    /// The notices in words, and whether the file passes when warnings are errors.
    fn told() -> (Vec<String>, bool) {
        let Loaded { configuration, mut report, .. } =
            load_text("file.toml", FILE, &|_| None, &adapters::registry());
        report.be_strict();
        let overview = overview(&configuration.unwrap());
        let (_, told) = overview.split_once("On the way from one protocol to another").unwrap();
        let lines = told.lines().skip(1);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        (lines.map(words).collect(), report.findings.is_empty())
    }

    #[test]
    fn what_is_lost_is_told_once_for_each_pair_and_is_no_fault() {
        let (told, passes) = told();
        assert!(passes);
        assert_eq!(
            told,
            [
                "MQTT 5 → HTTP: reply to, expiry and retain are lost (one and two)",
                "MQTT 5 → MQTT 3.1.1: only address, payload and retain come through (one)",
                "MQTT 5 → NATS: expiry becomes a header only; retain becomes a header only (one)",
                "MQTT 5 → JetStream: retain becomes a header only (two)",
                // A request has a reply address and an end of its own.
                "MQTT 5 → HTTP: retain is lost (asks)",
                "MQTT 3.1.1 → NATS: retain becomes a header only (old-to-new)",
            ]
        );
    }

    #[test]
    fn programs_are_told_too() {
        let loaded = load_text("file.toml", FILE, &|_| None, &adapters::registry());
        let notices = notices(&loaded.configuration.unwrap());
        let json: Vec<_> = notices.iter().map(Notice::to_json).collect();
        assert_eq!(json[0]["from"], "MQTT 5");
        assert_eq!(json[0]["to"], "HTTP");
        assert_eq!(json[0]["lost"], serde_json::json!(["reply to", "expiry", "retain"]));
        assert_eq!(json[0]["routes"], serde_json::json!(["one", "two"]));
        assert_eq!(json[2]["altered"]["expiry"], "a header only");
    }
}
