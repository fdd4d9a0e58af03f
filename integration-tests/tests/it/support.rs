//! Pieces of configurations and messages.

use transload_integration_tests::{Message, Received};

/// `[adapters.devices]`: our own MQTT listener, with further keys.
pub(crate) fn devices(port: u16, more: &str) -> String {
    format!("[adapters.devices]\nkind = \"mqtt\"\nlisten = \"127.0.0.1:{port}\"\n{more}\n")
}

/// `[adapters.web]`: our own HTTP listener.
pub(crate) fn web(port: u16) -> String {
    format!("[adapters.web]\nkind = \"http\"\nlisten = \"127.0.0.1:{port}\"\n")
}

/// `[adapters.NAME]` of a kind with a URL, with further keys.
pub(crate) fn client(name: &str, kind: &str, url: &str, more: &str) -> String {
    format!("[adapters.{name}]\nkind = \"{kind}\"\nurl = \"{url}\"\n{more}\n")
}

/// A route with further keys.
pub(crate) fn route(name: &str, from: &str, pattern: &str, to: &str, more: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nfrom = \"{from}\"\nmatch = \"{pattern}\"\nto = {to}\n{more}\n"
    )
}

/// Messages with the numbers of a range as their texts.
pub(crate) fn numbered(address: &str, numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(|number| Message::new(address, number.to_string())).collect()
}

/// What was received without repeats, in the order of the first of each.
pub(crate) fn first_of_each(received: &[Received]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    received.iter().map(Received::text).filter(|text| seen.insert(text.clone())).collect()
}

/// The texts of [`numbered`].
pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
