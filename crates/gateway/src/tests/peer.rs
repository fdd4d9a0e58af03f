//! A gateway whose admin address is asked as its peers ask it.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use transload_adapter::testing::{Script, within};

use super::configuration;
use crate::{RunError, Summary, config::Configuration, run};

/// Two scripted peers and a data directory, between which gateways come and go.
pub(super) struct Site {
    pub(super) source: Script,
    pub(super) target: Script,
    pub(super) data: TempDir,
}

/// A gateway with an admin address.
pub(super) struct Asked {
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) running: JoinHandle<Result<Summary, RunError>>,
}

impl Site {
    pub(super) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { source: Script::new(), target: Script::new(), data }
    }

    /// The whole file with these tables.
    pub(super) fn text(&self, rest: &str) -> String {
        super::text(&self.source, &self.target, &self.data, rest)
    }

    /// Starts a gateway with these tables, and waits until its admin address answers.
    pub(super) async fn start(&self, rest: &str) -> Asked {
        self.start_changed(rest, |_| {}).await
    }

    /// The same with a configuration that is changed before.
    #[expect(clippy::disallowed_methods, reason = "the task is joined by `stop`")]
    pub(super) async fn start_changed(
        &self,
        rest: &str,
        change: impl FnOnce(&mut Configuration),
    ) -> Asked {
        let mut configuration = configuration(&self.source, &self.target, &self.data, rest);
        change(&mut configuration);
        let free = free().await;
        configuration.gateway.admin = Some(free);
        // What does not finish here never does.
        configuration.gateway.drain_timeout = Duration::from_millis(300);
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(configuration, stop.clone()));
        let asked = Asked { address: free, stop, running };
        until("the admin address", async || TcpStream::connect(free).await.is_ok()).await;
        asked
    }
}

impl Asked {
    pub(super) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &[], "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let json = ["Content-Type: application/json"];
        self.ask("POST", path, &json, &body.to_string()).await
    }

    /// Sends a request and reads the whole answer; an answer that is not JSON is a string.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &str,
    ) -> (u16, Value) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            write!(head, "Host: {}\r\n", self.address).unwrap();
        }
        for header in headers {
            write!(head, "{header}\r\n").unwrap();
        }
        write!(head, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let asking = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = within("an answer of the admin address", asking).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        (status, body)
    }

    /// Waits until the pages of dead letters show so many of them.
    pub(super) async fn until_letters(&self, count: usize) -> Vec<Value> {
        let look = async || {
            let page = self.get("/dead-letters").await;
            page["letters"].as_array().unwrap().len() == count
        };
        until("the dead letters", look).await;
        self.get("/dead-letters").await["letters"].as_array().unwrap().clone()
    }

    pub(super) async fn metric(&self, line: &str) -> bool {
        let metrics = self.get("/metrics").await;
        metrics.as_str().unwrap().lines().any(|found| found == line)
    }

    pub(super) async fn stop(self) -> Result<Summary, RunError> {
        self.stop.cancel();
        within("the end of the gateway", self.running).await.unwrap()
    }
}

/// An address that nobody listens on.
pub(super) async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Looks again and again until it is so.
pub(super) async fn until(what: &str, look: impl AsyncFn() -> bool) {
    let waiting = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, waiting).await;
}
