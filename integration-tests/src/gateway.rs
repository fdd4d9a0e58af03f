use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    End, Process, directory, free_port,
    guard::write,
    wait::{PATIENCE, until},
};

/// The program under test, with a configuration and a data directory of its own.
#[derive(Debug)]
pub struct Transload {
    directory: PathBuf,
    admin: u16,
    process: Option<Process>,
}

impl Transload {
    /// Starts the gateway and waits until it serves. `[gateway]` is written by the fixture;
    /// `adapters_and_routes` is the rest of the file.
    pub async fn start(adapters_and_routes: &str) -> Self {
        let mut gateway = Self::new(adapters_and_routes);
        gateway.run().await;
        gateway
    }

    /// A gateway that does not run yet.
    pub fn new(adapters_and_routes: &str) -> Self {
        let admin = free_port();
        let gateway = Self { directory: directory("gateway"), admin, process: None };
        gateway.configure(adapters_and_routes);
        gateway
    }

    /// A gateway with a whole file of its own, which names this port for its admin address and no
    /// absolute data directory.
    pub async fn start_file(text: &str, admin: u16) -> Self {
        let mut gateway = Self { directory: directory("gateway"), admin, process: None };
        write(&gateway.config(), text);
        gateway.run().await;
        gateway
    }

    /// Writes a configuration with the data directory of another gateway.
    pub fn configure_as(&self, other: &Self, adapters_and_routes: &str) {
        let text = format!(
            "[gateway]\ndata_dir = \"{}\"\n\n{adapters_and_routes}",
            other.data_dir().display()
        );
        write(&self.config(), &text);
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&self, adapters_and_routes: &str) {
        let text = format!(
            "[gateway]\ndata_dir = \"{}\"\nadmin = \"127.0.0.1:{}\"\n\n{adapters_and_routes}",
            self.data_dir().display(),
            self.admin
        );
        write(&self.config(), &text);
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("adapters.toml")
    }

    /// Where queues and sessions are.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Starts the gateway on the data of before, and waits until it serves.
    pub async fn run(&mut self) {
        assert!(self.process.is_none(), "the gateway runs already");
        let mut command = transload(&["run", "--config", &self.config().display().to_string()]);
        command.current_dir(&self.directory);
        let mut process = Process::start("transload", &mut command, &self.directory, BUILD);
        let admin = self.admin;
        until("the gateway to serve", || {
            process.must_run();
            async move { (get(admin, "/healthz").await?.0 == 200).then_some(()) }
        })
        .await;
        self.process = Some(process);
    }

    /// Asks the admin address: status and body.
    pub async fn admin(&self, path: &str) -> Option<(u16, String)> {
        get(self.admin, path).await
    }

    /// Waits until `/readyz` says yes.
    pub async fn until_ready(&self) {
        until("the gateway to be ready", || async {
            (self.admin("/readyz").await?.0 == 200).then_some(())
        })
        .await;
    }

    /// What `/readyz` says about an adapter: `starting`, `up`, `down` or `stopped`.
    pub async fn adapter_state(&self, adapter: &str) -> Option<String> {
        let (_, body) = self.admin("/readyz").await?;
        let body: Value = serde_json::from_str(&body).ok()?;
        Some(body.get("adapters")?.get(adapter)?.get("state")?.as_str()?.to_owned())
    }

    /// Waits until an adapter is connected or listens.
    pub async fn until_up(&self, adapter: &str) {
        self.until_state(adapter, "up").await;
    }

    /// Waits until an adapter is in this state.
    pub async fn until_state(&self, adapter: &str, state: &str) {
        until(format!("adapter {adapter} to be {state}"), || async {
            (self.adapter_state(adapter).await? == state).then_some(())
        })
        .await;
    }

    /// The value of a metric, summed over its labels; `None` when there is none of the name.
    pub async fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (_, text) = self.admin("/metrics").await?;
        let values = text.lines().filter_map(|line| {
            let (metric, value) = line.rsplit_once(' ')?;
            let (found, found_labels) = metric.split_once('{').unwrap_or((metric, ""));
            (found == name && found_labels.contains(labels)).then(|| value.parse::<f64>().ok())?
        });
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Kills the gateway, as a power failure would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks the gateway to stop, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the gateway runs");
        process.signal(End::Terminate);
        process.wait(PATIENCE).await
    }

    /// Waits until the gateway has ended after a signal.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.take().expect("the gateway runs").wait(PATIENCE).await
    }

    /// The process, to freeze it or to look at it.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the gateway runs")
    }

    /// What the gateway has printed: its table and its log.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        read("transload.out") + &read("transload.err")
    }

    /// Waits until the log says this.
    pub async fn until_logged(&self, text: &str) {
        until(format!("the log to say {text:?}"), || {
            let said = self.log().contains(text);
            async move { said.then_some(()) }
        })
        .await;
    }
}

const BUILD: &str = "cargo build -p transload-cli";

/// A call of the binary, which must have been built from the sources as they are now.
pub fn transload(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub async fn transload_to_end(arguments: &[&str]) -> (i32, String, String) {
    let directory = directory("transload");
    let mut command = transload(arguments);
    let mut process =
        Process::start("transload", command.current_dir(&directory), &directory, BUILD);
    let status = process.wait(PATIENCE).await;
    (status.code().unwrap_or(-1), process.output(), process.errors())
}

/// The binary of the same profile as this test.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let directory = test.parent().expect("a program is in a directory");
    let nested = directory.ends_with("deps") || directory.ends_with("examples");
    let profile = directory.parent().filter(|_| nested).unwrap_or(directory);
    let binary = profile.join("transload");
    let release = if profile.ends_with("release") { " --release" } else { "" };
    if let Err(fault) = is_current(&binary) {
        panic!(
            "{fault}.\n  run:  {BUILD}{release}\n  or everything:  integration-tests/run-tests.sh"
        );
    }
    binary
}

/// Cargo lists beside the binary what it was made from.
fn is_current(binary: &Path) -> Result<(), String> {
    let modified = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let Some(built) = modified(binary) else {
        return Err(format!("the binary under test is missing: {}", binary.display()));
    };
    let sources = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let main = workspace.join("crates/cli/src/main.rs");
    if !sources.contains(&main.display().to_string()) {
        return Err(format!("{} was not built from {}", binary.display(), main.display()));
    }
    // Spaces in a path are written as «\ », and are not expected in a checkout of this project.
    for source in sources.split_whitespace().map(Path::new) {
        if modified(source).is_none_or(|changed| changed > built) {
            return Err(format!("{} is older than {}", binary.display(), source.display()));
        }
    }
    Ok(())
}

/// A GET without a client library: status and body.
async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    timeout(Duration::from_secs(5), exchange).await.ok().flatten()
}
