use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{
    candidate::{Candidate, Guarantee, Tuning},
    path::{End, Path},
    usage::Usage,
};
use crate::{
    Mosquitto, Nats, Process, RabbitMq, Transload, directory,
    faults::{amqp, nats, settings},
    free_port,
    guard::write,
    python::environment,
    wait::{START_PATIENCE, until_open},
};

/// The brokers and the candidate of one run, and where load and record connect.
#[derive(Debug)]
pub(super) struct Servers {
    nats: Option<Nats>,
    mosquitto: Option<Mosquitto>,
    gateway: Option<Transload>,
    other: Option<Process>,
    /// Where messages are sent to.
    pub(super) source_port: u16,
    /// Where they are read from.
    pub(super) target_port: u16,
}

impl Servers {
    /// Starts what a candidate needs for a path. `RabbitMQ` is shared by all runs.
    pub(super) async fn start(
        path: Path,
        candidate: Candidate,
        rabbitmq: Option<&RabbitMq>,
    ) -> Self {
        let mut servers = Self {
            nats: None,
            mosquitto: None,
            gateway: None,
            other: None,
            source_port: 0,
            target_port: 0,
        };
        let ends = ends(path, candidate);
        if ends.has(End::Jetstream) || ends.has(End::Core) || candidate == Candidate::NatsMqtt {
            servers.nats = Some(start_nats(candidate).await);
        }
        if ends.has(End::Mosquitto) || candidate == Candidate::Mosquitto {
            servers.mosquitto = Some(Mosquitto::start().await);
        }
        if let Some(broker) = rabbitmq.filter(|_| ends.has(End::Amqp)) {
            empty_queues(broker, ends).await;
        }
        servers.make_streams(ends).await;
        let port = |end: End| match end {
            End::Amqp => rabbitmq.map_or(0, RabbitMq::port),
            End::Jetstream | End::Core => servers.nats.as_ref().map_or(0, Nats::port),
            End::Mosquitto => servers.mosquitto.as_ref().map_or(0, Mosquitto::port),
            End::Listener | End::Http => 0,
        };
        let (source, target) = (port(ends.from), port(ends.to));
        servers.begin(ends, candidate, rabbitmq, source, target).await;
        servers
    }

    async fn begin(
        &mut self,
        path: Path,
        candidate: Candidate,
        rabbitmq: Option<&RabbitMq>,
        source: u16,
        target: u16,
    ) {
        let listener = free_port();
        let serves = matches!(path.from, End::Listener | End::Http);
        self.source_port = if serves { listener } else { source };
        self.target_port = if path.to == End::Listener { listener } else { target };
        match candidate {
            Candidate::Transload(guarantee) => {
                let text = configuration(path, guarantee, listener, source, target);
                let mut gateway = Transload::new("");
                gateway.configure(&text);
                gateway.run().await;
                for adapter in ["source", "target"] {
                    if text.contains(&format!("[adapters.{adapter}]")) {
                        gateway.until_up(adapter).await;
                    }
                }
                self.gateway = Some(gateway);
            }
            Candidate::MqBridge(tuning) => {
                let route = mq_bridge_route(path, tuning, listener, source, target);
                self.other = Some(start_mq_bridge(&route, serves.then_some(listener)).await);
            }
            Candidate::RabbitMqMqtt => {
                self.source_port = rabbitmq.and_then(RabbitMq::mqtt_port).unwrap_or(0);
            }
            Candidate::Mosquitto => {
                let port = self.mosquitto.as_ref().map_or(0, Mosquitto::port);
                (self.source_port, self.target_port) = (port, port);
            }
            Candidate::NatsMqtt => {
                self.source_port = self.nats.as_ref().and_then(Nats::mqtt_port).unwrap_or(0);
            }
            Candidate::Rumqttd => self.other = Some(start_own("rumqttd", listener).await),
            Candidate::BareHttp => self.other = Some(start_own("http", listener).await),
            Candidate::Nothing(_) => {}
        }
    }

    async fn make_streams(&self, path: Path) {
        let Some(broker) = &self.nats else { return };
        for (end, name) in
            [(path.from, settings::SOURCE_STREAM), (path.to, settings::TARGET_STREAM)]
        {
            let doubled = path.from == path.to && name == settings::SOURCE_STREAM;
            if end == End::Jetstream && !doubled {
                let made = nats::create_stream(broker.port(), name).await;
                made.expect("a server that has just started creates a stream");
            }
        }
    }

