//! The journal against a naive model: random work, restarts and crashes.
//!
//! Messages are numbered in the order in which they are appended, so each queue has to hold
//! ascending numbers. After a crash it has to hold all that was acknowledged and not done, may
//! hold what was not acknowledged or not durably done, and nothing else.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use tempfile::TempDir;
use tokio::time::timeout;
use transload_adapter::{
    Receipt, Settlement, SettlementQueue, Tag, settlement_channel,
    store::{
        Append, AppendTo, Leased, Position, Queue, QueueSettings, Resolution, SettleOn, Storage,
        Store,
    },
};
use transload_envelope::{Envelope, Origin};

use super::sim::{self, Sim};
use crate::journal::{JournalSettings, JournalStore};

const QUEUES: usize = 4;
const NAMES: [&str; QUEUES] = ["a", "b", "c", "away"];
const DISK: QueueSettings = QueueSettings {
    storage: Storage::Disk,
    messages_max: u64::MAX,
    bytes_max: u64::MAX,
    age_max: None,
};

#[derive(Clone, Debug)]
enum Step {
    /// Appends to the queues of a mask.
    Append {
        mask: u8,
        messages: usize,
        bytes: usize,
        wait: bool,
    },
    Lease {
        queue: usize,
        messages: usize,
    },
    Resolve {
        queue: usize,
        pick: u8,
        how: u8,
    },
    Put {
        key: u8,
        value: u8,
    },
    Delete {
        key: u8,
    },
    Remove {
        queue: usize,
    },
    Reopen,
    Crash {
        chance: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // The last queue is seldom appended to and seldom leased from, so that it pins segments.
    let mask = prop_oneof![7 => 1_u8..8, 1 => 8_u8..16];
    let append = (mask, 1_usize..5, 0_usize..400, any::<bool>());
    prop_oneof![
        8 => append.prop_map(|(mask, messages, bytes, wait)| {
            Step::Append { mask, messages, bytes, wait }
        }),
        6 => (0..QUEUES - 1, 1_usize..40)
            .prop_map(|(queue, messages)| Step::Lease { queue, messages }),
        6 => (0..QUEUES, prop_oneof![any::<u8>(), Just(u8::MAX)], 0_u8..12)
            .prop_map(|(queue, pick, how)| Step::Resolve { queue, pick, how }),
        1 => (Just(QUEUES - 1), 1_usize..9).prop_map(|(queue, messages)| Step::Lease { queue, messages }),
        1 => (0_u8..3, any::<u8>()).prop_map(|(key, value)| Step::Put { key, value }),
        1 => (0_u8..3).prop_map(|key| Step::Delete { key }),
        1 => (0..QUEUES).prop_map(|queue| Step::Remove { queue }),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(|chance| Step::Crash { chance }),
    ]
}

#[derive(Debug, Default)]
struct Naive {
    /// Acknowledged and not done: the number, and the failed attempts.
    here: BTreeMap<u64, u32>,
    leased: BTreeMap<u64, Position>,
    /// Handed over, and not known to be durable.
    unsure: BTreeSet<u64>,
    /// Done, and not known to be durable.
    done: BTreeSet<u64>,
}

struct World {
    directory: TempDir,
    sim: Sim,
    store: JournalStore,
    settings: JournalSettings,
    queues: Vec<Arc<dyn Queue>>,
    naive: Vec<Naive>,
    table: BTreeMap<u8, u8>,
    next: u64,
    outstanding: Vec<SettlementQueue>,
    seen: Seen,
}

fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + bytes, number.to_le_bytes()[0]);
    payload
}

/// The number of a message, after its contents have been checked.
fn number(leased: &Leased, queue: &str) -> u64 {
    let bytes = &leased.outgoing.envelope.payload;
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(*bytes, payload(number, bytes.len() - 8));
    assert_eq!(leased.outgoing.arguments.get("queue").unwrap(), queue);
    number
}

