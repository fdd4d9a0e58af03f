//! Nothing that is secret is told to anybody: a gateway that is full of secrets is made to log, to
//! fail and to show itself, and what it said is searched.

use std::{fmt::Write as _, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::net::TcpStream;
use transload_integration_tests::{
    End, HttpSink, Message, Mosquitto, Nats, Outcome, Process, Python, RabbitMq, curl, directory,
    free_port, transload,
    wait::{PATIENCE, until},
};

use crate::support::route;

/// What every secret of the test begins with.
const MARK: &str = "zq9secret";
const ADMIN_TOKEN: &str = "zq9secret-of-the-admin";

/// A signing secret is base64, and is searched for as it is written.
fn signing(name: &str) -> String {
    format!("whsec_{}", STANDARD.encode(format!("{MARK}-{name}")))
}

/// Everything that a test run has said, by where it was said.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// No secret is in any of it, in none of the forms that a secret comes in.
    fn holds_no_secret(&self) {
        // Three bytes are four characters of base64, so the marker has three forms, of which those
        // characters count that depend on nothing else.
        let packed = |before: &str| STANDARD.encode(format!("{before}{MARK}"));
        let packed = [packed(""), packed("x")[4..12].to_owned(), packed("xx")[4..12].to_owned()];
        let mut found = Vec::new();
        for (place, text) in &self.0 {
            for line in text.lines() {
                if line.contains(MARK) || packed.iter().any(|form| line.contains(form.as_str())) {
                    found.push(format!("{place}: {line}"));
                }
            }
        }
        assert!(found.is_empty(), "secrets are told:\n{}", found.join("\n"));
        let bytes: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes > 10_000, "there is something to search");
    }
}

/// Name, kind and settings.
type Adapter = (&'static str, &'static str, String);

/// The brokers that let the gateway in, and those that do not.
struct Site {
    folder: PathBuf,
    admin: u16,
    web: u16,
    devices: u16,
    nobody: u16,
    nats: Nats,
    mosquitto: Mosquitto,
    sink: HttpSink,
    rabbitmq_port: u16,
}

impl Site {
    async fn open() -> Self {
        let folder = directory("secrets");
        let file = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        file("password", &format!("{MARK}-file\n"));
        file("users", "");
        Self {
            admin: free_port(),
            web: free_port(),
            devices: free_port(),
            nobody: free_port(),
            nats: Nats::start().await,
            mosquitto: Mosquitto::start().await,
            sink: HttpSink::start().await,
            rabbitmq_port: RabbitMq::shared().await.port(),
            folder,
        }
    }

    fn configuration(&self) -> String {
        let adapters = [self.listeners(), self.amqp(), self.mqtt(), self.nats(), self.http()];
        let mut text = format!(
            "[gateway]\ndata_dir = \"{0}/data\"\nadmin = \"127.0.0.1:{1}\"\n\
             admin_token = \"{ADMIN_TOKEN}\"\n\n",
            self.folder.display(),
            self.admin
        );
        for (name, kind, settings) in adapters.into_iter().flatten() {
            let _ = write!(text, "[adapters.{name}]\nkind = \"{kind}\"\n{settings}\n");
            if !matches!(name, "web" | "devices") {
                let exchange = if kind == "amqp" { ", exchange = \"amq.topic\"" } else { "" };
                let to = format!("{{ adapter = \"{name}\"{exchange} }}");
                text += &route(&format!("to {name}"), "web", "out/#", &to, "");
            }
        }
        text
    }

    fn listeners(&self) -> Vec<Adapter> {
        let web = format!(
            "listen = \"127.0.0.1:{}\"\n\
             auth.basic = [{{ username = \"ann\", password = \"{MARK}-basic\" }}]\n\
             auth.bearer = [{{ name = \"ci\", token = \"{MARK}-bearer\" }}]\n\
             path = [{{ match = \"hooks/#\", verify = {{ scheme = \"github\", \
             secrets = [\"{MARK}-hook\", \"{MARK}-hook-2\"] }} }}, {{ match = \"standard/#\", \
             verify = {{ scheme = \"standard-webhooks\", secret = \"{}\" }} }}]",
            self.web,
            signing("hook")
        );
        let devices = format!(
            "listen = \"127.0.0.1:{}\"\nusers_file = \"{}/users\"",
            self.devices,
            self.folder.display()
        );
        vec![("web", "http", web), ("devices", "mqtt", devices)]
    }

