//! What queues in memory promise.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use transload_adapter::{
    Receipt, Settlement, SettlementQueue, Tag, settlement_channel,
    store::{
        Append, AppendTo, Position, Queue, QueueId, QueueSettings, Resolution, SettleOn, Storage,
        Store, StoreError,
    },
};
use transload_delivery::MemoryStore;
use transload_envelope::{Arguments, Envelope, Origin};

const SETTINGS: QueueSettings = QueueSettings {
    storage: Storage::Memory,
    messages_max: 1000,
    bytes_max: 1_000_000,
    age_max: None,
};

fn envelope(payload: &'static str) -> Envelope {
    Envelope::new(Origin::new("a", "mqtt", "t"), payload)
}

fn to(queue: QueueId) -> AppendTo {
    AppendTo { queue, arguments: Arguments::default(), share: None }
}

fn receipt() -> (Receipt, SettlementQueue) {
    let (sender, queue) = settlement_channel();
    (Receipt::without_credit(Tag(7), sender), queue)
}

async fn append(store: &MemoryStore, queue: &Arc<dyn Queue>, payloads: &[&'static str]) {
    let batch = payloads
        .iter()
        .map(|payload| Append { envelope: envelope(payload), to: vec![to(queue.id())] })
        .collect();
    store.append(batch).await.unwrap();
}

async fn lease(queue: &Arc<dyn Queue>, messages_max: usize) -> Vec<(Position, Bytes)> {
    let leased = queue.try_lease(messages_max, usize::MAX).await.unwrap();
    leased.into_iter().map(|one| (one.position, one.outgoing.envelope.payload)).collect()
}

fn payloads(leased: &[(Position, Bytes)]) -> Vec<&str> {
    leased.iter().map(|(_, payload)| std::str::from_utf8(payload).unwrap()).collect()
}

#[tokio::test]
async fn a_released_message_has_its_old_place() {
    let store = MemoryStore::new();
    let queue = store.queue("q", SETTINGS).unwrap();
    append(&store, &queue, &["1", "2", "3", "4"]).await;
    let first = lease(&queue, 3).await;
    assert_eq!(payloads(&first), ["1", "2", "3"]);
    queue.resolve(&[first[2].0, first[0].0], Resolution::Released);
    queue.resolve(&[first[1].0], Resolution::Done);
    assert_eq!(payloads(&lease(&queue, 9).await), ["1", "3", "4"]);
    assert_eq!(payloads(&lease(&queue, 9).await), Vec::<&str>::new());
    assert_eq!(queue.depth().messages, 3);
}

#[tokio::test]
async fn a_lease_keeps_to_its_bytes_but_gives_at_least_one() {
    let store = MemoryStore::new();
    let queue = store.queue("q", SETTINGS).unwrap();
    append(&store, &queue, &["1", "2", "3"]).await;
    let one = envelope("1").size();
    assert_eq!(queue.try_lease(9, 2 * one).await.unwrap().len(), 2);
    assert_eq!(queue.try_lease(9, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn failed_attempts_stay_with_the_message() {
    let store = MemoryStore::new();
    let queue = store.queue("q", SETTINGS).unwrap();
    append(&store, &queue, &["1"]).await;
    let leased = lease(&queue, 1).await;
    queue.resolve(&[leased[0].0], Resolution::Failed { attempts: 3 });
    assert!(lease(&queue, 1).await.is_empty(), "it stays leased");
    queue.resolve(&[leased[0].0], Resolution::Released);
    assert_eq!(queue.try_lease(1, 1).await.unwrap()[0].attempts, 3);
}

#[tokio::test]
async fn a_waiting_lease_is_woken_by_an_append_and_by_a_release() {
    let store = Arc::new(MemoryStore::new());
    let queue = store.queue("q", SETTINGS).unwrap();
    let waiting = async { queue.lease(1, 1).await.unwrap().len() };
    let (count, ()) = tokio::join!(waiting, append(&store, &queue, &["1"]));
    assert_eq!(count, 1);
    let release = async { queue.resolve(&[Position(0)], Resolution::Released) };
    let (count, ()) = tokio::join!(async { queue.lease(1, 1).await.unwrap().len() }, release);
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_share_is_settled_when_its_append_asked_for_it() {
    let store = MemoryStore::new();
    let queue = store.queue("q", SETTINGS).unwrap();
    for (on, before_lease) in [(SettleOn::Stored, true), (SettleOn::Delivered, false)] {
        let (receipt, mut settled) = receipt();
        let target = AppendTo { share: Some((receipt.share(), on)), ..to(queue.id()) };
        store.append(vec![Append { envelope: envelope("x"), to: vec![target] }]).await.unwrap();
        assert_eq!(settled.try_recv().is_ok(), before_lease);
        let leased = queue.try_lease(1, 1).await.unwrap().remove(0);
        assert_eq!(leased.share.is_none(), before_lease);
        if let Some(share) = leased.share {
            share.settle(Settlement::Accepted);
            assert!(matches!(settled.try_recv().unwrap().settlement, Settlement::Accepted));
        }
    }
}

#[tokio::test]
async fn a_bound_is_reached_and_left() {
    let store = MemoryStore::new();
    let queue = store.queue("q", QueueSettings { messages_max: 2, ..SETTINGS }).unwrap();
    append(&store, &queue, &["1"]).await;
    assert!(!queue.is_full());
    append(&store, &queue, &["2", "3"]).await;
    assert!(queue.is_full());
    assert!(timeout(Duration::from_millis(5), queue.room()).await.is_err());
    let leased = lease(&queue, 1).await;
    assert_eq!(queue.drop_oldest(), 2, "the leased one stays");
    assert!(!queue.is_full());
    append(&store, &queue, &["4"]).await;
    let done = async { queue.resolve(&[leased[0].0], Resolution::Done) };
    tokio::join!(queue.room(), done);
    assert_eq!(payloads(&lease(&queue, 9).await), ["4"]);
}

#[tokio::test]
async fn old_messages_go_and_are_counted() {
    let store = MemoryStore::new();
    let age_max = Some(Duration::from_millis(20));
    let settings = QueueSettings { messages_max: 1, age_max, ..SETTINGS };
    let queue = store.queue("q", settings).unwrap();
    let (receipt, mut settled) = receipt();
    let share = Some((receipt.share(), SettleOn::Delivered));
    let to = vec![AppendTo { share, ..to(queue.id()) }];
    store.append(vec![Append { envelope: envelope("1"), to }]).await.unwrap();
    timeout(Duration::from_secs(5), queue.room()).await.unwrap();
    assert_eq!((queue.depth().messages, queue.dropped_by_age()), (0, 1));
    assert!(matches!(settled.try_recv().unwrap().settlement, Settlement::Accepted));
}

#[tokio::test]
async fn a_removed_queue_releases_its_messages_and_ends_its_leases() {
    let store = MemoryStore::new();
    let queue = store.queue("q", SETTINGS).unwrap();
    let (receipt, mut settled) = receipt();
    let share = Some((receipt.share(), SettleOn::Delivered));
    let to = vec![AppendTo { share, ..to(queue.id()) }];
    store.append(vec![Append { envelope: envelope("1"), to }]).await.unwrap();
    assert_eq!(store.queue_names(), ["q"]);
    store.remove_queue("q").await.unwrap();
    assert!(matches!(settled.try_recv().unwrap().settlement, Settlement::Released { .. }));
    assert!(matches!(queue.lease(1, 1).await, Err(StoreError::Closed)));
    assert!(store.queue_names().is_empty());
    let again = store.queue("q", SETTINGS).unwrap();
    assert_ne!(again.id(), queue.id());
    assert_eq!(again.depth().messages, 0);
}

#[tokio::test]
async fn a_table_gives_back_what_was_put() {
    let store = MemoryStore::new();
    let table = store.table("t").unwrap();
    table.put("b".into(), "1".into()).await.unwrap();
    table.put("a".into(), "2".into()).await.unwrap();
    table.put("b".into(), "3".into()).await.unwrap();
    let entries = store.table("t").unwrap().entries();
    assert_eq!(entries, [("a".into(), "2".into()), ("b".into(), Bytes::from("3"))]);
    table.delete("a".into()).await.unwrap();
    assert_eq!((table.get(b"a"), table.get(b"b")), (None, Some("3".into())));
}