impl World {
    fn new(segment_bytes: u64, cache_bytes_max: usize, checkpoint_here_bytes_max: u64) -> Self {
        let (directory, sim) = (sim::directory(), Sim::default());
        let settings = JournalSettings {
            segment_bytes,
            cache_bytes_max,
            checkpoint_here_bytes_max,
            waste_bytes_max: 0,
            ..JournalSettings::default()
        };
        let store =
            JournalStore::open_on(directory.path(), settings, Box::new(sim.clone())).unwrap();
        let queues = NAMES.map(|name| store.queue(name, DISK).unwrap()).into();
        let naive = NAMES.map(|_| Naive::default()).into();
        let table = BTreeMap::new();
        Self {
            directory,
            sim,
            store,
            settings,
            queues,
            naive,
            table,
            next: 1,
            outstanding: vec![],
            seen: Seen::default(),
        }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { mask, messages, bytes, wait } => {
                self.append(mask, messages, bytes).await;
                if wait {
                    self.settle_all().await;
                }
            }
            Step::Lease { queue, messages } => self.lease(queue, messages).await,
            Step::Resolve { queue, pick, how } => self.resolve(queue, pick, how),
            Step::Put { key, value } => {
                let table = self.store.table("t").unwrap();
                table.put(vec![key].into(), vec![value].into()).await.unwrap();
                self.table.insert(key, value);
            }
            Step::Delete { key } => {
                let table = self.store.table("t").unwrap();
                table.delete(vec![key].into()).await.unwrap();
                self.table.remove(&key);
            }
            Step::Remove { queue } => {
                self.settle_all().await;
                self.store.remove_queue(NAMES[queue]).await.unwrap();
                self.naive[queue] = Naive::default();
                self.queues[queue] = self.store.queue(NAMES[queue], DISK).unwrap();
            }
            Step::Reopen => {
                self.settle_all().await;
                self.store.close().await.unwrap();
                self.naive.iter_mut().for_each(|naive| naive.done.clear());
                self.crash(0, true).await;
            }
            Step::Crash { chance } => self.crash(chance, false).await,
        }
    }

    async fn append(&mut self, mask: u8, messages: usize, bytes: usize) {
        let mut batch = Vec::new();
        for _ in 0..messages {
            let (sender, settled) = settlement_channel();
            let share = Receipt::without_credit(Tag(self.next), sender).share();
            let mut to = Vec::new();
            for index in (0..QUEUES).filter(|index| mask >> index & 1 == 1) {
                let arguments = [("queue".into(), NAMES[index].into())].into_iter().collect();
                let share = Some((share.clone(), SettleOn::Stored));
                to.push(AppendTo { queue: self.queues[index].id(), arguments, share });
                self.naive[index].unsure.insert(self.next);
            }
            share.settle(Settlement::Accepted);
            let envelope = Envelope::new(Origin::new("a", "mqtt", "t"), payload(self.next, bytes));
            batch.push(Append { envelope, to });
            self.outstanding.push(settled);
            self.next += 1;
        }
        self.store.append(batch).await.unwrap();
    }

    /// Waits until everything that was appended is acknowledged; then everything that was done
    /// before is durable as well, if it has been written with it.
    async fn settle_all(&mut self) {
        for mut settled in std::mem::take(&mut self.outstanding) {
            let one = timeout(Duration::from_secs(20), settled.recv()).await.unwrap().unwrap();
            assert!(matches!(one.settlement, Settlement::Accepted));
        }
        for naive in &mut self.naive {
            naive.here.extend(std::mem::take(&mut naive.unsure).into_iter().map(|it| (it, 0)));
        }
    }

    async fn lease(&mut self, queue: usize, messages: usize) {
        self.settle_all().await;
        let leased = self.queues[queue].try_lease(messages, usize::MAX).await.unwrap();
        let naive = &mut self.naive[queue];
        let free = naive.here.iter().filter(|(number, _)| !naive.leased.contains_key(number));
        let expected: Vec<_> = free.map(|it| (*it.0, *it.1)).take(messages).collect();
        let found: Vec<_> =
            leased.iter().map(|one| (number(one, NAMES[queue]), one.attempts)).collect();
        assert_eq!(found, expected);
        naive.leased.extend(found.iter().zip(&leased).map(|(it, one)| (it.0, one.position)));
    }

    fn resolve(&mut self, queue: usize, pick: u8, how: u8) {
        let naive = &mut self.naive[queue];
        let picked = |at: usize| pick >> (at % 8) & 1 == 1;
        let picked: Vec<_> = naive
            .leased
            .iter()
            .enumerate()
            .filter(|it| picked(it.0))
            .map(|it| (*it.1.0, *it.1.1))
            .collect();
        let positions: Vec<_> = picked.iter().map(|it| it.1).collect();
        let how = match how {
            0 => Resolution::Released,
            1 => Resolution::Failed { attempts: u32::from(pick) },
            _ => Resolution::Done,
        };
        self.queues[queue].resolve(&positions, how);
        for (number, _) in picked {
            match how {
                Resolution::Released => drop(naive.leased.remove(&number)),
                Resolution::Failed { attempts } => drop(naive.here.insert(number, attempts)),
                Resolution::Done => {
                    naive.leased.remove(&number);
                    naive.here.remove(&number);
                    naive.done.insert(number);
                }
            }
        }
    }

    /// Makes what was done durable: an append that comes later carries it.
    async fn make_durable(&mut self) {
        self.settle_all().await;
        self.append(1, 1, 0).await;
        self.settle_all().await;
        self.naive.iter_mut().for_each(|naive| naive.done.clear());
    }

    async fn crash(&mut self, chance: u64, mut settled: bool) {
        if chance % 4 == 1 {
            self.make_durable().await;
            settled = true;
        }
        if chance % 4 == 2 {
            // The writer has written and does not get to the end of the sync.
            self.sim.stall(true);
            self.append(3, 3, 50).await;
            self.sim.wait_for_stall();
        }
        // What has been acknowledged until here has to be there.
        self.outstanding.retain_mut(|settled| settled.try_recv().is_err());
        let sure = self.next - u64::try_from(self.outstanding.len()).unwrap();
        for naive in &mut self.naive {
            let later = naive.unsure.split_off(&sure);
            let acknowledged = std::mem::replace(&mut naive.unsure, later);
            naive.here.extend(acknowledged.into_iter().map(|it| (it, 0)));
        }
        let figures = self.store.statistics();
        self.seen.moved += figures.moved_messages;
        self.seen.checkpoints += figures.checkpoints;
        self.seen.cut += figures.cut_bytes;
        let (directory, sim) = self.sim.crash(self.directory.path(), chance);
        self.sim.stall(false);
        let store =
            JournalStore::open_on(directory.path(), self.settings, Box::new(sim.clone())).unwrap();
        self.store = store;
        (self.directory, self.sim) = (directory, sim);
        self.outstanding.clear();
        self.queues = NAMES.map(|name| self.store.queue(name, DISK).unwrap()).into();
        self.check_after_crash(settled).await;
        let entries = self.store.table("t").unwrap().entries();
        let entries: BTreeMap<u8, u8> = entries.iter().map(|it| (it.0[0], it.1[0])).collect();
        assert_eq!(entries, self.table);
    }

    async fn check_after_crash(&mut self, settled: bool) {
        for (index, name) in NAMES.into_iter().enumerate() {
            let found = self.store.browse(name, None, usize::MAX).await.unwrap();
            let depth = self.queues[index].depth();
            assert_eq!(depth.messages, u64::try_from(found.len()).unwrap());
            let bytes: usize = found.iter().map(|one| one.outgoing.envelope.size()).sum();
            assert_eq!(depth.bytes, u64::try_from(bytes).unwrap());
            let numbers: Vec<_> = found.iter().map(|one| number(one, name)).collect();
            assert!(numbers.is_sorted_by(|one, other| one < other), "{name}: {numbers:?}");
            let naive = &mut self.naive[index];
            let attempts: BTreeMap<_, _> =
                numbers.iter().copied().zip(found.iter().map(|one| one.attempts)).collect();
            for (acknowledged, failed) in &naive.here {
                let here = attempts.get(acknowledged);
                assert!(here.is_some(), "{name}: {acknowledged} was lost, left are {numbers:?}");
                assert!(!settled || here == Some(failed), "{name}: attempts of {acknowledged}");
            }
            for number in &numbers {
                let known = naive.here.contains_key(number)
                    || naive.unsure.contains(number)
                    || naive.done.contains(number);
                assert!(known, "{name}: {number} came back or was never there");
            }
            *naive = Naive { here: attempts, ..Naive::default() };
        }
    }
}