    fn amqp(&self) -> Vec<Adapter> {
        let Self { rabbitmq_port, nobody, .. } = self;
        let refused =
            format!("url = \"amqp://guest:{MARK}-amqp-url@127.0.0.1:{rabbitmq_port}/%2f\"");
        let away = format!(
            "url = [\"amqp://guest:{MARK}-amqp-away@127.0.0.1:{nobody}\"]\n\
             username = \"bob\"\npassword = \"{MARK}-amqp\""
        );
        let file = format!(
            "url = \"amqp://127.0.0.1:{rabbitmq_port}\"\nusername = \"bob\"\n\
             password_file = \"{}/password\"",
            self.folder.display()
        );
        vec![("amqp-refused", "amqp", refused), ("amqp-away", "amqp", away), ("amqp", "amqp", file)]
    }

    fn mqtt(&self) -> Vec<Adapter> {
        let Self { nobody, devices, .. } = self;
        let port = self.mosquitto.port();
        let login = |port: u16, name: &str| {
            format!(
                "url = \"mqtt://127.0.0.1:{port}\"\nusername = \"bob\"\n\
                 password = \"{MARK}-{name}\""
            )
        };
        let old = format!("url = \"mqtt://bob:{MARK}-old@127.0.0.1:{port}\"\nversion = \"3.1.1\"");
        let away = format!("url = \"ws://bob:{MARK}-away@127.0.0.1:{nobody}/mqtt\"");
        vec![
            ("mqtt", "mqtt", login(port, "mqtt")),
            ("mqtt-refused", "mqtt", login(*devices, "refused")),
            ("mqtt-old", "mqtt", old),
            ("mqtt-away", "mqtt", away),
        ]
    }

    fn nats(&self) -> Vec<Adapter> {
        let (port, nobody) = (self.nats.port(), self.nobody);
        let token = format!("url = \"nats://127.0.0.1:{port}\"\ntoken = \"{MARK}-nats\"");
        let away = format!(
            "url = [\"nats://bob:{MARK}-away@127.0.0.1:{nobody}\", \
             \"nats://bob:{MARK}-url@127.0.0.1:{port}\"]"
        );
        vec![("nats", "nats", token), ("nats-away", "nats", away)]
    }

