use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
    time::timeout,
};

use crate::{
    End, Process, Python, ServerTls, directory, free_port,
    guard::write,
    wait::{START_PATIENCE, until_within},
};

const INSTALL: &str = "apt-get install --no-install-recommends rabbitmq-server";
const SETTINGS: &str =
    "loopback_users.guest = false\nlog.console = false\nlog.file.level = warning\n";
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// A RabbitMQ server of its own, on 127.0.0.1.
#[derive(Debug)]
pub struct RabbitMq {
    directory: PathBuf,
    port: u16,
    distribution_port: u16,
    epmd_port: u16,
    mqtt_port: Option<u16>,
    // Erlang's name server would otherwise be started in the background and stay there.
    _epmd: Process,
    server: Option<Process>,
}

impl RabbitMq {
    /// The one server that all tests of this process share, since it takes long to start. Tests
    /// keep apart by the names of their exchanges, queues and keys, and must not stop it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A server for a test that stops it.
    pub async fn start() -> Self {
        let mut broker = Self::absent();
        broker.appear().await;
        broker
    }

    /// A server whose own MQTT listener is on.
    pub async fn start_with_mqtt() -> Self {
        let mut broker = Self::absent();
        let port = free_port();
        broker.mqtt_port = Some(port);
        write(&broker.directory.join("enabled_plugins"), "[rabbitmq_mqtt].\n");
        write(
            &broker.directory.join("rabbitmq.conf"),
            &format!(
                "{SETTINGS}mqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n\
                 mqtt.prefetch = 100\n"
            ),
        );
        broker.appear().await;
        broker
    }

    /// A server that has, besides its plain address, one with TLS: there it lets in only clients with
    /// a certificate, whose common name is their user. Also tells the port of that address.
    pub async fn start_with_tls(tls: &ServerTls) -> (Self, u16) {
        let mut broker = Self::absent();
        let port = free_port();
        write(&broker.directory.join("enabled_plugins"), "[rabbitmq_auth_mechanism_ssl].\n");
        write(
            &broker.directory.join("rabbitmq.conf"),
            &format!(
                "{SETTINGS}listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\n\
                 ssl_options.certfile = {}\nssl_options.keyfile = {}\n\
                 ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
                 auth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN\n\
                 ssl_cert_login_from = common_name\n",
                tls.ca, tls.certificate, tls.key
            ),
        );
        broker.appear().await;
        (broker, port)
    }

    /// A server that is not there yet, whose port is known.
    pub fn absent() -> Self {
        let directory = directory("rabbitmq");
        write(&directory.join("enabled_plugins"), "[].\n");
        write(&directory.join("rabbitmq.conf"), SETTINGS);
        let epmd_port = free_port();
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let epmd = Process::start("epmd", &mut epmd, &directory, INSTALL);
        let port = free_port();
        let distribution_port = free_port();
        let (mqtt_port, server) = (None, None);
        Self { directory, port, distribution_port, epmd_port, mqtt_port, _epmd: epmd, server }
    }

    /// Starts the server, with the data of before if it was there before.
    pub async fn appear(&mut self) {
        assert!(
            Path::new(SERVER).is_file(),
            "RabbitMQ is not installed.\n  it is installed by:  {INSTALL}\n  \
             and everything else by:  integration-tests/run-tests.sh"
        );
        let mut command = self.command(SERVER);
        let mut server = Process::start("rabbitmq", &mut command, &self.directory, INSTALL);
        let port = self.port;
        until_within(START_PATIENCE, "RabbitMQ to start", || {
            server.must_run();
            async move { speaks_amqp(port).await.then_some(()) }
        })
        .await;
        self.server = Some(server);
    }

    /// Has what was declared until now written to the disk, so that it outlives a kill.
    ///
    /// The server says that a queue is declared before that is certain: another of its processes
    /// than the one that answers hands the last record of the transaction to the log, which writes
    /// it within two seconds if it comes too late for the write before the answer. Without that
    /// record the transaction counts as aborted, and the queue is gone with all that was confirmed.
    pub async fn keep_declared(&self) {
        let mut command = self.command(CONTROL);
        command.args(["eval", "ok = mnesia_recover:sync(), ok = mnesia:sync_log()."]);
        let mut control = Process::start("rabbitmqctl", &mut command, &self.directory, INSTALL);
        let status = control.wait(START_PATIENCE).await;
        assert!(status.success(), "rabbitmqctl: {status}: {}", control.errors());
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.directory.join(name);
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .env("HOME", &self.directory)
            .env("RABBITMQ_NODENAME", format!("transload{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            // The scripts then replace themselves by the server, which so leads the process group.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            // Idle schedulers would otherwise spin and take the time of what is being tested.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
            );
        command
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of its own MQTT listener, if that is on.
    pub fn mqtt_port(&self) -> Option<u16> {
        self.mqtt_port
    }

    /// The process group, while the server runs.
    pub fn id(&self) -> Option<u32> {
        self.server.as_ref().map(Process::id)
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
        Python::new("amqp", &self.url())
    }
}

/// Whether a server answers the protocol header with a method frame (AMQP 0-9-1, section 2.2.4).
async fn speaks_amqp(port: u16) -> bool {
    let attempt = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await
    };
    matches!(timeout(Duration::from_secs(5), attempt).await, Ok(Ok(1)))
}
