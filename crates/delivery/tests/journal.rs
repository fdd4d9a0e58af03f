//! What the journal promises, in single examples.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::time::timeout;
use transload_adapter::{
    Receipt, Settlement, SettlementQueue, Tag, settlement_channel,
    store::{
        Append, AppendTo, Leased, Position, Queue, QueueSettings, Resolution, SettleOn, Storage,
        Store, StoreError,
    },
};
use transload_delivery::{
    JournalStore,
    journal::{Health, JournalSettings, OnDamage, OpenError},
};
use transload_envelope::{Envelope, Origin};

const DISK: QueueSettings = QueueSettings {
    storage: Storage::Disk,
    messages_max: 1_000_000,
    bytes_max: 1 << 40,
    age_max: None,
};

fn small() -> JournalSettings {
    JournalSettings {
        segment_bytes: 16 << 10,
        waste_bytes_max: 64 << 10,
        ..JournalSettings::default()
    }
}

fn open(directory: &TempDir) -> JournalStore {
    JournalStore::open(directory.path(), small()).unwrap()
}

fn envelope(payload: &str) -> Envelope {
    let mut envelope = Envelope::new(Origin::new("a", "mqtt", "t"), payload.to_owned());
    envelope.headers.push("n", payload);
    envelope
}

fn to(queue: &Arc<dyn Queue>) -> AppendTo {
    let arguments = [("topic".into(), queue.name().into())].into_iter().collect();
    AppendTo { queue: queue.id(), arguments, share: None }
}

fn receipt() -> (Receipt, SettlementQueue) {
    let (sender, queue) = settlement_channel();
    (Receipt::without_credit(Tag(7), sender), queue)
}

fn batch(queues: &[&Arc<dyn Queue>], payloads: &[&str]) -> Vec<Append> {
    let one = |payload: &&str| Append {
        envelope: envelope(payload),
        to: queues.iter().map(|queue| to(queue)).collect(),
    };
    payloads.iter().map(one).collect()
}

async fn append(store: &JournalStore, queues: &[&Arc<dyn Queue>], payloads: &[&str]) {
    store.append_durably(batch(queues, payloads)).await.unwrap();
}

async fn lease(queue: &Arc<dyn Queue>, messages_max: usize) -> Vec<Leased> {
    queue.try_lease(messages_max, usize::MAX).await.unwrap()
}

fn payloads(leased: &[Leased]) -> Vec<&str> {
    leased.iter().map(|one| std::str::from_utf8(&one.outgoing.envelope.payload).unwrap()).collect()
}

fn positions(leased: &[Leased]) -> Vec<Position> {
    leased.iter().map(|one| one.position).collect()
}

/// Waits until a condition is met.
async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !met() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A copy of the files, as a crash at this moment would leave them.
fn crash(directory: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn last_segment(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "journal")).max().unwrap()
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart_and_after_a_crash() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let (one, two) = (store.queue("one", DISK).unwrap(), store.queue("two", DISK).unwrap());
    append(&store, &[&one, &two], &["1", "2"]).await;
    append(&store, &[&two], &["3"]).await;
    let depth = two.depth();
    let crashed = crash(directory.path());
    store.close().await.unwrap();
    drop(store);
    for directory in [directory, crashed] {
        let store = open(&directory);
        assert_eq!(store.queue_names(), ["one", "two"]);
        let (one, two) = (store.queue("one", DISK).unwrap(), store.queue("two", DISK).unwrap());
        assert_eq!(two.depth(), depth);
        assert_eq!(payloads(&lease(&one, 9).await), ["1", "2"]);
        let leased = lease(&two, 9).await;
        assert_eq!(payloads(&leased), ["1", "2", "3"]);
        let outgoing = &leased[0].outgoing;
        assert_eq!(outgoing.arguments.get("topic").unwrap(), "two");
        assert_eq!(outgoing.envelope.headers, envelope("1").headers);
    }
}

