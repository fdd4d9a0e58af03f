//! Everything that takes part in a run: the gateway, its brokers, and the proxies between them.

use std::{fs, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use super::{
    Ledger, Path, Plan, amqp,
    http::{Poster, Sink},
    mqtt::{Device, Subscriber},
    mqtt_wire::Version,
    nats,
    produce::Lane,
    schedule::{Fault, Link, Place},
    settings,
};
use crate::{
    End, Mosquitto, Nats, Process, Proxy, RabbitMq, SmallDisk, Transload, free_port, wait,
};

/// How large the disk is that is filled up.
const DISK_MEBIBYTES: u32 = 256;

/// The processes of a run.
#[derive(Debug)]
pub(super) struct Rig {
    path: Path,
    gateway: Transload,
    rabbitmq: Option<RabbitMq>,
    nats: Option<Nats>,
    mosquitto: Option<Mosquitto>,
    source: Proxy,
    target: Proxy,
    // Where our own listener is, which a target may be too.
    listener: u16,
    sink: Option<Sink>,
    disk: Option<SmallDisk>,
    memory_peak_bytes: u64,
    /// What could not be made ready.
    pub(super) not_run: Option<String>,
}

/// One producer to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer {
    pub(super) messages: u32,
    /// Whether its protocol carries an id from end to end.
    pub(super) carries_id: bool,
}

const MQTT_WINDOW: usize = 50;
const BROKER_WINDOW: usize = 100;
/// How many messages of each producer are looked for where something is lost.
const LOOKED_AT: u32 = 4_000_000;

/// How many producers a path has.
fn lanes(path: Path) -> u32 {
    match path {
        Path::MqttAmqp => 4,
        // One request at a time each, so that their order is defined.
        Path::HttpJetstream => 16,
        Path::AmqpMqtt | Path::AmqpMosquitto | Path::JetstreamHttp => 2,
    }
}

/// Of the devices, the first half speaks 3.1.1, and the other half 5.
fn version(lane: u16) -> Version {
    if lane < 2 { Version::V3 } else { Version::V5 }
}

/// The producers of a plan.
pub(super) fn producers(plan: &Plan) -> Vec<Producer> {
    let count = lanes(plan.path);
    let of_lane = |lane: u32| {
        let messages = plan.messages / count + u32::from(lane < plan.messages % count);
        let carries_id = plan.path != Path::MqttAmqp || lane >= 2;
        Producer { messages, carries_id }
    };
    (0..count).map(of_lane).collect()
}

impl Rig {
    pub(super) async fn start(plan: &Plan) -> Self {
        let path = plan.path;
        let has = |place: Place| path.brokers().contains(&place);
        let rabbitmq = if has(Place::RabbitMq) { Some(RabbitMq::start().await) } else { None };
        let nats = if has(Place::Nats) { Some(Nats::start().await) } else { None };
        let mosquitto = if has(Place::Mosquitto) { Some(Mosquitto::start().await) } else { None };
        let sink = (path == Path::JetstreamHttp)
            .then(|| Sink::bind().expect("a free port can be listened on"));
        let listener = free_port();
        let rabbitmq_port = rabbitmq.as_ref().map_or(0, RabbitMq::port);
        let nats_port = nats.as_ref().map_or(0, Nats::port);
        let (source, target) = match path {
            Path::MqttAmqp => (listener, rabbitmq_port),
            Path::HttpJetstream => (listener, nats_port),
            Path::AmqpMqtt => (rabbitmq_port, listener),
            Path::AmqpMosquitto => (rabbitmq_port, mosquitto.as_ref().map_or(0, port)),
            Path::JetstreamHttp => (nats_port, sink.as_ref().map_or(0, Sink::port)),
        };
        let proxy = |to: u16| Proxy::start(to).expect("a free port can be listened on");
        let mut rig = Self {
            path,
            gateway: Transload::new(""),
            rabbitmq,
            nats,
            mosquitto,
            source: proxy(source),
            target: proxy(target),
            listener,
            sink,
            disk: None,
            memory_peak_bytes: 0,
            not_run: None,
        };
        rig.gateway.configure(&rig.configuration(plan.best_effort));
        if plan.small_disk {
            match SmallDisk::mount(&rig.gateway.data_dir(), DISK_MEBIBYTES) {
                Ok(disk) => rig.disk = Some(disk),
                Err(error) => {
                    let reason = format!("a full disk: no small file system here ({error})");
                    eprintln!("NOT RUN: {reason}");
                    rig.not_run = Some(reason);
                }
            }
        }
        rig.make_queues().await;
        rig.gateway.run().await;
        rig
    }

