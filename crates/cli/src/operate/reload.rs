//! `transload reload`

use serde_json::{Value, json};

use super::{Done, Failure, access::Access};
use crate::print;

/// Has the running gateway read its configuration anew, and says what came of it.
pub(super) async fn run(access: &Access) -> Result<Done, Failure> {
    if !access.is_running() {
        return Err("no gateway runs on this data directory".to_owned());
    }
    let outcome = access.post("/reload", &json!({})).await?;
    let names = |key: &str| {
        let list = outcome.pointer(key).and_then(Value::as_array);
        let names = list.into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    print("The new configuration is in force.\n");
    for (what, key) in [
        ("connections kept", "/adapters/kept"),
        ("started anew", "/adapters/restarted"),
        ("started", "/adapters/started"),
        ("closed", "/adapters/removed"),
        ("counts from the next start on", "/restart_needed"),
    ] {
        let names = names(key);
        if !names.is_empty() {
            print(&format!("{what}: {names}\n"));
        }
    }
    Ok(Done::Whole)
}
