//! `transload dead-letters` and `transload queues`, as people run them: against a gateway that runs
//! and against the files of one that was stopped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A data directory, a rules file, and a target that answers with a status of the test's choice.
struct Site {
    folder: TempDir,
    web: SocketAddr,
    admin: SocketAddr,
    target: SocketAddr,
    status: Arc<AtomicU16>,
    received: Arc<std::sync::Mutex<Vec<String>>>,
}

/// A gateway that is killed when the test is over.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Looks again and again until there is something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        #[expect(clippy::disallowed_methods, reason = "nothing is asynchronous here")]
        thread::sleep(Duration::from_millis(20));
    }
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            web: free_address(),
            admin: free_address(),
            target: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(200)),
            received: Arc::default(),
        };
        let (status, received) = (Arc::clone(&site.status), Arc::clone(&site.received));
        // It ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&stream, status.load(Ordering::SeqCst), &received);
            }
        });
        site.write_rules("orders");
        site
    }

    fn rules(&self) -> PathBuf {
        self.folder.path().join("adapters.toml")
    }

    fn write_rules(&self, route: &str) {
        let text = format!(
            "[gateway]\ndata_dir = \"{}\"\nadmin = \"{}\"\ndrain_timeout = \"300ms\"\n\
             [adapters.web]\nkind = \"http\"\nlisten = \"{}\"\n\
             [adapters.sink]\nkind = \"http\"\nurl = \"http://{}\"\n\
             [[route]]\nname = \"{route}\"\nfrom = \"web\"\nmatch = \"hooks/#\"\nto = \"sink\"\n",
            self.folder.path().join("data").display(),
            self.admin,
            self.web,
            self.target,
        );
        fs::write(self.rules(), text).unwrap();
    }

    /// Starts a gateway and waits until it takes messages.
    fn start(&self) -> Gateway {
        let child = command(&self.rules()).arg("run").spawn().unwrap();
        let gateway = Gateway(child);
        until("the gateway", || {
            let ready = http(self.admin, "GET", "/readyz", "")?;
            ready.starts_with("HTTP/1.1 200").then_some(())
        });
        gateway
    }

    /// Stops it in good order.
    fn stop(mut gateway: Gateway) {
        let id = gateway.0.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        assert!(gateway.0.wait().unwrap().success());
    }

    fn post(&self, text: &str) {
        let answer = http(self.web, "POST", "/hooks/a", text).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    fn transload(&self, arguments: &[&str]) -> Output {
        command(&self.rules()).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The JSON that a command prints.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.transload(&[arguments, &["--format", "json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {errors}"))
    }

    fn until_letters(&self, count: usize) -> Vec<Value> {
        until("dead letters", || {
            let listed = self.json(&["dead-letters", "list"]);
            let letters = listed["letters"].as_array().unwrap().clone();
            (letters.len() == count).then_some(letters)
        })
    }

    fn until_received(&self, texts: &[&str]) {
        until("what the target receives", || {
            // The requests of one batch may overtake each other.
            let mut received = self.received.lock().unwrap().clone();
            received.sort();
            (received == texts).then_some(())
        });
    }
}

fn command(rules: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transload"));
    command.arg("--config").arg(rules).args(["--log-level", "warn"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends one request; nothing when nobody answers.
fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Reads one request and answers it.
fn answer(stream: &TcpStream, status: u16, received: &std::sync::Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim().to_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    if status == 200 {
        received.lock().unwrap().push(String::from_utf8(body).unwrap());
    }
    let mut stream = stream;
    // A client that has gone away does not matter here.
    let _ = write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn dead_letters_of_a_running_gateway() {
    let site = Site::new();
    site.status.store(400, Ordering::SeqCst);
    let gateway = site.start();
    site.post("one");
    site.post("two");
    let letters = site.until_letters(2);
    let position = letters[0]["position"].to_string();

    let listed = site.transload(&["dead-letters", "list", "--reason", "400"]);
    assert!(listed.status.success());
    assert!(text(&listed.stderr).contains("The gateway runs"), "{}", text(&listed.stderr));
    assert_eq!(text(&listed.stdout).lines().count(), 3, "{}", text(&listed.stdout));
    let none = site.transload(&["dead-letters", "list", "--address", "other/#"]);
    assert_eq!(text(&none.stdout), "");
    let shown = site.transload(&["dead-letters", "show", "orders", &position]);
    assert!(text(&shown.stdout).ends_with("\none\n"), "{}", text(&shown.stdout));

    let unfiltered = site.transload(&["dead-letters", "replay"]);
    assert_eq!(unfiltered.status.code(), Some(5));
    assert!(text(&unfiltered.stderr).contains("--all"));
    site.status.store(200, Ordering::SeqCst);
    let sent = site.json(&["dead-letters", "replay", "--route", "orders", "--limit", "1"]);
    assert_eq!(sent, json!({ "replayed": 1, "under_way": 0, "left": [] }));
    site.until_received(&["one"]);

    let unconfirmed = site.transload(&["dead-letters", "drop", "--all"]);
    assert_eq!(unconfirmed.status.code(), Some(5));
    assert!(text(&unconfirmed.stderr).contains("--yes"));
    site.until_letters(1);
    let dropped = site.transload(&["dead-letters", "drop", "--all", "--yes"]);
    assert_eq!(
        (dropped.status.code(), &*text(&dropped.stdout)),
        (Some(0), "1 dead letter dropped.\n")
    );
    site.until_letters(0);
    Site::stop(gateway);
}

#[test]
fn dead_letters_of_a_stopped_gateway() {
    let site = Site::new();
    let missing = site.transload(&["dead-letters", "list"]);
    assert_eq!(missing.status.code(), Some(5));
    assert!(text(&missing.stderr).contains("no data directory"), "{}", text(&missing.stderr));

    site.status.store(400, Ordering::SeqCst);
    let gateway = site.start();
    site.post("one");
    site.until_letters(1);
    Site::stop(gateway);

    let listed = site.transload(&["dead-letters", "list"]);
    assert!(text(&listed.stderr).contains("is stopped"), "{}", text(&listed.stderr));
    let sent = site.transload(&["dead-letters", "replay", "--all"]);
    assert_eq!(
        (sent.status.code(), &*text(&sent.stdout)),
        (Some(0), "1 dead letter sent again.\n")
    );
    let queues = site.json(&["queues", "list"]);
    let waiting = queues["queues"].as_array().unwrap().iter().find(|queue| queue["messages"] == 1);
    assert_eq!(waiting.unwrap()["name"], "orders/sink");

    site.status.store(200, Ordering::SeqCst);
    let gateway = site.start();
    site.until_received(&["one"]);
    site.until_letters(0);
    Site::stop(gateway);
}

#[test]
fn queues_of_a_renamed_route() {
    let site = Site::new();
    site.status.store(503, Ordering::SeqCst);
    let gateway = site.start();
    site.post("one");
    site.post("two");
    Site::stop(gateway);

    site.write_rules("renamed");
    let listed = site.transload(&["queues", "list"]);
    let listed = text(&listed.stdout);
    let orphan = listed.lines().find(|line| line.starts_with("orders/sink")).unwrap();
    assert!(orphan.ends_with("belongs to nothing"), "{listed}");
    let used = site.transload(&["queues", "drop", "renamed/sink", "--yes"]);
    assert_eq!(used.status.code(), Some(5), "{}", text(&used.stderr));
    let moved = site.json(&["queues", "move", "orders/sink", "renamed/sink"]);
    assert_eq!(moved, json!({ "moved": 2, "left": [] }));

    site.status.store(200, Ordering::SeqCst);
    let gateway = site.start();
    site.until_received(&["one", "two"]);
    let gone = site.transload(&["queues", "drop", "orders/sink", "--yes"]);
    assert!(text(&gone.stderr).contains("no queue"), "{}", text(&gone.stderr));
    Site::stop(gateway);
}

/// Reads what the service manager is told, and gives the rest of the test a token, other rules and a
/// look at the files.
#[test]
fn a_running_gateway_reads_its_file_anew() {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixDatagram};

    let site = Site::new();
    let path = |name: &str| site.folder.path().join(name);
    fs::write(path("token"), "a-token-of-this-test-only\n").unwrap();
    let with_token = |route: &str| {
        site.write_rules(route);
        let rules = fs::read_to_string(site.rules()).unwrap();
        let keys = "[gateway]\nreload_on_change = false\nadmin_token_file = \"token\"";
        fs::write(site.rules(), rules.replacen("[gateway]", keys, 1)).unwrap();
    };
    with_token("orders");
    let manager = UnixDatagram::bind(path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut state = [0; 128];
        let length = manager.recv(&mut state).unwrap();
        text(&state[..length])
    };
    let mut run = command(&site.rules());
    let gateway = Gateway(run.arg("run").env("NOTIFY_SOCKET", path("notify")).spawn().unwrap());
    assert!(told().starts_with("READY=1"));
    site.post("one");
    site.until_received(&["one"]);
    let answer = http(site.admin, "GET", "/queues", "").unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let names = || site.json(&["queues", "list"])["queues"].to_string();
    assert!(names().contains("orders/sink"), "{}", names());

    with_token("others");
    let reload = site.transload(&["reload"]);
    assert_eq!(reload.status.code(), Some(0), "{}", text(&reload.stderr));
    assert!(text(&reload.stdout).contains("connections kept: web, sink"));
    assert!(names().contains("others/sink"), "{}", names());
    with_token("more");
    let hangup = ["-HUP".to_owned(), gateway.0.id().to_string()];
    assert!(Command::new("kill").args(&hangup).status().unwrap().success());
    until("the rules after the signal", || names().contains("more/sink").then_some(()));
    site.post("two");
    site.until_received(&["one", "two"]);

    for entry in fs::read_dir(path("data")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", entry.path());
    }
    Site::stop(gateway);
    assert!(told().starts_with("STOPPING=1"));
    let reload = site.transload(&["reload"]);
    assert!(text(&reload.stderr).contains("no gateway runs"), "{}", text(&reload.stderr));
}
