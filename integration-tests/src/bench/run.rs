use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::sleep,
};

use super::{
    candidate::Candidate,
    load::Lane,
    message,
    path::{End, Path},
    record::{Record, Tally},
    servers::{Servers, ends},
    usage::Usage,
};
use crate::{
    RabbitMq,
    faults::{
        amqp, http,
        mqtt::{Device, Subscriber},
        mqtt_wire::Version,
        nats,
    },
    wait,
};

/// For how long nothing may arrive at the end before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(5);
/// How many lanes connect at once, so that they fit in the backlog of a listening socket.
const CONNECTING_MAX: usize = 64;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The way of the messages.
    pub path: Path,
    /// What they go through.
    pub candidate: Candidate,
    /// How many.
    pub messages: u32,
    /// How long each payload is.
    pub bytes: usize,
    /// Messages a second in all; without it, as many as are acknowledged.
    pub rate: Option<f64>,
    /// How many connections send; without it, what is usual for the source.
    pub connections: Option<u16>,
}

/// What came out.
#[derive(Debug)]
pub struct Run {
    /// What was asked for.
    pub plan: Plan,
    /// Messages that the source has an acknowledgement for.
    pub acknowledged: u64,
    /// Distinct messages that arrived.
    pub delivered: u64,
    /// Acknowledged messages that did not arrive.
    pub lost: u64,
    /// Further copies.
    pub duplicated: u64,
    /// Messages that came after a later one of the same sender.
    pub reordered: u64,
    /// From the first message to the arrival of the last.
    pub seconds: f64,
    /// From when a message was due to its arrival, in microseconds: median, 99th percentile, most.
    pub latency_us: [u64; 3],
    /// Processor seconds and peak memory in bytes, by process; the candidate is the first.
    pub used: Vec<(&'static str, f64, u64)>,
    /// Why the run is no good, if it is not.
    pub failure: Option<String>,
}

impl Run {
    /// Delivered messages a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { count(self.delivered) / self.seconds } else { 0.0 }
    }

    /// The candidate's processor seconds for 100,000 messages.
    pub fn cpu_of_candidate(&self) -> Option<f64> {
        self.used.first().map(|(_, seconds, _)| self.for_100_000(*seconds))
    }

    /// Processor seconds of all servers for 100,000 messages.
    pub fn cpu_of_all(&self) -> f64 {
        self.for_100_000(self.used.iter().map(|(_, seconds, _)| seconds).sum())
    }

