//! Recognizes messages that were accepted before, adapter by adapter.
//!
//! Invariants:
//! - A key is known only once a message with it was accepted, that is, once the guarantee of its
//!   routes was met; and it is on disk before the source hears of the acceptance, so a restart
//!   forgets none.
//! - The repeat of a message that is still under way waits for it, and is settled with it: accepted
//!   with it, or given back to the source to be tried for itself.
//! - Keys are bounded in number, age and length. At the bound of the number the oldest are
//!   forgotten and counted, so that a late repeat of one is routed again.
//! - When the keys cannot be written, messages are accepted all the same: a duplicate after a
//!   restart is better than one now.
//!
//! What it costs: the acknowledgement comes one sync later; the keys of all messages that were
//! accepted during the sync before share one entry, and its sync.

mod batch;
mod memory;

use std::{
    borrow::Cow,
    mem,
    sync::{Arc, Mutex},
};

use futures_util::future::{join, join_all};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transload_adapter::{
    Receipt, Settled, Settlement, SettlementQueue, SettlementSender, Tag, settlement_channel,
    store::{Store, StoreError, Table},
};
use transload_envelope::{Envelope, Text, Timestamp, Value};

use self::{
    batch::Batch,
    memory::{Admission, Memory},
};
use crate::{
    config::{Deduplicate, DeduplicateBy},
    metrics::DeduplicationMetrics,
    sync::lock,
};

/// How long a key may be, in bytes; a message with a longer one is not looked at.
const KEY_BYTES_MAX: usize = 512;

/// How many keys are written at once.
const BATCH_MAX: usize = 256;

/// Stands before the messages of one adapter.
#[derive(Debug)]
pub(crate) struct Deduplication {
    by: DeduplicateBy,
    memory: Mutex<Memory>,
    settle: SettlementSender,
    metrics: DeduplicationMetrics,
}

/// Writes the keys of what was accepted.
#[derive(Debug)]
pub(crate) struct Recorder {
    adapter: Text,
    shared: Arc<Deduplication>,
    settled: SettlementQueue,
    table: Arc<dyn Table>,
    /// Entries that are to be deleted.
    gone: Vec<u64>,
    failing: bool,
}

impl Deduplication {
    /// Reads what was known at the last stop.
    pub(crate) fn open(
        store: &dyn Store,
        adapter: &Text,
        settings: &Deduplicate,
        metrics: DeduplicationMetrics,
    ) -> Result<(Arc<Self>, Recorder), StoreError> {
        let table = store.table(&format!("deduplication/{adapter}"))?;
        let mut memory = Memory::new(settings.window, settings.ids_max);
        let mut unreadable = 0_u64;
        for (key, value) in table.entries() {
            match Batch::read(&key, &value) {
                Some(batch) => memory.accept(batch),
                None => unreadable += 1,
            }
        }
        if unreadable > 0 {
            warn!(%adapter, entries = unreadable, "Some known ids cannot be read.");
        }
        let (gone, _) = memory.forget(Timestamp::now());
        let (settle, settled) = settlement_channel();
        let by = settings.by.clone();
        let shared = Arc::new(Self { by, memory: Mutex::new(memory), settle, metrics });
        shared.show();
        let adapter = adapter.clone();
        let recorder =
            Recorder { adapter, shared: Arc::clone(&shared), settled, table, gone, failing: false };
        Ok((shared, recorder))
    }

    /// Lets a message pass that is the first of its key, with a receipt that is to be settled in
    /// place of its own. A repeat is settled.
    pub(crate) fn admit(&self, envelope: &Envelope, receipt: Receipt) -> Option<Receipt> {
        let Some(key) = self.key(envelope) else { return Some(receipt) };
        let admission = lock(&self.memory).admit(&key, receipt, Timestamp::now());
        match admission {
            Admission::First(tag) => Some(Receipt::without_credit(Tag(tag), self.settle.clone())),
            Admission::Waits => None,
            Admission::Repeat(receipt) => {
                self.metrics.duplicates.inc();
                receipt.settle(Settlement::Accepted);
                None
            }
        }
    }