/// How often things happened in all cases, since a model that never gets there shows nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    moved: u64,
    checkpoints: u64,
    cut: u64,
}

fn run(
    steps: &[Step],
    segment_bytes: u64,
    cache_bytes_max: usize,
    checkpoint_here_bytes_max: u64,
) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(segment_bytes, cache_bytes_max, checkpoint_here_bytes_max);
        for step in steps {
            world.step(step).await;
        }
        world.step(&Step::Crash { chance: 1 }).await;
        world.step(&Step::Reopen).await;
        world.seen
    })
}

#[test]
fn nothing_acknowledged_is_lost() {
    let config = ProptestConfig {
        cases: ProptestConfig::default().cases.max(300),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let steps = prop::collection::vec(step(), 1..80);
    let segment_bytes = prop_oneof![Just(512_u64), Just(2048), Just(8192)];
    let cache_bytes_max = prop_oneof![Just(0_usize), Just(2048), Just(1 << 20)];
    let checkpoint_here = prop_oneof![Just(0_u64), Just(1 << 20)];
    let all = Cell::new(Seen::default());
    let cases = (steps, segment_bytes, cache_bytes_max, checkpoint_here);
    let outcome = TestRunner::new(config).run(&cases, |case| {
        let seen = run(&case.0, case.1, case.2, case.3);
        let mut sum = all.get();
        sum.moved += seen.moved;
        sum.checkpoints += seen.checkpoints;
        sum.cut += seen.cut;
        all.set(sum);
        Ok(())
    });
    outcome.unwrap();
    let Seen { moved, checkpoints, cut } = all.get();
    assert!(moved > 100 && checkpoints > 100 && cut > 100, "{:?}", all.get());
}