#[tokio::test]
async fn what_is_done_stays_done_and_attempts_are_kept() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["1", "2", "3", "4"]).await;
    let leased = positions(&lease(&queue, 4).await);
    queue.resolve(&[leased[1], leased[3]], Resolution::Done);
    queue.resolve(&[leased[2]], Resolution::Failed { attempts: 5 });
    queue.resolve(&[leased[0]], Resolution::Released);
    assert_eq!(payloads(&lease(&queue, 9).await), ["1"], "the failed one stays leased");
    until("the resolutions are written", || store.statistics().records >= 8).await;
    let crashed = crash(directory.path());
    store.close().await.unwrap();
    drop(store);
    for directory in [directory, crashed] {
        let store = open(&directory);
        let leased = lease(&store.queue("q", DISK).unwrap(), 9).await;
        assert_eq!(payloads(&leased), ["1", "3"]);
        assert_eq!(leased.iter().map(|one| one.attempts).collect::<Vec<_>>(), [0, 5]);
    }
}

#[tokio::test]
async fn a_share_is_settled_after_the_sync_or_leaves_with_the_lease() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    for (on, at_once) in [(SettleOn::Stored, true), (SettleOn::Delivered, false)] {
        let (receipt, mut settled) = receipt();
        let target = AppendTo { share: Some((receipt.share(), on)), ..to(&queue) };
        store
            .append_durably(vec![Append { envelope: envelope("x"), to: vec![target] }])
            .await
            .unwrap();
        assert_eq!(settled.try_recv().is_ok(), at_once);
        let leased = queue.try_lease(1, 1).await.unwrap().remove(0);
        assert_eq!(leased.share.is_none(), at_once);
        if let Some(share) = leased.share {
            share.settle(Settlement::Accepted);
            assert!(matches!(settled.try_recv().unwrap().settlement, Settlement::Accepted));
        }
    }
}

#[tokio::test]
async fn one_message_on_an_idle_store_costs_one_sync() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let (one, two) = (store.queue("one", DISK).unwrap(), store.queue("two", DISK).unwrap());
    append(&store, &[&one], &["0"]).await;
    let before = store.statistics();
    append(&store, &[&one, &two], &["1"]).await;
    let after = store.statistics();
    assert_eq!(after.syncs - before.syncs, 1);
    assert_eq!(after.records - before.records, 2, "the batch's and the message's");
}

#[tokio::test]
async fn a_fan_out_may_go_to_both_storages() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let memory = QueueSettings { storage: Storage::Memory, ..DISK };
    let (disk, memory) = (store.queue("d", DISK).unwrap(), store.queue("m", memory).unwrap());
    let (receipt, mut settled) = receipt();
    let share = receipt.share();
    let with = |queue, share| AppendTo { share: Some((share, SettleOn::Stored)), ..to(queue) };
    let both = vec![with(&disk, share.clone()), with(&memory, share)];
    store.append(vec![Append { envelope: envelope("1"), to: both }]).await.unwrap();
    let settled = timeout(Duration::from_secs(5), settled.recv()).await.unwrap().unwrap();
    assert!(matches!(settled.settlement, Settlement::Accepted));
    assert_eq!(payloads(&lease(&memory, 9).await), ["1"]);
    assert_eq!(payloads(&lease(&disk, 9).await), ["1"]);
    assert!(store.queue("m", DISK).is_err(), "it cannot become durable while it is open");
    store.close().await.unwrap();
    drop(store);
    assert_eq!(open(&directory).queue_names(), ["d"]);
}

#[tokio::test]
async fn segments_go_when_nothing_in_them_lives() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    let text = "x".repeat(1000);
    for _ in 0..200 {
        append(&store, &[&queue], &[&text, &text]).await;
        let leased = lease(&queue, 9).await;
        queue.resolve(&positions(&leased), Resolution::Done);
    }
    until("dead segments are deleted", || store.statistics().segments <= 2).await;
    assert!(store.statistics().disk_bytes < 64 << 10);
    assert_eq!(queue.depth().messages, 0);
}