    /// What each process has used so far, by its name. The first is the candidate.
    pub(super) fn usage(&mut self, rabbitmq: Option<&RabbitMq>) -> Vec<(&'static str, Usage)> {
        let gateway = self.gateway.as_mut().map(|gateway| ("transload", gateway.process().id()));
        let other = self.other.as_ref().map(|process| ("peer", process.id()));
        let nats = self.nats.as_mut().and_then(Nats::process).map(|p| ("nats-server", p.id()));
        let mosquitto =
            self.mosquitto.as_mut().and_then(Mosquitto::process).map(|p| ("mosquitto", p.id()));
        let rabbitmq = rabbitmq.and_then(RabbitMq::id).map(|id| ("RabbitMQ", id));
        let all = [gateway, other, nats, mosquitto, rabbitmq];
        all.into_iter().flatten().map(|(name, id)| (name, Usage::of_group(id))).collect()
    }

    /// Whether something that was started has ended by itself.
    pub(super) fn fault(&mut self) -> Option<String> {
        let ended = self.gateway.as_mut().and_then(|gateway| {
            let status = gateway.process().ended()?;
            gateway.process().print_end();
            Some(status)
        });
        let ended = ended.or_else(|| {
            let process = self.other.as_mut()?;
            let status = process.ended()?;
            process.print_end();
            Some(status)
        });
        ended.map(|status| format!("the candidate ended by itself with {status}"))
    }
}

/// Where messages really go: with nothing between, in and out at the same broker.
pub(super) fn ends(path: Path, candidate: Candidate) -> Path {
    match candidate {
        Candidate::Nothing(end) => Path { from: end, to: end },
        Candidate::Transload(_)
        | Candidate::MqBridge(_)
        | Candidate::RabbitMqMqtt
        | Candidate::Mosquitto
        | Candidate::Rumqttd
        | Candidate::NatsMqtt
        | Candidate::BareHttp => path,
    }
}

async fn start_nats(candidate: Candidate) -> Nats {
    let mut broker = Nats::absent();
    broker.sync_as_it_comes();
    if candidate == Candidate::NatsMqtt {
        broker.serve_mqtt();
    }
    broker.appear().await;
    broker
}

/// Queues of the runs before are not to be in the way.
async fn empty_queues(broker: &RabbitMq, path: Path) {
    let port = broker.port();
    for queue in [settings::SOURCE_QUEUE, settings::TARGET_QUEUE] {
        amqp::delete(port, queue).await.expect("a queue can be deleted");
    }
    // With nothing between, the target's queue gets what is published.
    let (source, target) = (settings::SOURCE_QUEUE, settings::TARGET_QUEUE);
    let binding = Some(settings::BINDING);
    if path.from == End::Amqp && path.to != End::Amqp {
        amqp::declare(port, source, binding).await.expect("a queue can be declared");
    }
    if path.to == End::Amqp {
        let direct = path.from != End::Jetstream && path.from != End::Http;
        let binding = binding.filter(|_| direct);
        amqp::declare(port, target, binding).await.expect("a queue can be declared");
    }
}

/// The gateway's file.
fn configuration(
    path: Path,
    guarantee: Guarantee,
    listener: u16,
    source: u16,
    target: u16,
) -> String {
    let guarantee = match guarantee {
        Guarantee::Stored => "stored",
        Guarantee::Delivered => "delivered",
    };
    let route = |from: &str, to: &str| {
        format!(
            "[[route]]\nname = \"bench\"\nfrom = \"{from}\"\nmatch = \"{}\"\nto = {to}\n\
             guarantee = \"{guarantee}\"\n",
            settings::FILTER
        )
    };
    // A plain broker has no route: what devices publish goes to those who subscribed.
    if path.from == End::Listener && path.to == End::Listener {
        return format!("[adapters.source]\nkind = \"mqtt\"\nlisten = \"127.0.0.1:{listener}\"\n");
    }
    let from = adapter(path.from, listener, source)
        + match path.from {
            End::Amqp => "[[adapters.source.consume]]\nqueue = \"source\"\n",
            End::Jetstream => {
                "[[adapters.source.consume]]\nstream = \"SOURCE\"\ndurable = \"gateway\"\ncreate = true\n"
            }
            End::Listener | End::Mosquitto | End::Core | End::Http => "",
        };
    let to = match path.to {
        End::Amqp => "{ adapter = \"target\", queue = \"target\" }",
        End::Jetstream => "{ adapter = \"target\", jetstream = true }",
        // Back on the same server under another name, or it would come in again.
        End::Core => "{ adapter = \"target\", subject = \"g.{lane}\" }",
        End::Listener | End::Mosquitto | End::Http => "\"target\"",
    };
    let mut route = route("source", to);
    if path.to == End::Core {
        route = route.replace("match = \"f/#\"", "match = \"f/{lane}\"");
        route = route.replace("guarantee = \"stored\"\n", "guarantee = \"best-effort\"\n");
        route = route.replace("guarantee = \"delivered\"\n", "guarantee = \"best-effort\"\n");
    }
    let to = adapter(path.to, listener, target);
    format!("[adapters.source]\n{from}\n[adapters.target]\n{to}\n{route}")
}