    async fn make_queues(&self) {
        let made = match self.path {
            Path::MqttAmqp => {
                amqp::declare(self.rabbitmq_port(), settings::TARGET_QUEUE, None).await
            }
            Path::HttpJetstream => {
                nats::create_stream(self.nats_port(), settings::TARGET_STREAM).await
            }
            Path::JetstreamHttp => {
                nats::create_stream(self.nats_port(), settings::SOURCE_STREAM).await
            }
            Path::AmqpMqtt | Path::AmqpMosquitto => {
                let (queue, binding) = (settings::SOURCE_QUEUE, Some(settings::BINDING));
                amqp::declare(self.rabbitmq_port(), queue, binding).await
            }
        };
        made.expect("a broker that has just started creates a queue or a stream");
        if let Some(broker) = &self.rabbitmq {
            broker.keep_declared().await;
        }
    }

    fn rabbitmq_port(&self) -> u16 {
        self.rabbitmq.as_ref().map_or(0, RabbitMq::port)
    }

    fn nats_port(&self) -> u16 {
        self.nats.as_ref().map_or(0, Nats::port)
    }

    /// Time-outs are shorter than by default, so that half-open connections are noticed within the
    /// patience of a run.
    fn configuration(&self, best_effort: bool) -> String {
        let (listener, source, target) = (self.listener, self.source.port(), self.target.port());
        let amqp = |port: u16| {
            format!(
                "kind = \"amqp\"\nurl = \"amqp://guest:guest@127.0.0.1:{port}/%2f\"\n\
                 heartbeat = \"5s\"\nconfirm_timeout = \"10s\"\n"
            )
        };
        let nats = |port: u16| {
            format!("kind = \"nats\"\nurl = \"nats://127.0.0.1:{port}\"\nping_interval = \"2s\"\n")
        };
        let listen = |kind: &str| format!("kind = \"{kind}\"\nlisten = \"127.0.0.1:{listener}\"\n");
        let devices = listen("mqtt") + "local = false\n";
        let consume =
            format!("[[adapters.source.consume]]\nqueue = \"{}\"\n", settings::SOURCE_QUEUE);
        let (source, targets, to) = match self.path {
            Path::MqttAmqp => (
                devices,
                format!("[adapters.target]\n{}", amqp(target)),
                format!("{{ adapter = \"target\", queue = \"{}\" }}", settings::TARGET_QUEUE),
            ),
            Path::HttpJetstream => (
                listen("http"),
                format!("[adapters.target]\n{}", nats(target)),
                "{ adapter = \"target\", jetstream = true }".to_owned(),
            ),
            Path::AmqpMqtt => (
                amqp(source) + &consume,
                format!("[adapters.target]\n{devices}"),
                "\"target\"".to_owned(),
            ),
            Path::AmqpMosquitto => (
                amqp(source) + &consume,
                format!(
                    "[adapters.target]\nkind = \"mqtt\"\n\
                     url = \"mqtt://127.0.0.1:{target}\"\nversion = \"5\"\nkeep_alive = \"5s\"\nconfirm_timeout = \"10s\"\n"
                ),
                "\"target\"".to_owned(),
            ),
            Path::JetstreamHttp => (
                nats(source)
                    + &format!(
                        "[[adapters.source.consume]]\nstream = \"{}\"\ndurable = \"gateway\"\n\
                         create = true\nack_wait = \"10s\"\n",
                        settings::SOURCE_STREAM
                    ),
                format!(
                    "[adapters.target]\nkind = \"http\"\nurl = \"http://127.0.0.1:{target}\"\n\
                     timeout = \"5s\"\n"
                ),
                "\"target\"".to_owned(),
            ),
        };
        let promise = if best_effort { "guarantee = \"best-effort\"\n" } else { "" };
        format!(
            "[adapters.source]\n{source}\n{targets}\n[[route]]\nname = \"faults\"\n\
             from = \"source\"\nmatch = \"{}\"\nto = {to}\n{promise}",
            settings::FILTER
        )
    }