#[tokio::test]
async fn a_target_that_is_away_does_not_pin_what_others_have_done() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let (busy, away) = (store.queue("busy", DISK).unwrap(), store.queue("away", DISK).unwrap());
    let text = "x".repeat(500);
    let mut expected = Vec::new();
    for round in 0..300 {
        append(&store, &[&busy], &[&text, &text, &text]).await;
        if round % 10 == 0 {
            let payload = format!("{round}");
            append(&store, &[&away, &busy], &[&payload]).await;
            expected.push(payload);
        }
        let leased = lease(&busy, 9).await;
        queue_done(&busy, &leased);
    }
    until("old segments are emptied", || {
        let figures = store.statistics();
        figures.moved_messages > 0 && figures.segments <= 8
    })
    .await;
    let crashed = crash(directory.path());
    assert_eq!(payloads(&lease(&away, 99).await), expected);
    drop(store);
    let store = open(&crashed);
    assert_eq!(payloads(&lease(&store.queue("away", DISK).unwrap(), 99).await), expected);
}

fn queue_done(queue: &Arc<dyn Queue>, leased: &[Leased]) {
    queue.resolve(&positions(leased), Resolution::Done);
}

#[tokio::test]
async fn the_bound_of_the_disk_refuses_until_there_is_room() {
    let directory = TempDir::new().unwrap();
    let settings = JournalSettings { disk_bytes_max: 200 << 10, ..small() };
    let store = JournalStore::open(directory.path(), settings).unwrap();
    let queue = store.queue("q", DISK).unwrap();
    let text = "x".repeat(1000);
    let mut stored = 0_u64;
    let (receipt, mut settled) = receipt();
    let refused = loop {
        match store.append_durably(batch(&[&queue], &[&text])).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    assert!(matches!(store.health(), Health::Full(_)));
    let target = AppendTo { share: Some((receipt.share(), SettleOn::Stored)), ..to(&queue) };
    let one = vec![Append { envelope: envelope(&text), to: vec![target] }];
    assert!(store.append(one).await.is_err());
    assert!(matches!(settled.try_recv().unwrap().settlement, Settlement::Released { .. }));
    assert_eq!(queue.depth().messages, stored);
    assert!(store.statistics().disk_bytes <= 200 << 10);

    let leased = lease(&queue, usize::try_from(stored / 2).unwrap()).await;
    queue_done(&queue, &leased);
    until("there is room", || store.health() == Health::Ready).await;
    append(&store, &[&queue], &["last"]).await;
    assert_eq!(lease(&queue, 999).await.last().unwrap().outgoing.envelope.payload, "last");
}

#[tokio::test]
async fn a_torn_end_is_cut_off_at_every_byte() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["1", "2"]).await;
    let before = fs::metadata(last_segment(directory.path())).unwrap().len();
    append(&store, &[&queue], &["3", "4"]).await;
    let after = fs::metadata(last_segment(directory.path())).unwrap().len();
    for length in before..after {
        let copy = crash(directory.path());
        let file = fs::OpenOptions::new().write(true).open(last_segment(copy.path())).unwrap();
        file.set_len(length).unwrap();
        let store = open(&copy);
        let queue = store.queue("q", DISK).unwrap();
        let leased = lease(&queue, 9).await;
        assert!(matches!(payloads(&leased)[..], ["1", "2"] | ["1", "2", "3"]));
        append(&store, &[&queue], &["5"]).await;
        drop(store);
        let store = open(&copy);
        let leased = lease(&store.queue("q", DISK).unwrap(), 9).await;
        assert_eq!(payloads(&leased).last(), Some(&"5"));
    }
}

