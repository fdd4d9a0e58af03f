//! The gateway as a whole, between scripted peers.

mod circles;
mod conditions;
mod flow;
mod lanes;
mod letters;
mod limits;
mod orphans;
mod peer;
mod reloading;
mod repeats;
mod requests;
mod requests_reloaded;
mod rules;
mod shaping;
mod stopping;
mod trouble;
mod unsettled;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use transload_adapter::{
    Registry,
    testing::{Fake, Script, within},
};

use crate::{
    RunError, Summary,
    config::{Configuration, load_text},
    run,
};

/// A gateway between two scripted peers: `source` and `target`.
struct Between {
    source: Script,
    target: Script,
    stop: CancellationToken,
    running: JoinHandle<Result<Summary, RunError>>,
    _data: TempDir,
}

fn text(source: &Script, target: &Script, data: &TempDir, rest: &str) -> String {
    format!(
        "[gateway]\ndata_dir = {:?}\ndrain_timeout = \"5s\"\n\
         [adapters.source]\n{}\n[adapters.target]\n{}\n{rest}",
        data.path().join("data"),
        source.settings(),
        target.settings(),
    )
}

/// Reads a configuration with the two peers and these routes.
fn configuration(source: &Script, target: &Script, data: &TempDir, rest: &str) -> Configuration {
    read(&text(source, target, data, rest))
}

fn read(text: &str) -> Configuration {
    let registry = Registry::default().with::<Fake>();
    let loaded = load_text("adapters.toml", text, &|_| None, &registry);
    loaded.configuration.unwrap_or_else(|| panic!("{:#?}\n{text}", loaded.report.findings))
}

impl Between {
    fn start(rest: &str) -> Self {
        Self::with_source("", rest)
    }

    /// The same with more keys of the source.
    #[expect(clippy::disallowed_methods, reason = "the task is joined by `stop`")]
    fn with_source(keys: &str, rest: &str) -> Self {
        let (source, target) = (Script::new(), Script::new());
        let data = tempfile::tempdir().unwrap();
        let text = text(&source, &target, &data, rest);
        let table = "[adapters.source]\n";
        let configuration = read(&text.replacen(table, &format!("{table}{keys}\n"), 1));
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(configuration, stop.clone()));
        Self { source, target, stop, running, _data: data }
    }

    /// The same with one route from `source` to `target` that has these keys.
    fn with_route(keys: &str) -> Self {
        Self::start(&format!(
            "[[route]]\nname = \"all\"\nfrom = \"source\"\nto = {{ adapter = \"target\" }}\n{keys}"
        ))
    }

    async fn stop(self) -> Result<Summary, RunError> {
        self.stop.cancel();
        within("the end of the gateway", self.running).await.unwrap()
    }

    async fn texts(&self, count: usize) -> Vec<String> {
        self.target
            .until_taken(count)
            .await
            .iter()
            .map(transload_adapter::testing::SentMessage::text)
            .collect()
    }
}