    /// Starts what records the messages that arrive. Sessions are there before this returns.
    pub(super) async fn consume(&mut self, ledger: &Arc<Ledger>, tasks: &mut JoinSet<()>) {
        let (target, ledger) = (0, Arc::clone(ledger));
        match self.path {
            Path::MqttAmqp => {
                let port = self.rabbitmq_port();
                tasks.spawn(amqp::Consumer { target, port, ledger }.run());
            }
            Path::HttpJetstream => {
                let port = self.nats_port();
                let stream = settings::TARGET_STREAM;
                tasks.spawn(nats::Reader { target, port, ledger, stream, last: 0 }.run());
            }
            Path::AmqpMqtt | Path::AmqpMosquitto => {
                let port = self.mosquitto.as_ref().map_or(self.listener, port);
                let subscriber = Subscriber {
                    target,
                    port,
                    ledger,
                    persistent: true,
                    version: Version::V5,
                    subscribed: Arc::default(),
                };
                wait::until("a session", || async { subscriber.subscribe().await.ok() }).await;
                tasks.spawn(subscriber.run());
            }
            Path::JetstreamHttp => {
                if let Some(sink) = self.sink.take() {
                    tasks.spawn(sink.run(target, ledger));
                }
            }
        }
    }

    /// Starts the producers.
    pub(super) fn produce(&self, plan: &Plan, ledger: &Arc<Ledger>, tasks: &mut JoinSet<()>) {
        let producers = producers(plan);
        for (number, producer) in (0..).zip(&producers) {
            let port = match self.path {
                Path::MqttAmqp | Path::HttpJetstream => self.source.port(),
                Path::AmqpMqtt | Path::AmqpMosquitto => self.rabbitmq_port(),
                Path::JetstreamHttp => self.nats_port(),
            };
            let mut lane = Lane::new(number, producer.messages, port, Arc::clone(ledger));
            lane.rate = plan
                .rate
                .map(|rate| rate * f64::from(producer.messages) / f64::from(plan.messages));
            match self.path {
                Path::MqttAmqp => {
                    lane.window = MQTT_WINDOW;
                    // One device of each version has a session, and so repeats with the DUP flag.
                    let device = Device::new(number, version(number), number % 2 == 0);
                    tasks.spawn(lane.run(device));
                }
                Path::HttpJetstream => {
                    tasks.spawn(lane.run(Poster::default()));
                }
                Path::AmqpMqtt | Path::AmqpMosquitto => {
                    lane.window = BROKER_WINDOW;
                    tasks.spawn(lane.run(amqp::Publisher::default()));
                }
                Path::JetstreamHttp => {
                    lane.window = BROKER_WINDOW;
                    tasks.spawn(lane.run(nats::Publisher::new()));
                }
            }
        }
    }

    fn link(&self, link: Link) -> &Proxy {
        match link {
            Link::Source => &self.source,
            Link::Target => &self.target,
        }
    }

