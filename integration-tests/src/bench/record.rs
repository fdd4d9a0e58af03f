use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use hdrhistogram::Histogram;

use super::message;
use crate::faults::{Arrival, ledger::Books};

/// The part of each lane's messages that comes first and is not timed.
const WARM_UP_PARTS: u32 = 20;
/// How many histograms the lanes share.
const HISTOGRAMS: usize = 16;

/// What has arrived.
#[derive(Debug)]
pub(super) struct Record {
    lanes: Vec<Mutex<Lane>>,
    /// Each for some lanes, since one is large.
    latencies_us: Vec<Mutex<Histogram<u64>>>,
    delivered: AtomicU64,
    damaged: AtomicU64,
    last_arrival_ns: AtomicU64,
    messages: u64,
}

#[derive(Debug)]
struct Lane {
    copies: Vec<u8>,
    newest: Option<u32>,
    warm_up: u32,
    duplicated: u64,
    reordered: u64,
}

/// The sum of all lanes.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) delivered: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) damaged: u64,
    pub(super) latency_us: Histogram<u64>,
}

fn histogram() -> Histogram<u64> {
    let minute_us = 60_000_000;
    Histogram::new_with_max(minute_us, 3).expect("these are bounds of a histogram")
}

impl Record {
    pub(super) fn new(lanes: &[u32]) -> Self {
        let lane = |messages: &u32| {
            Mutex::new(Lane {
                copies: vec![0; *messages as usize],
                newest: None,
                warm_up: messages / WARM_UP_PARTS,
                duplicated: 0,
                reordered: 0,
            })
        };
        Self {
            lanes: lanes.iter().map(lane).collect(),
            latencies_us: lanes.iter().take(HISTOGRAMS).map(|_| Mutex::new(histogram())).collect(),
            delivered: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            last_arrival_ns: AtomicU64::new(0),
            messages: lanes.iter().map(|messages| u64::from(*messages)).sum(),
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.delivered() == self.messages
    }

    pub(super) fn last_arrival_ns(&self) -> u64 {
        self.last_arrival_ns.load(Ordering::Relaxed)
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally {
            delivered: self.delivered(),
            duplicated: 0,
            reordered: 0,
            damaged: self.damaged.load(Ordering::Relaxed),
            latency_us: histogram(),
        };
        for lane in &self.lanes {
            let lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            tally.duplicated += lane.duplicated;
            tally.reordered += lane.reordered;
        }
        for latency_us in &self.latencies_us {
            let latency_us = latency_us.lock().unwrap_or_else(PoisonError::into_inner);
            tally.latency_us.add(&*latency_us).expect("both have the same bounds");
        }
        tally
    }

    fn enter(&self, payload: &[u8]) -> Option<()> {
        let (stamp, due_ns) = message::read(payload)?;
        let mut lane = self.lanes.get(usize::from(stamp.lane))?.lock().ok()?;
        let copies = lane.copies.get_mut(stamp.number as usize)?;
        *copies = copies.saturating_add(1);
        if *copies > 1 {
            lane.duplicated += 1;
            return Some(());
        }
        let now_ns = message::now_ns();
        if lane.newest.is_some_and(|newest| newest > stamp.number) {
            lane.reordered += 1;
        }
        lane.newest = lane.newest.max(Some(stamp.number));
        if stamp.number >= lane.warm_up {
            let mut latency_us =
                self.latencies_us.get(usize::from(stamp.lane) % HISTOGRAMS)?.lock().ok()?;
            latency_us.saturating_record(now_ns.saturating_sub(due_ns) / 1_000);
        }
        self.last_arrival_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.delivered.fetch_add(1, Ordering::Relaxed);
        Some(())
    }
}

impl Books for Record {
    fn arrived(&self, arrival: Arrival<'_>) {
        if self.enter(arrival.payload).is_none() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }
}
