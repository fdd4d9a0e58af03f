use std::{io, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::timeout;
use transload_adapter::{
    Receipt, Settlement, SettlementQueue, Tag, settlement_channel,
    store::{
        Append, AppendTo, Position, Queue, QueueSettings, Resolution, SettleOn, Storage, Store,
        StoreError,
    },
};
use transload_envelope::{Arguments, Envelope, Origin};

use super::sim::Sim;
use crate::journal::{Health, JournalSettings, JournalStore};

const DISK: QueueSettings = QueueSettings {
    storage: Storage::Disk,
    messages_max: 1000,
    bytes_max: 1_000_000,
    age_max: None,
};

fn open(directory: &TempDir, sim: &Sim) -> JournalStore {
    let settings = JournalSettings::default();
    JournalStore::open_on(directory.path(), settings, Box::new(sim.clone())).unwrap()
}

fn one(queue: &Arc<dyn Queue>, payload: &str) -> (Vec<Append>, SettlementQueue) {
    let (sender, settled) = settlement_channel();
    let share = Receipt::without_credit(Tag(1), sender).share();
    let share = Some((share, SettleOn::Stored));
    let to = vec![AppendTo { queue: queue.id(), arguments: Arguments::default(), share }];
    let envelope = Envelope::new(Origin::new("a", "mqtt", "t"), payload.to_owned());
    (vec![Append { envelope, to }], settled)
}

async fn settlement(mut settled: SettlementQueue) -> Settlement {
    timeout(Duration::from_secs(10), settled.recv()).await.unwrap().unwrap().settlement
}

async fn payloads(queue: &Arc<dyn Queue>) -> Vec<String> {
    let leased = queue.try_lease(99, usize::MAX).await.unwrap();
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    leased.iter().map(|one| text(&one.outgoing.envelope.payload)).collect()
}

async fn store_with(
    payload: &str,
    directory: &TempDir,
    sim: &Sim,
) -> (JournalStore, Arc<dyn Queue>) {
    let store = open(directory, sim);
    let queue = store.queue("q", DISK).unwrap();
    store.append_durably(one(&queue, payload).0).await.unwrap();
    (store, queue)
}

#[tokio::test]
async fn an_error_of_sync_or_write_or_cut_poisons() {
    type Break = fn(&Sim);
    let breaks: [Break; 3] = [
        Sim::fail_syncs,
        |sim| sim.fail_writes(Some(io::ErrorKind::Other)),
        |sim| {
            sim.fail_writes(Some(io::ErrorKind::StorageFull));
            sim.fail_cuts();
        },
    ];
    for break_it in breaks {
        let (directory, sim) = (TempDir::new().unwrap(), Sim::default());
        let (store, queue) = store_with("1", &directory, &sim).await;
        let waiting = store.queue("other", DISK).unwrap();
        store.append_durably(one(&queue, "2").0).await.unwrap();
        break_it(&sim);
        let (batch, settled) = one(&queue, "3");
        // It is handed over before the fault, so it is the share that tells.
        store.append(batch).await.unwrap();
        let woken = timeout(Duration::from_secs(10), waiting.lease(1, 1)).await.unwrap();
        assert!(matches!(woken, Err(StoreError::Failed(_))));
        assert!(matches!(settlement(settled).await, Settlement::Released { .. }));
        assert!(matches!(store.health(), Health::Failed(_)));
        assert!(store.statistics().poisoned);
        let (batch, settled) = one(&queue, "4");
        assert!(matches!(store.append(batch).await, Err(StoreError::Failed(_))));
        assert!(matches!(settlement(settled).await, Settlement::Released { .. }));
        assert!(matches!(
            store.append_durably(one(&queue, "5").0).await,
            Err(StoreError::Failed(_))
        ));
        assert!(matches!(queue.try_lease(1, 1).await, Err(StoreError::Failed(_))));
        assert!(store.queue("new", DISK).is_err());
        let table = store.table("t");
        assert!(table.is_err());
        assert!(matches!(store.close().await, Err(StoreError::Failed(_))));
        drop(store);

        let (crashed, sim) = sim.crash(directory.path(), 1);
        let store = open(&crashed, &sim);
        let left = payloads(&store.queue("q", DISK).unwrap()).await;
        assert_eq!(left[..2], ["1", "2"], "what was acknowledged is there");
        assert!(left.len() <= 3);
    }
}

#[tokio::test]
async fn a_disk_without_space_refuses_and_goes_on_when_there_is_some() {
    let (directory, sim) = (TempDir::new().unwrap(), Sim::default());
    let (store, queue) = store_with("1", &directory, &sim).await;
    store.append_durably(one(&queue, "2").0).await.unwrap();
    let table = store.table("t").unwrap();
    table.put("k".into(), "v".into()).await.unwrap();
    sim.fail_writes(Some(io::ErrorKind::StorageFull));

    let first = queue.try_lease(1, usize::MAX).await.unwrap()[0].position;
    queue.resolve(&[first], Resolution::Done);
    let (batch, settled) = one(&queue, "3");
    assert!(matches!(store.append_durably(batch).await, Err(StoreError::Full(_))));
    assert!(matches!(settlement(settled).await, Settlement::Released { .. }));
    assert!(matches!(store.health(), Health::Full(_)));
    let (batch, settled) = one(&queue, "4");
    assert!(matches!(store.append(batch).await, Err(StoreError::Full(_))));
    assert!(matches!(settlement(settled).await, Settlement::Released { .. }));
    assert!(matches!(table.put("k".into(), "w".into()).await, Err(StoreError::Full(_))));
    assert_eq!(queue.depth().messages, 1);
    // What makes room, and what names a queue, is kept and written later.
    let named = store.queue("named", DISK).unwrap();
    let deleted = table.delete("k".into());

    let later = async {
        sim.fail_writes(None);
        while store.health() != Health::Ready {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.append_durably(one(&named, "5").0).await.unwrap();
    };
    let (deleted, ()) =
        timeout(Duration::from_secs(10), async { tokio::join!(deleted, later) }).await.unwrap();
    deleted.unwrap();
    store.append_durably(one(&queue, "6").0).await.unwrap();
    let (crashed, sim) = sim.crash(directory.path(), 1);
    drop(store);
    let store = open(&crashed, &sim);
    assert_eq!(payloads(&store.queue("q", DISK).unwrap()).await, ["2", "6"]);
    assert_eq!(payloads(&store.queue("named", DISK).unwrap()).await, ["5"]);
    assert!(store.table("t").unwrap().entries().is_empty());
}

#[tokio::test]
async fn a_panic_of_the_writer_poisons() {
    let (directory, sim) = (TempDir::new().unwrap(), Sim::default());
    let (store, queue) = store_with("1", &directory, &sim).await;
    sim.panic_at_sync();
    let (batch, settled) = one(&queue, "2");
    store.append(batch).await.unwrap();
    assert!(matches!(settlement(settled).await, Settlement::Released { .. }));
    let lease = timeout(Duration::from_secs(10), queue.lease(1, 1)).await.unwrap();
    drop(lease);
    while !matches!(store.health(), Health::Failed(_)) {
        tokio::task::yield_now().await;
    }
    assert!(matches!(store.append(one(&queue, "3").0).await, Err(StoreError::Failed(_))));
    queue.resolve(&[Position(1)], Resolution::Done);
}
