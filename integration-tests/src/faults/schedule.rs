use std::{fmt, time::Duration};

use super::{Path, Plan};

/// A process that can be killed or frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The program under test.
    Gateway,
    /// A broker.
    RabbitMq,
    /// A broker.
    Nats,
    /// A broker, which is asked to end where others are killed, since it keeps what it has
    /// acknowledged in memory until then.
    Mosquitto,
}

/// A connection that goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// From the producers to the gateway's listener, or from the gateway to the source's broker.
    Source,
    /// From the gateway to the target.
    Target,
}

/// Something that is done while messages are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a start on the data of before.
    Kill(Place),
    /// SIGSTOP, and SIGCONT after this time.
    Freeze(Place, Duration),
    /// The connections are closed.
    Cut(Link),
    /// The connections are closed and new ones too, for this time.
    Refuse(Link, Duration),
    /// Nothing goes through for this time, with the connections open.
    Pause(Link, Duration),
    /// Each piece is held back by the first time, during the second.
    Delay(Link, Duration, Duration),
    /// The connections carry nothing any more, and neither side is told. New ones work.
    HalfOpen(Link),
    /// The gateway's disk is full for this time.
    FillDisk(Duration),
}

impl Fault {
    /// Whether a process ends by it.
    pub fn is_kill(self) -> bool {
        matches!(self, Self::Kill(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(place) => write!(f, "kill {place:?}"),
            Self::Freeze(place, time) => write!(f, "freeze {place:?} for {time:?}"),
            Self::Cut(link) => write!(f, "cut {link:?}"),
            Self::Refuse(link, time) => write!(f, "refuse {link:?} for {time:?}"),
            Self::Pause(link, time) => write!(f, "pause {link:?} for {time:?}"),
            Self::Delay(link, by, time) => write!(f, "delay {link:?} by {by:?} for {time:?}"),
            Self::HalfOpen(link) => write!(f, "half-open {link:?}"),
            Self::FillDisk(time) => write!(f, "fill the disk for {time:?}"),
        }
    }
}

/// Faults in their order, each with the part of its segment of the messages after which it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Each fault comes after this part, from 0 to 1, of the messages that are its own.
    pub steps: Vec<(f64, Fault)>,
}

impl Schedule {
    /// The faults of a plan: they follow from its path, seed and number of kills.
    pub fn new(plan: &Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed ^ plan.path as u64);
        let mut faults: Vec<Fault> = kills(plan.path, plan.kills).map(Fault::Kill).collect();
        let others = others(plan, &mut random);
        let wanted = if plan.kills == 0 { others.len() } else { plan.kills as usize / 2 + 1 };
        faults.extend(others.iter().copied().cycle().take(wanted));
        if plan.small_disk {
            let full = |random: &mut fastrand::Rng| seconds(random, 2, 5);
            faults.extend((0..=plan.kills / 3).map(|_| Fault::FillDisk(full(&mut random))));
        }
        random.shuffle(&mut faults);
        Self { steps: faults.into_iter().map(|fault| (random.f64(), fault)).collect() }
    }

    /// How many of the faults are kills.
    pub fn kills(&self) -> usize {
        self.steps.iter().filter(|(_, fault)| fault.is_kill()).count()
    }
}

fn seconds(random: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from * 1_000..=to * 1_000))
}

/// Every fourth victim is a broker, of those with `RabbitMQ` every eighth, since it takes long to
/// come back; there is one at least if there are two victims.
fn kills(path: Path, count: u32) -> impl Iterator<Item = Place> {
    let every = if path.brokers().contains(&Place::RabbitMq) { 8 } else { 4 };
    let brokers = path.brokers().iter().copied().cycle();
    let of_brokers = if count < 2 { 0 } else { count.div_ceil(every).max(1) };
    let of_brokers =
        of_brokers.max(u32::try_from(path.brokers().len()).unwrap_or(0)).min(count / 2);
    let gateway = std::iter::repeat_n(Place::Gateway, (count - of_brokers) as usize);
    gateway.chain(brokers.take(of_brokers as usize))
}

/// What there is beside kills, in random order and with random times.
fn others(plan: &Plan, random: &mut fastrand::Rng) -> Vec<Fault> {
    let mut faults = vec![Fault::Freeze(Place::Gateway, seconds(random, 1, 3))];
    for broker in plan.path.brokers() {
        faults.push(Fault::Freeze(*broker, seconds(random, 1, 4)));
    }
    for link in plan.path.links().iter().copied() {
        let delay = Duration::from_millis(random.u64(5..=100));
        faults.extend([
            Fault::Cut(link),
            Fault::HalfOpen(link),
            Fault::Pause(link, seconds(random, 1, 4)),
            Fault::Refuse(link, seconds(random, 1, 4)),
            Fault::Delay(link, delay, seconds(random, 1, 4)),
        ]);
    }
    random.shuffle(&mut faults);
    faults
}
