//! The table of properties in `docs/SEMANTICS.md` is what the adapters say; what the adapters say is
//! held to what comes through in `pairs`.

use std::path::Path;

use transload_adapter::{Carriage, Part};
use transload_adapter_amqp::CARRIAGE as AMQP;
use transload_adapter_http::{EVENT_STREAM, REQUESTS};
use transload_adapter_mqtt::{MQTT_3_1_1, MQTT_5};
use transload_adapter_nats::STREAM;

/// The columns: what they are called, and what they show.
fn columns() -> [(&'static str, &'static Carriage); 6] {
    [
        (MQTT_5.protocol, &MQTT_5),
        (MQTT_3_1_1.protocol, &MQTT_3_1_1),
        (AMQP.protocol, &AMQP),
        ("NATS", &STREAM),
        (REQUESTS.protocol, &REQUESTS),
        (EVENT_STREAM.protocol, &EVENT_STREAM),
    ]
}

fn row(first: &str, cells: impl Iterator<Item = &'static str>) -> String {
    let cells: Vec<_> = cells.collect();
    format!("| {first} | {} |\n", cells.join(" | "))
}

/// The table as the adapters say it.
fn table() -> String {
    let mut table = row("envelope", columns().into_iter().map(|(name, _)| name));
    table.push_str("|---|---|---|---|---|---|---|\n");
    let payload = ["bytes", "bytes", "bytes", "bytes", "bytes", "`data`: text, or base64"];
    table.push_str(&row("payload", payload.into_iter()));
    for part in Part::ALL {
        let cells = columns().map(|(_, carriage)| carriage.form(part).unwrap_or("none"));
        table.push_str(&row(part.name(), cells.into_iter()));
    }
    table
}

#[test]
fn the_documented_properties_are_those_of_the_adapters() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SEMANTICS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let section = document.split("\n## ").find(|section| section.starts_with("Properties\n"));
    let lines = section.unwrap().lines().filter(|line| line.starts_with('|'));
    let documented: String = lines.flat_map(|line| [line, "\n"]).collect();
    let said = table();
    assert_eq!(documented, said, "the table in docs/SEMANTICS.md is to be:\n\n{said}");
}
