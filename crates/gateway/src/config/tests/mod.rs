//! The loader with two made-up protocols: `broker` (a client) and `door` (a listener).

mod faults;
mod fixtures;
mod large;
mod limits;
mod reading;
mod reply;
mod secrets;
mod shape;
#[cfg(feature = "otlp")]
mod telemetry;

use transload_adapter::Registry;

use self::fixtures::{Broker, Door, Sink};
use super::{Loaded, load_text};

/// A start for files: the adapters that most tests need, in 6 lines.
const ADAPTERS: &str = "\
[adapters.door]
kind = \"door\"
listen = \"127.0.0.1:1\"
[adapters.broker]
kind = \"broker\"
url = \"broker://host\"
";

fn registry() -> Registry {
    Registry::default().with::<Broker>().with::<Door>().with::<Sink>()
}

fn environment(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("hidden-host".to_owned()),
        "PASS" => Some("hunter2hunter2".to_owned()),
        "NUMBER" => Some("7".to_owned()),
        _ => None,
    }
}

fn check(text: &str) -> Loaded {
    load_text("adapters.toml", text, &environment, &registry())
}

/// Findings as `line:column message`, with the help behind an arrow.
fn findings(loaded: &Loaded) -> Vec<String> {
    let report = &loaded.report;
    let line = |finding: &super::Finding| {
        let place = finding.place.as_ref().map_or_else(String::new, |place| {
            let position = report.sources.get(place.file).unwrap().position(place.span.start);
            format!("{}:{} ", position.line, position.column)
        });
        let help = finding.help.as_ref().map_or_else(String::new, |help| format!(" -> {help}"));
        format!("{place}{}{help}", finding.message)
    };
    report.findings.iter().map(line).collect()
}