#[tokio::test]
async fn damage_in_the_middle_stops_or_is_set_aside() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["1"]).await;
    let before = fs::metadata(last_segment(directory.path())).unwrap().len();
    append(&store, &[&queue], &["2", "3"]).await;
    append(&store, &[&queue], &["4"]).await;
    let copy = crash(directory.path());
    let file = last_segment(copy.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[usize::try_from(before).unwrap() + 60] ^= 4;
    fs::write(&file, &bytes).unwrap();
    match JournalStore::open(copy.path(), small()) {
        Err(OpenError::Damaged { file: named, offset, .. }) => {
            assert_eq!(named, file);
            assert!((before..before + 60).contains(&offset));
        }
        other => panic!("it was opened: {other:?}"),
    }
    assert_eq!(fs::read(&file).unwrap(), bytes, "nothing has been changed");
    let settings = JournalSettings { on_damage: OnDamage::SetAside, ..small() };
    let store = JournalStore::open(copy.path(), settings).unwrap();
    assert!(copy.path().join("00000001.journal.damaged").exists());
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["5"]).await;
    drop(store);
    let store = open(&copy);
    assert_eq!(payloads(&lease(&store.queue("q", DISK).unwrap(), 9).await), ["1", "5"]);
}

#[tokio::test]
async fn damage_before_the_checkpoint_is_found_when_asked_or_when_read() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["1", "2", "3"]).await;
    store.close().await.unwrap();
    drop(store);
    let file = last_segment(directory.path());
    let mut bytes = fs::read(&file).unwrap();
    let place = bytes.windows(3).rposition(|it| it == b"\x012\x01" || it == b"\x06\x012").unwrap();
    bytes[place + 2] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let verify = JournalSettings { verify: true, ..small() };
    let refused = JournalStore::open(directory.path(), verify);
    assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{refused:?}");
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    let error = queue.try_lease(9, usize::MAX).await.unwrap_err();
    assert!(error.to_string().contains("00000001.journal is damaged at offset"), "{error}");
    assert!(matches!(store.health(), Health::Failed(_)));
    assert!(store.append(batch(&[&queue], &["4"])).await.is_err());
    drop(store);
    let settings = JournalSettings { on_damage: OnDamage::SetAside, ..verify };
    let store = JournalStore::open(directory.path(), settings).unwrap();
    let lost = store.statistics().lost_messages;
    let queue = store.queue("q", DISK).unwrap();
    let left = lease(&queue, 9).await.len();
    assert_eq!(lost + u64::try_from(left).unwrap(), 3);
    assert!(lost > 0);
}

#[tokio::test]
async fn a_second_store_is_refused_and_files_are_private() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data");
    let store = JournalStore::open(&path, small()).unwrap();
    assert!(matches!(JournalStore::open(&path, small()), Err(OpenError::Locked(_))));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    store.queue("q", DISK).unwrap();
    store.close().await.unwrap();
    for entry in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    drop(store);
    drop(JournalStore::open(&path, small()).unwrap());
}

#[tokio::test]
async fn a_table_survives_and_its_old_entries_take_no_space() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let table = store.table("t").unwrap();
    table.put("gone".into(), "1".into()).await.unwrap();
    table.delete("gone".into()).await.unwrap();
    for round in 0..200_u32 {
        table.put("key".into(), vec![u8::try_from(round).unwrap(); 1000].into()).await.unwrap();
    }
    until("old entries are gone", || store.statistics().segments <= 2).await;
    let crashed = crash(directory.path());
    drop(store);
    for directory in [directory, crashed] {
        let entries = open(&directory).table("t").unwrap().entries();
        assert_eq!(entries, [("key".into(), vec![199; 1000].into())]);
    }
}