    fn http(&self) -> Vec<Adapter> {
        let Self { nobody, web, .. } = self;
        let sink = self.sink.url();
        let bearer = format!(
            "url = \"{sink}?key={MARK}-query\"\nbearer_token = \"{MARK}-out\"\n\
             headers = {{ x-api-key = \"{MARK}-header\" }}\nsign = {{ secret = \"{}\" }}",
            signing("sign")
        );
        let away = format!(
            "url = \"http://127.0.0.1:{nobody}/?key={MARK}-query\"\nusername = \"ann\"\n\
             password = \"{MARK}-basic-out\""
        );
        let oauth2 = format!(
            "url = \"{sink}\"\n[adapters.target-token.oauth2]\n\
             token_url = \"http://127.0.0.1:{web}/token?code={MARK}-code\"\n\
             client_id = \"gateway\"\nclient_secret = \"{MARK}-oauth2\"\n\
             parameters = {{ assertion = \"${{FROM_ENVIRONMENT}}\", code = \"{MARK}-code\" }}"
        );
        vec![
            ("target", "http", bearer),
            ("target-away", "http", away),
            ("target-token", "http", oauth2),
        ]
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs the binary with a secret in its environment.
    fn start(&self, name: &str, arguments: &[&str]) -> Process {
        let mut command = transload(arguments);
        command.current_dir(&self.folder).env("FROM_ENVIRONMENT", format!("{MARK}-environment"));
        Process::start(name, &mut command, &self.folder, "cargo build -p transload-cli")
    }

    async fn run_to_end(&self, name: &str, arguments: &[&str]) -> (i32, String) {
        let mut process = self.start(name, arguments);
        let status = process.wait(PATIENCE).await;
        (status.code().unwrap_or(-1), process.output() + &process.errors())
    }

    async fn admin(&self, method: &str, path: &str, token: &str) -> curl::Answer {
        let url = format!("http://127.0.0.1:{}{path}", self.admin);
        let token = format!("Authorization: Bearer {token}");
        curl::request(method, &url, &[&token, "Content-Type: application/json"], b"{}").await
    }

    /// Fails to log in everywhere, with secrets that are wrong and so somebody's other ones.
    async fn fail_to_log_in(&self) {
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", self.web);
        let wrong = format!("Authorization: Bearer {MARK}-wrong");
        let basic = format!("Authorization: Basic {}", STANDARD.encode(format!("ann:{MARK}-no")));
        let token = format!("X-Gitlab-Token: {MARK}-wrong");
        for header in [&wrong, &basic, &token] {
            for path in ["/out/a", "/hooks/a", "/standard/a"] {
                let path = format!("{path}?access_token={MARK}-in-query");
                let answer = curl::post(&url(&path), &[header], b"x").await;
                assert_eq!(answer.status, 401, "{path} with {header}: {answer:?}");
            }
        }
        assert_eq!(self.admin("GET", "/config", &format!("{MARK}-wrong")).await.status, 401);
        let device = Python::mqtt(&format!("127.0.0.1:{}", self.devices));
        let arguments = ["--username", "ann", "--password", &format!("{MARK}-wrong")];
        let outcomes = device.try_publish(&arguments, &[Message::new("out/a", "x")]).await;
        assert!(!outcomes.iter().any(Outcome::ok), "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_running_gateway_tells_no_secret_to_anybody() {
    let site = Site::open().await;
    let config = site.write("adapters.toml", &site.configuration());
    let mut said = Said::default();
    for form in [&["check"][..], &["check", "--format", "json"]] {
        let arguments = [form, &["--config", &config]].concat();
        let (code, text) = site.run_to_end("check", &arguments).await;
        assert_eq!(code, 0, "{form:?}: {text}");
        said.add(form.join(" "), text);
    }

    let arguments = ["run", "--config", &config, "--log-level", "debug"];
    let mut gateway = site.start("gateway", &arguments);
    until("the gateway to serve", || {
        gateway.must_run();
        async { TcpStream::connect(("127.0.0.1", site.admin)).await.ok() }
    })
    .await;
    until("the gateway to be ready", || async {
        (site.admin("GET", "/readyz", ADMIN_TOKEN).await.status == 200).then_some(())
    })
    .await;
    site.fail_to_log_in().await;
    let bearer = format!("Authorization: Bearer {MARK}-bearer");
    let out = format!("http://127.0.0.1:{}/out/a", site.web);
    assert_eq!(curl::post(&out, &[&bearer], b"a message").await.status, 202);
    // Until those that can be reached have the message, and those that cannot have failed twice.
    for (what, told) in [
        ("AMQP", "ACCESS_REFUSED"),
        ("the authorization server", "There is no token"),
        ("NATS", "nats"),
    ] {
        until(format!("{what} to be told of"), || async {
            gateway.errors().contains(told).then_some(())
        })
        .await;
    }
    until("the target to have the message", || async {
        let text = site.admin("GET", "/metrics", ADMIN_TOKEN).await.body;
        let delivered = |line: &&str| {
            line.starts_with("transload_messages_finished_total")
                && line.contains("outcome=\"delivered\"")
                && !line.ends_with(" 0")
        };
        (text.lines().filter(delivered).count() >= 4).then_some(())
    })
    .await;

    // A configuration with a fault is told, and not what it holds.
    let broken = site.configuration().replace("exchange = ", "exchagne = ");
    site.write("adapters.toml", &broken);
    said.add("/reload", site.admin("POST", "/reload", ADMIN_TOKEN).await.body);
    for path in [
        "/config",
        "/metrics",
        "/queues",
        "/adapters",
        "/readyz",
        "/healthz",
        "/dead-letters",
        "/explain?address=out/a&adapter=web",
        "/nowhere",
    ] {
        let answer = site.admin("GET", path, ADMIN_TOKEN).await;
        said.add(path, answer.head + &answer.body);
    }
    let command = ["queues", "list", "--config", &config];
    said.add("queues", site.run_to_end("queues", &command).await.1);
    gateway.signal(End::Terminate);
    gateway.wait(PATIENCE).await;
    said.add("stdout", gateway.output());
    said.add("stderr", gateway.errors());
    said.holds_no_secret();
}

/// Each of these holds a secret, and a fault near it or in it.
fn faults() -> Vec<String> {
    let adapter = |kind: &str, rest: &str| format!("[adapters.a]\nkind = \"{kind}\"\n{rest}\n");
    vec![
        adapter("amqp", &format!("url = \"amqp://guest:{MARK}@host:notaport\"")),
        adapter("amqp", &format!("url = \"http://guest:{MARK}@host\"")),
        adapter("amqp", &format!("url = \"guest:{MARK}@host\"")),
        adapter("amqp", &format!("url = \"amqp://h\"\npasword = \"{MARK}\"")),
        adapter("amqp", &format!("url = \"amqp://h\"\npassword = [\"{MARK}\"]")),
        adapter("amqp", &format!("url = \"amqp://h\"\npassword = \"{MARK}\nusername = \"x\"")),
        adapter("amqp", &format!("url = \"amqp://h\"\npassword = {MARK}")),
        adapter("amqp", &format!("url = \"amqp://h\"\npassword = \"{MARK}\"\npassword = \"{MARK}\"")),
        adapter("mqtt", &format!("url = \"mqtt://bob:{MARK}@ho st\"")),
        adapter("mqtt", &format!("url = \"tcp://bob:{MARK}@host\"")),
        adapter("mqtt", &format!("url = \"mqtt://h\"\npassword = \"{MARK}\"")),
        adapter("mqtt", &format!("url = \"mqtt://bob:{MARK}@h\" \"x\"")),
        adapter("nats", &format!("url = [\"bob:{MARK}@ho st\"]")),
        adapter("nats", &format!("url = \"nats://bob:{MARK}@host:x\"")),
        adapter("nats", &format!("url = [\"nats://h\", 5]\ntoken = \"{MARK}\"\nusername = \"b\"")),
        adapter("nats", &format!("url = \"nats://h\"\ntoken = \"{MARK}\" \"{MARK}\"")),
        adapter("http", &format!("url = \"https://u:{MARK}@h\"")),
        adapter("http", &format!("url = \"https://h\"\nbearer_token = \"a\\n{MARK}\"\nusername = \"u\"")),
        adapter("http", &format!("url = \"https://h\"\nheaders = {{ \"x y\" = \"{MARK}\" }}")),
        adapter("http", &format!("url = \"https://h\"\nheaders = {{ x = \"{MARK}\\n\" }}")),
        adapter("http", &format!("url = \"https://h\"\nsign = {{ secret = \"{MARK}\" }}")),
        adapter("http", &format!("url = \"https://h\"\nsign = \"{MARK}\"")),
        adapter("http", &format!(
            "url = \"https://h\"\noauth2 = {{ token_url = \"https://u:{MARK}@h\", client_id = \"c\", client_secret = \"{MARK}\", scope = \"x\" }}"
        )),
        adapter("http", &format!("listen = \"127.0.0.1:1\"\nauth.bearer = [\"{MARK}\"]")),
        adapter("http", &format!("listen = \"127.0.0.1:1\"\nauth.bearer = [{{ name = \"a\", tokn = \"{MARK}\" }}]")),
        adapter("http", &format!(
            "listen = \"127.0.0.1:1\"\npath = [{{ match = \"a\", verify = {{ scheme = \"{MARK}\", secret = \"{MARK}\" }} }}]"
        ).replacen(MARK, "unknown", 1)),
        adapter("http", "listen = \"${FROM_ENVIRONMENT}\""),
        adapter("amqp", "url = \"amqp://h\"\nprefetch = \"${FROM_ENVIRONMENT}\""),
        adapter("amqp", "url = \"amqp://h\"\naddress_mapping = \"${FROM_ENVIRONMENT}\""),
        adapter("${FROM_ENVIRONMENT}", "url = \"amqp://h\""),
        format!("[gateway]\nadmin = \"127.0.0.1:1\"\nadmin_tokn = \"{MARK}\"\n"),
        format!("[gateway]\nadmin_token = \"{MARK}\nadmin = 6\n"),
        adapter("amqp", &format!("url = \"amqp://h\"\nprefetch = \"x\" # was {MARK}")),
        adapter("amqp", &format!("url = \"amqp://h\" \"x\" # it was {MARK}")),
        adapter("amqp", &format!("url = \"amqp://h # it was {MARK}")),
        adapter("amqp", &format!("url = \"amqp://h\" x\" # it was \"{MARK}\"")),
        adapter("mqtt", &format!("url = \"mqtt://h\"\nprefetchh = 1 # {MARK}")),
        adapter("${ABSENT}", &format!("#{MARK}\nurl = [ # {MARK}\n")),
    ]
}

#[tokio::test]
async fn a_configuration_with_faults_is_told_without_its_secrets() {
    let site = Site::open().await;
    let mut said = Said::default();
    for (number, text) in faults().into_iter().enumerate() {
        let config = site.write(&format!("fault-{number}.toml"), &text);
        let commands = [&["check"][..], &["check", "--format", "json"], &["run"]];
        for (way, command) in commands.into_iter().enumerate() {
            let arguments = [command, &["--config", &config, "--log-level", "debug"]].concat();
            let name = format!("fault-{number}-{way}");
            let mut process = site.start(&name, &arguments);
            let status = process.wait(PATIENCE).await;
            assert_ne!(status.code(), Some(0), "there is a fault in\n{text}");
            let told = process.output() + &process.errors();
            assert!(told.contains("error"), "{told}");
            said.add(format!("{command:?} of\n{text}"), told);
        }
    }
    said.holds_no_secret();
}
