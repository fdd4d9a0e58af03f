use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    End, Process, Python, ServerTls, directory, free_port,
    guard::write,
    wait::{START_PATIENCE, until_open},
};

const INSTALL: &str = "apt-get install --no-install-recommends mosquitto mosquitto-clients";

/// A mosquitto of its own, on 127.0.0.1: the foreign MQTT broker.
///
/// It keeps sessions and retained messages over a [`Mosquitto::stop`], not over a kill.
#[derive(Debug)]
pub struct Mosquitto {
    directory: PathBuf,
    port: u16,
    tls: Option<ServerTls>,
    server: Option<Process>,
}

impl Mosquitto {
    /// Starts a broker.
    pub async fn start() -> Self {
        let mut broker = Self::absent();
        broker.appear().await;
        broker
    }

    /// A broker that is not there yet, whose port is known.
    pub fn absent() -> Self {
        Self { directory: directory("mosquitto"), port: free_port(), tls: None, server: None }
    }

    /// Lets in only clients with a certificate, whose common name is their user, from the next start.
    pub fn require_certificates(&mut self, tls: ServerTls) {
        self.tls = Some(tls);
    }

    /// Starts the broker, with the sessions of before if it was there before.
    pub async fn appear(&mut self) {
        let configuration = self.directory.join("mosquitto.conf");
        // Without `user root`, a broker that root starts changes to a user who may not write here.
        let tls = self.tls.as_ref().map_or(String::new(), |tls| {
            format!(
                "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
                 use_identity_as_username true\n",
                tls.ca, tls.certificate, tls.key
            )
        });
        write(
            &configuration,
            &format!(
                "listener {} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
                 persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 0\n\
                 log_type all\n{tls}",
                self.port,
                self.directory.display()
            ),
        );
        let program = if PathBuf::from("/usr/sbin/mosquitto").is_file() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration).stdin(Stdio::null());
        let mut server = Process::start("mosquitto", &mut command, &self.directory, INSTALL);
        until_open(START_PATIENCE, self.port, || server.must_run()).await;
        self.server = Some(server);
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients connect: host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Ends the broker as an administrator would.
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
        Python::new("mqtt", &self.address())
    }

    /// Everything that the broker has logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(|server| server.output() + &server.errors()).unwrap_or_default()
    }
}