    /// Processor seconds for 100,000 messages.
    pub fn for_100_000(&self, seconds: f64) -> f64 {
        seconds * 100_000.0 / count(self.acknowledged.max(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "these numbers are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

/// Measures one candidate on one path.
pub async fn run(plan: &Plan, rabbitmq: Option<&RabbitMq>) -> Run {
    let mut servers = Servers::start(plan.path, plan.candidate, rabbitmq).await;
    let path = ends(plan.path, plan.candidate);
    let rabbitmq = rabbitmq.filter(|_| path.has(End::Amqp));
    let lanes = lanes(path.from, plan);
    let record = Arc::new(Record::new(&lanes));
    let mut consumers = JoinSet::new();
    let records = plan.candidate != Candidate::BareHttp;
    if records {
        consume(path.to, plan.candidate, servers.target_port, &record, &mut consumers).await;
    }
    let acknowledged = Arc::new(AtomicU64::new(0));
    let ready = Arc::new(Barrier::new(lanes.len() + 1));
    let mut senders = JoinSet::new();
    produce(plan, path.from, &lanes, servers.source_port, &acknowledged, &ready, &mut senders);
    ready.wait().await;
    let before = servers.usage(rabbitmq);
    let begin_ns = message::now_ns();
    let mut failure = finish(&mut senders, &mut servers).await;
    let sent_ns = message::now_ns();
    if records && failure.is_none() {
        failure = until_complete(&record, &mut servers).await;
    }
    let after = servers.usage(rabbitmq);
    let end_ns = if records { record.last_arrival_ns() } else { sent_ns };
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    let tally = record.tally();
    if tally.damaged > 0 {
        failure.get_or_insert(format!("{} messages came damaged", tally.damaged));
    }
    Run {
        plan: *plan,
        acknowledged,
        delivered: if records { tally.delivered } else { acknowledged },
        lost: if records { acknowledged.saturating_sub(tally.delivered) } else { 0 },
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        seconds: Duration::from_nanos(end_ns.saturating_sub(begin_ns)).as_secs_f64(),
        latency_us: percentiles(&tally),
        used: used(&before, &after),
        failure,
    }
}

fn percentiles(tally: &Tally) -> [u64; 3] {
    let latency = &tally.latency_us;
    [latency.value_at_quantile(0.5), latency.value_at_quantile(0.99), latency.max()]
}

fn used(
    before: &[(&'static str, Usage)],
    after: &[(&'static str, Usage)],
) -> Vec<(&'static str, f64, u64)> {
    let pairs = before.iter().zip(after);
    pairs
        .map(|((name, before), (_, after))| {
            let used = after.since(*before);
            (*name, used.cpu_s(), used.peak_bytes)
        })
        .collect()
}

/// How many connections send, and how many messages each.
fn lanes(from: End, plan: &Plan) -> Vec<u32> {
    let usual: u16 = match from {
        End::Http => 64,
        End::Listener | End::Mosquitto => 4,
        End::Amqp | End::Jetstream | End::Core => 2,
    };
    let count = u32::from(plan.connections.unwrap_or(usual));
    (0..count).map(|lane| plan.messages / count + u32::from(lane < plan.messages % count)).collect()
}

fn window(from: End) -> usize {
    match from {
        End::Http => 1,
        End::Listener | End::Mosquitto => 100,
        End::Amqp | End::Jetstream => 500,
        End::Core => 256,
    }
}

fn produce(
    plan: &Plan,
    from: End,
    lanes: &[u32],
    port: u16,
    acknowledged: &Arc<AtomicU64>,
    ready: &Arc<Barrier>,
    senders: &mut JoinSet<std::io::Result<()>>,
) {
    // These two know no later one.
    let old = matches!(plan.candidate, Candidate::RabbitMqMqtt | Candidate::NatsMqtt);
    let version = if old { Version::V3 } else { Version::V5 };
    let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
    for (number, messages) in (0..).zip(lanes) {
        let share = f64::from(*messages) / f64::from(plan.messages.max(1));
        let lane = Lane {
            number,
            messages: *messages,
            bytes: plan.bytes,
            window: window(from),
            rate: plan.rate.map(|rate| rate * share),
            offset: plan
                .rate
                .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(f64::from(number) / rate)),
            port,
            acknowledged: Arc::clone(acknowledged),
            connecting: Arc::clone(&connecting),
            ready: Arc::clone(ready),
        };
        match from {
            End::Http => senders.spawn(lane.run(http::Poster::default())),
            End::Listener | End::Mosquitto => {
                senders.spawn(lane.run(Device::new(number, version, false)))
            }
            End::Amqp => senders.spawn(lane.run(amqp::Publisher::default())),
            End::Jetstream => senders.spawn(lane.run(nats::Publisher::new())),
            End::Core => senders.spawn(lane.run(nats::CorePublisher::default())),
        };
    }
}

async fn consume(
    to: End,
    candidate: Candidate,
    port: u16,
    record: &Arc<Record>,
    tasks: &mut JoinSet<()>,
) {
    let (target, ledger) = (0, Arc::clone(record));
    let direct = matches!(candidate, Candidate::Nothing(_));
    let subjects = if direct { crate::faults::settings::SUBJECTS } else { "g.>" };
    match to {
        End::Amqp => {
            tasks.spawn(amqp::Consumer { target, port, ledger }.run());
        }
        End::Jetstream => {
            let stream = crate::faults::settings::TARGET_STREAM;
            tasks.spawn(nats::Reader { target, port, ledger, stream, last: 0 }.run());
        }
        End::Listener | End::Mosquitto | End::Http => {
            let subscribed = Arc::<AtomicBool>::default();
            let subscriber = Subscriber {
                target,
                port,
                ledger,
                persistent: false,
                version: Version::V5,
                subscribed: Arc::clone(&subscribed),
            };
            tasks.spawn(subscriber.run());
            wait::until("a subscription", || {
                let there = subscribed.load(Ordering::Relaxed);
                async move { there.then_some(()) }
            })
            .await;
        }
        End::Core => {
            let subscriber = nats::Subscriber { target, port, ledger, subjects };
            let connection = subscriber.open().await.expect("a NATS server takes a subscription");
            tasks.spawn(subscriber.run(connection));
        }
    }
}

async fn finish(
    senders: &mut JoinSet<std::io::Result<()>>,
    servers: &mut Servers,
) -> Option<String> {
    loop {
        tokio::select! {
            sent = senders.join_next() => match sent {
                None => return None,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return Some(servers.fault().unwrap_or(error.to_string())),
                Some(Err(error)) => return Some(error.to_string()),
            },
            () = sleep(Duration::from_secs(1)) => {
                if let Some(fault) = servers.fault() {
                    return Some(fault);
                }
            }
        }
    }
}

async fn until_complete(record: &Record, servers: &mut Servers) -> Option<String> {
    let (mut last, mut since) = (record.delivered(), Instant::now());
    while !record.is_complete() && since.elapsed() < PATIENCE {
        if record.delivered() > last {
            (last, since) = (record.delivered(), Instant::now());
        }
        sleep(STEP).await;
    }
    servers.fault()
}