#[tokio::test]
async fn a_removed_queue_stays_removed_and_its_name_can_be_used_again() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["1"]).await;
    let (receipt, mut settled) = receipt();
    let target = AppendTo { share: Some((receipt.share(), SettleOn::Delivered)), ..to(&queue) };
    store.append_durably(vec![Append { envelope: envelope("2"), to: vec![target] }]).await.unwrap();
    store.remove_queue("q").await.unwrap();
    assert!(matches!(settled.try_recv().unwrap().settlement, Settlement::Released { .. }));
    assert!(matches!(queue.lease(1, 1).await, Err(StoreError::Closed)));
    let crashed = crash(directory.path());
    let again = store.queue("q", DISK).unwrap();
    append(&store, &[&again], &["3"]).await;
    drop(store);
    assert!(open(&crashed).queue_names().is_empty());
    let store = open(&directory);
    assert_eq!(payloads(&lease(&store.queue("q", DISK).unwrap(), 9).await), ["3"]);
}

#[tokio::test]
async fn a_lease_that_is_given_up_takes_nothing() {
    let directory = TempDir::new().unwrap();
    let settings = JournalSettings { cache_bytes_max: 0, ..small() };
    let store = JournalStore::open(directory.path(), settings).unwrap();
    let queue = store.queue("q", DISK).unwrap();
    append(&store, &[&queue], &["1", "2"]).await;
    {
        let mut lease = std::pin::pin!(queue.lease(9, usize::MAX));
        let once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(lease.as_mut().poll(context).is_ready())
        });
        // It is at the disk now, or has come back already.
        if once.await {
            return;
        }
    }
    assert_eq!(payloads(&lease(&queue, 9).await), ["1", "2"]);
}

#[tokio::test]
async fn messages_can_be_looked_at_and_taken_out() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("dead", DISK).unwrap();
    append(&store, &[&queue], &["1", "2", "3", "4"]).await;
    lease(&queue, 1).await;
    let all = store.browse("dead", None, 9).await.unwrap();
    assert_eq!(payloads(&all), ["1", "2", "3", "4"]);
    let some = store.browse("dead", Some(all[1].position), 1).await.unwrap();
    assert_eq!(payloads(&some), ["3"]);
    assert_eq!(store.discard("dead", &[all[0].position, all[2].position]), 1, "one is leased");
    assert_eq!(queue.depth().messages, 3);
    assert_eq!(payloads(&lease(&queue, 9).await), ["2", "4"]);
    assert!(store.browse("other", None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_messages_go_and_a_waiting_lease_is_woken() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let age_max = Some(Duration::from_millis(30));
    let queue = store.queue("q", QueueSettings { messages_max: 1, age_max, ..DISK }).unwrap();
    append(&store, &[&queue], &["1"]).await;
    assert!(queue.is_full());
    timeout(Duration::from_secs(5), queue.room()).await.unwrap();
    assert_eq!((queue.depth().messages, queue.dropped_by_age()), (0, 1));
    let waiting = queue.lease(1, 1);
    let queues = [&queue];
    let (leased, ()) = tokio::join!(waiting, append(&store, &queues, &["2"]));
    assert_eq!(payloads(&leased.unwrap()), ["2"]);
}

#[tokio::test]
async fn a_closed_store_takes_nothing_and_wakes_everybody() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let queue = store.queue("q", DISK).unwrap();
    let waiting = queue.lease(1, 1);
    let (leased, closed) = tokio::join!(waiting, store.close());
    assert!(matches!(leased, Err(StoreError::Closed)));
    closed.unwrap();
    assert!(matches!(store.append(batch(&[&queue], &["1"])).await, Err(StoreError::Closed)));
    assert_eq!(store.health(), Health::Closed);
}

#[tokio::test]
async fn a_message_may_go_to_a_queue_twice() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let (one, two) = (store.queue("one", DISK).unwrap(), store.queue("two", DISK).unwrap());
    let to = vec![to(&one), to(&two), to(&one)];
    store.append_durably(vec![Append { envelope: envelope("1"), to }]).await.unwrap();
    let leased = lease(&one, 9).await;
    assert_eq!(payloads(&leased), ["1", "1"]);
    queue_done(&one, &leased[..1]);
    assert_eq!(one.depth().messages, 1);
    assert_eq!(payloads(&lease(&two, 9).await), ["1"]);
}