    /// Does what the fault says, and returns when everything is there again.
    pub(super) async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(place) => self.kill(place).await,
            Fault::Freeze(place, time) => {
                self.signal(place, End::Stop);
                sleep(time).await;
                self.signal(place, End::Continue);
            }
            Fault::Cut(link) => self.link(link).cut(),
            Fault::HalfOpen(link) => self.link(link).half_open(),
            Fault::Refuse(link, time) => {
                self.link(link).refuse(true);
                sleep(time).await;
                self.link(link).refuse(false);
            }
            Fault::Pause(link, time) => {
                self.link(link).pause(true);
                sleep(time).await;
                self.link(link).pause(false);
            }
            Fault::Delay(link, delay, time) => {
                self.link(link).delay(delay);
                sleep(time).await;
                self.link(link).delay(Duration::ZERO);
            }
            Fault::FillDisk(time) => self.fill_disk(time).await,
        }
    }

    async fn kill(&mut self, place: Place) {
        match place {
            Place::Gateway => {
                self.measure();
                self.gateway.kill();
                self.gateway.run().await;
            }
            Place::RabbitMq => {
                if let Some(broker) = &mut self.rabbitmq {
                    broker.kill();
                    broker.appear().await;
                }
            }
            Place::Nats => {
                if let Some(broker) = &mut self.nats {
                    broker.kill();
                    broker.appear().await;
                }
            }
            Place::Mosquitto => {
                if let Some(broker) = &mut self.mosquitto {
                    broker.stop().await;
                    broker.appear().await;
                }
            }
        }
    }

    fn signal(&mut self, place: Place, signal: End) {
        let process = match place {
            Place::Gateway => Some(&mut *self.gateway.process()),
            Place::RabbitMq => self.rabbitmq.as_mut().and_then(RabbitMq::process),
            Place::Nats => self.nats.as_mut().and_then(Nats::process),
            Place::Mosquitto => self.mosquitto.as_mut().and_then(Mosquitto::process),
        };
        if let Some(process) = process {
            process.signal(signal);
        }
    }

    async fn fill_disk(&self, time: Duration) {
        let Some(disk) = &self.disk else { return };
        disk.fill().expect("a file can be written on the small disk");
        sleep(time).await;
        disk.relieve().expect("the ballast can be removed");
    }

    /// Looks how much memory the gateway has had.
    pub(super) fn measure(&mut self) -> u64 {
        let bytes = peak_bytes(self.gateway.process()).unwrap_or(0);
        self.memory_peak_bytes = self.memory_peak_bytes.max(bytes);
        self.memory_peak_bytes
    }

    /// Whether the gateway has ended by itself, and how.
    pub(super) fn gateway_fault(&mut self) -> Option<String> {
        let status = self.gateway.process().ended()?;
        self.gateway.process().print_end();
        Some(format!("the gateway ended by itself with {status}"))
    }

    /// How many messages the gateway has set aside since its start.
    pub(super) async fn dead_letters(&self) -> f64 {
        let name = "transload_messages_finished_total";
        self.gateway.metric(name, "dead_lettered").await.unwrap_or(0.0)
    }

    /// Shows what may help to find a fault: the end of what the gateway has said, and whether
    /// what is lost is still in the source's stream.
    pub(super) async fn explain(&mut self, ledger: &Ledger) {
        self.gateway.process().print_end();
        if self.path != Path::JetstreamHttp || ledger.lost(0).is_empty() {
            return;
        }
        let (port, stream) = (self.nats_port(), settings::SOURCE_STREAM);
        for subject in [format!("STREAM.INFO.{stream}"), format!("CONSUMER.INFO.{stream}.gateway")]
        {
            eprintln!("{subject}: {:?}", nats::ask(port, &subject).await);
        }
        let lanes: Vec<_> = (0..lanes(self.path)).map(|_| (LOOKED_AT, true)).collect();
        let kept = Arc::new(Ledger::new(&lanes, 1));
        let reader = nats::Reader { target: 0, port, ledger: Arc::clone(&kept), stream, last: 0 };
        // It reads for ever, and is done long before.
        let _ = tokio::time::timeout(Duration::from_secs(20), reader.run()).await;
        for stamp in ledger.lost(0) {
            let place = if kept.has_arrived(0, stamp) { "is in" } else { "is not in" };
            eprintln!("lost: {stamp} {place} the source's stream");
        }
    }
}

fn port(broker: &Mosquitto) -> u16 {
    broker.address().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

/// `VmHWM` of proc(5): the most that was resident at once.
fn peak_bytes(process: &Process) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
