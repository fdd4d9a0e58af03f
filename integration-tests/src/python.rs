use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    Consumer, Message, Process, directory,
    guard::write,
    wait::{PATIENCE, until},
};

const INSTALL: &str = "integration-tests/run-tests.sh (it sets up integration-tests/.venv)";

/// The Python environment of the tests.
pub(crate) fn environment() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv")
}

/// One of the clients in `integration-tests/clients`, for one server.
#[derive(Clone, Debug)]
pub struct Python {
    script: &'static str,
    server: String,
    patience: Duration,
}

/// What became of a message that a client published.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome(pub Value);

impl Outcome {
    /// Whether the server took the message.
    pub fn ok(&self) -> bool {
        self.0.get("ok").and_then(Value::as_bool).unwrap_or(false)
    }
}

impl Python {
    pub(crate) fn new(script: &'static str, server: &str) -> Self {
        Self { script, server: server.to_owned(), patience: PATIENCE }
    }

    /// An MQTT client for any broker.
    pub fn mqtt(address: &str) -> Self {
        Self::new("mqtt", address)
    }

    /// Callers and responders of all protocols; `addresses` is JSON: see `clients/rpc.py`.
    pub fn rpc(addresses: &str) -> Self {
        Self::new("rpc", addresses)
    }

    /// Makes and reads events; has no server.
    pub fn events() -> Self {
        Self::new("events", "-")
    }

    /// Gives a publisher longer than usual.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let python = environment().join("bin/python");
        assert!(python.is_file(), "{} is missing.\n  run:  {INSTALL}", python.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("clients")
            .join(self.script)
            .with_extension("py");
        let mut command = Command::new(python);
        command.arg("-B").arg(script).arg(&self.server).args(arguments);
        command
    }

    /// Runs a command to its end and returns the lines that it printed.
    async fn run(&self, arguments: &[&str], input: &str) -> (bool, Vec<Value>) {
        let directory = directory(self.script);
        let file = directory.join("input");
        write(&file, input);
        let stdin = std::fs::File::open(&file).expect("the file was just written");
        let mut command = self.command(arguments);
        let mut process = Process::start(self.script, command.stdin(stdin), &directory, INSTALL);
        let status = process.wait(self.patience).await;
        let output = process.output();
        let lines: Vec<Value> =
            output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if !status.success() && lines.is_empty() {
            process.print_end();
        }
        (status.success(), lines)
    }

    /// Runs a command that prints one answer.
    pub async fn ask(&self, arguments: &[&str]) -> Value {
        let (succeeded, mut lines) = self.run(arguments, "").await;
        assert!(succeeded, "{} {arguments:?} failed: {lines:?}", self.script);
        lines.pop().unwrap_or_else(|| panic!("{} {arguments:?} has no answer", self.script))
    }

    /// Publishes messages one after the other and returns what became of each.
    pub async fn try_publish(&self, arguments: &[&str], messages: &[Message]) -> Vec<Outcome> {
        let input: String = messages.iter().map(|message| message.line() + "\n").collect();
        let arguments = [&["publish"], arguments].concat();
        let (_, lines) = self.run(&arguments, &input).await;
        lines.into_iter().map(Outcome).collect()
    }

    /// Publishes messages, all of which must be confirmed.
    pub async fn publish(&self, arguments: &[&str], messages: &[Message]) {
        let outcomes = self.try_publish(arguments, messages).await;
        assert!(
            outcomes.len() == messages.len() && outcomes.iter().all(Outcome::ok),
            "of {} messages not all were confirmed: {outcomes:?}",
            messages.len()
        );
    }

    /// Starts a consumer and waits until it is subscribed. The arguments begin with the command.
    pub async fn consume(&self, arguments: &[&str]) -> Consumer {
        let directory = directory(self.script);
        let mut command = self.command(arguments);
        let process =
            Process::start(self.script, command.stdin(Stdio::piped()), &directory, INSTALL);
        let mut consumer = Consumer::of_json(process);
        consumer.until_ready().await;
        consumer
    }

    /// Waits for the answer to hold; for state that a server reports late.
    pub async fn until_answer(&self, arguments: &[&str], holds: impl Fn(&Value) -> bool) -> Value {
        until(format!("the answer to {arguments:?}"), || async {
            Some(self.ask(arguments).await).filter(&holds)
        })
        .await
    }
}