    fn key<'a>(&self, envelope: &'a Envelope) -> Option<Cow<'a, str>> {
        let key = match &self.by {
            DeduplicateBy::Id => Cow::Borrowed(envelope.id.as_str()),
            DeduplicateBy::Header(name) => text(envelope.headers.get_ignoring_case(name)?)?,
        };
        (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
    }

    fn show(&self) {
        let known = lock(&self.memory).accepted();
        self.metrics.known.set(i64::try_from(known).unwrap_or(i64::MAX));
    }
}

/// What a header says, where that is a text or a number.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        Value::UInt(number) => Some(Cow::Owned(number.to_string())),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Value::Null
        | Value::Bool(_)
        | Value::Float(_)
        | Value::Timestamp(_)
        | Value::List(_)
        | Value::Map(_) => None,
    }
}

impl Recorder {
    /// Records until `stop` fires; what is under way then is given back to its source.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut run = Vec::with_capacity(BATCH_MAX);
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.settled.recv_many(&mut run, BATCH_MAX) => taken,
                () = stop.cancelled() => 0,
            };
            if taken == 0 {
                break;
            }
            self.record(mem::take(&mut run)).await;
        }
        lock(&self.shared.memory).release();
    }

    async fn record(&mut self, run: Vec<Settled>) {
        let is_met = |settled: &&Settled| {
            matches!(settled.settlement, Settlement::Accepted | Settlement::Replied(_))
        };
        let tags: Vec<_> = run.iter().filter(is_met).map(|settled| settled.tag.0).collect();
        let now = Timestamp::now();
        let batch = lock(&self.shared.memory).batch(&tags, now);
        let written = match &batch {
            Some(batch) => self.write(batch).await,
            None => Ok(()),
        };
        self.tell(written);
        let mut receipts = Vec::with_capacity(run.len());
        let early = {
            let mut memory = lock(&self.shared.memory);
            for Settled { tag, settlement, .. } in run {
                receipts.extend(memory.settle(tag.0).map(|taken| (taken, settlement)));
            }
            if let Some(batch) = batch {
                memory.accept(batch);
            }
            let (gone, early) = memory.forget(now);
            self.gone.extend(gone);
            early
        };
        self.shared.metrics.forgotten.inc_by(u64::try_from(early).unwrap_or(u64::MAX));
        self.shared.show();
        for ((receipt, waiting), settlement) in receipts {
            self.settle(receipt, waiting, settlement);
        }
    }

    /// Writes a batch, and deletes with the same sync what has been forgotten.
    async fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let put = self.table.put(Batch::table_key(batch.number), batch.table_value());
        let gone = mem::take(&mut self.gone);
        let deletes = gone.into_iter().map(|number| self.table.delete(Batch::table_key(number)));
        let (put, deleted) = join(put, join_all(deletes)).await;
        deleted.into_iter().chain([put]).collect()
    }

    fn settle(&self, receipt: Receipt, waiting: Vec<Receipt>, settlement: Settlement) {
        let repeats = match &settlement {
            Settlement::Accepted | Settlement::Replied(_) | Settlement::Unrouted => {
                self.shared.metrics.duplicates.inc_by(waiting.len() as u64);
                Some(settlement.clone())
            }
            // A repeat may fare better for itself; dropping its receipt gives it back.
            Settlement::Rejected { .. } | Settlement::Released { .. } => None,
        };
        receipt.settle(settlement);
        for repeat in waiting {
            if let Some(settlement) = repeats.clone() {
                repeat.settle(settlement);
            }
        }
    }

    fn tell(&mut self, written: Result<(), StoreError>) {
        let adapter = &self.adapter;
        match written {
            Ok(()) if mem::take(&mut self.failing) => {
                info!(%adapter, "Known ids are written again.");
            }
            Ok(()) => {}
            Err(error) => {
                if !mem::replace(&mut self.failing, true) {
                    warn!(%adapter, %error, "Known ids cannot be written, a restart forgets them.");
                }
            }
        }
    }
}