fn adapter(end: End, listener: u16, port: u16) -> String {
    match end {
        End::Listener => {
            format!("kind = \"mqtt\"\nlisten = \"127.0.0.1:{listener}\"\nlocal = false\n")
        }
        End::Http => format!("kind = \"http\"\nlisten = \"127.0.0.1:{listener}\"\n"),
        End::Mosquitto => format!("kind = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\n"),
        End::Amqp => {
            format!("kind = \"amqp\"\nurl = \"amqp://guest:guest@127.0.0.1:{port}/%2f\"\n")
        }
        End::Jetstream | End::Core => {
            format!("kind = \"nats\"\nurl = \"nats://127.0.0.1:{port}\"\n")
        }
    }
}

/// mq-bridge's route, as JSON.
fn mq_bridge_route(
    path: Path,
    tuning: Tuning,
    listener: u16,
    source: u16,
    target: u16,
) -> serde_json::Value {
    use serde_json::json;
    let tuned = tuning == Tuning::Recommended;
    let amqp = |port: u16| format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    let mut input = match path.from {
        End::Amqp => json!({ "amqp": { "url": amqp(source), "queue": settings::SOURCE_QUEUE } }),
        End::Mosquitto => {
            json!({ "mqtt": { "url": format!("tcp://127.0.0.1:{source}"), "topic": settings::FILTER,
                "client_id": "mq-bridge" } })
        }
        End::Jetstream | End::Core => {
            json!({ "nats": { "url": format!("nats://127.0.0.1:{source}"),
            "subject": settings::SUBJECTS, "stream": settings::SOURCE_STREAM } })
        }
        End::Http | End::Listener => json!({ "http": { "url": format!("127.0.0.1:{listener}") } }),
    };
    let output = if path.to == End::Amqp {
        json!({ "amqp": { "url": amqp(target), "queue": settings::TARGET_QUEUE } })
    } else {
        json!({ "nats": { "url": format!("nats://127.0.0.1:{target}"),
            "subject": "f.bench", "stream": settings::TARGET_STREAM } })
    };
    let mut route = json!({});
    if tuned {
        for (kind, key, value) in [
            ("amqp", "prefetch_count", 1_000),
            ("mqtt", "queue_capacity", 1_000),
            ("mqtt", "max_inflight", 1_000),
            ("http", "internal_buffer_size", 1_000),
        ] {
            if let Some(settings) = input.get_mut(kind).and_then(serde_json::Value::as_object_mut) {
                settings.insert(key.to_owned(), json!(value));
            }
        }
        route = json!({ "concurrency": 4, "batch_size": 256 });
    }
    if let Some(route) = route.as_object_mut() {
        route.insert("input".to_owned(), input);
        route.insert("output".to_owned(), output);
    }
    route
}

async fn start_mq_bridge(route: &serde_json::Value, listener: Option<u16>) -> Process {
    let directory = directory("mq-bridge");
    let file = directory.join("route.json");
    write(&file, &route.to_string());
    let mut command = Command::new(peers_python());
    command.args(["-c", include_str!("mq_bridge.py")]).arg(&file).stdin(Stdio::null());
    let mut process =
        Process::start("mq-bridge", &mut command, &directory, "integration-tests/bench");
    if let Some(port) = listener {
        until_open(START_PATIENCE, port, || process.must_run()).await;
    } else {
        let started = || {
            process.must_run();
            let started = process.output().contains("started");
            async move { started.then_some(()) }
        };
        crate::wait::until_within(START_PATIENCE, "mq-bridge to start", started).await;
    }
    process
}

/// The peers have an environment of their own beside that of the tests.
fn peers_python() -> PathBuf {
    environment().with_file_name(".venv-bench").join("bin/python")
}

/// This program in another role, so that its processor time can be told apart.
async fn start_own(role: &str, port: u16) -> Process {
    let directory = directory(role);
    let program = std::env::current_exe().expect("a program knows its own path");
    let mut command = Command::new(program);
    command.args(["--serve", role, "--port", &port.to_string()]).stdin(Stdio::null());
    let mut process = Process::start(role, &mut command, &directory, "cargo");
    until_open(START_PATIENCE, port, || process.must_run()).await;
    process
}
