//! `curl` as the foreign HTTP client.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::{
    Consumer, Process, Received, directory,
    guard::write,
    wait::{PATIENCE, until},
};

const INSTALL: &str = "apt-get install --no-install-recommends curl";

/// An answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers as they came, with the status line.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Makes a request with curl. `headers` are whole lines: `Content-Type: text/plain`.
pub async fn request(method: &str, url: &str, headers: &[&str], body: &[u8]) -> Answer {
    request_with(&[], method, url, headers, body).await
}

/// The same with further arguments for curl, such as `--http2`.
pub async fn request_with(
    arguments: &[&str],
    method: &str,
    url: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let directory = directory("curl");
    let input = directory.join("body");
    std::fs::write(&input, body).expect("a body can be written");
    let head = directory.join("head");
    let answer = directory.join("answer");
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "30", "--path-as-is", "--globoff"])
        .args(arguments)
        .args(["--request", method, "--write-out", "%{http_code}"])
        .arg("--dump-header")
        .arg(&head)
        .arg("--output")
        .arg(&answer)
        .stdin(Stdio::null());
    if !matches!(method, "GET" | "HEAD") {
        command.arg("--data-binary").arg(format!("@{}", input.display()));
        // What curl would add by itself is not what the test said.
        command.args(["--header", "Expect:"]);
        if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("content-type:")) {
            command.args(["--header", "Content-Type:"]);
        }
    }
    for line in headers {
        command.args(["--header", line]);
    }
    let mut process = Process::start("curl", command.arg(url), &directory, INSTALL);
    let status = process.wait(PATIENCE).await;
    assert!(status.success(), "curl {method} {url}: {status}: {}", process.errors());
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    Answer {
        status: process.output().trim().parse().unwrap_or(0),
        head: text(&head),
        body: text(&answer),
    }
}

/// Posts a body.
pub async fn post(url: &str, headers: &[&str], body: &[u8]) -> Answer {
    request("POST", url, headers, body).await
}

/// Reads a stream of server-sent events, from after `last` if given, once the server has answered.
pub async fn events(url: &str, last: Option<&str>) -> Consumer {
    events_with(&[], url, last).await
}

/// The same with further arguments for curl.
pub async fn events_with(arguments: &[&str], url: &str, last: Option<&str>) -> Consumer {
    let directory = directory("events");
    let head = directory.join("head");
    write(&head, "");
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--no-buffer", "--globoff"])
        .args(arguments)
        .args(["--header", "Accept: text/event-stream"])
        .arg("--dump-header")
        .arg(&head)
        .stdin(Stdio::null());
    if let Some(last) = last {
        command.args(["--header", &format!("Last-Event-ID: {last}")]);
    }
    let process = Process::start("events", command.arg(url), &directory, INSTALL);
    until(format!("the event stream {url}"), || {
        let head = std::fs::read_to_string(&head).unwrap_or_default();
        async move {
            let end = head.contains("\r\n\r\n");
            assert!(!end || head.contains(" 200"), "no event stream at {url}: {head}");
            end.then_some(())
        }
    })
    .await;
    Consumer::new(process, parse_events)
}

/// Server-sent events (HTML Living Standard, section 9.2.6): blocks of `field: value` lines that
/// end with an empty line. Events without data are keep-alives.
fn parse_events(text: &mut String) -> Vec<Received> {
    let Some(end) = text.rfind("\n\n") else { return Vec::new() };
    let complete: String = text.drain(..end + 2).collect();
    complete.split("\n\n").filter_map(parse_event).collect()
}

fn parse_event(block: &str) -> Option<Received> {
    let mut data: Vec<&str> = Vec::new();
    let mut fields = Map::new();
    for line in block.lines().filter(|line| !line.starts_with(':')) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        if name == "data" {
            data.push(value);
        } else {
            fields.insert(name.to_owned(), value.into());
        }
    }
    if data.is_empty() {
        return None;
    }
    let event = fields.get("event").and_then(Value::as_str).unwrap_or("message").to_owned();
    let mut received = Received::new(&event, data.join("\n").into_bytes());
    received.fields = Value::Object(fields);
    Some(received)
}

/// What the data of an event comes to where the marker says that it is base64.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
