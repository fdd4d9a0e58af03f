//! Directories as version 1 of the format wrote them, good and damaged, are read for ever.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::{fs, path::PathBuf};

use tempfile::TempDir;
use transload_adapter::store::{Append, AppendTo, QueueSettings, Resolution, Storage, Store};
use transload_delivery::{
    JournalStore,
    journal::{JournalSettings, OnDamage, OpenError},
};
use transload_envelope::{Envelope, Origin};

const DISK: QueueSettings =
    QueueSettings { storage: Storage::Disk, messages_max: 100, bytes_max: 100_000, age_max: None };

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy of a fixture, since opening it changes it.
fn fixture(name: &str) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn open(directory: &TempDir) -> Result<JournalStore, OpenError> {
    JournalStore::open(directory.path(), JournalSettings { verify: true, ..Default::default() })
}

async fn held(store: &JournalStore, queue: &str) -> Vec<(String, u32, String)> {
    let found = store.browse(queue, None, 99).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let one = |one: &transload_adapter::store::Leased| {
        let argument = one.outgoing.arguments.get("to").unwrap().to_string();
        (text(&one.outgoing.envelope.payload), one.attempts, argument)
    };
    found.iter().map(one).collect()
}

fn message(payload: &str, attempts: u32, queue: &str) -> (String, u32, String) {
    (payload.to_owned(), attempts, queue.to_owned())
}

#[tokio::test]
async fn a_good_directory_is_read() {
    let directory = fixture("v1-good");
    let store = open(&directory).unwrap();
    let orders = [message("1", 2, "orders"), message("3", 0, "orders"), message("4", 0, "orders")];
    assert_eq!(held(&store, "orders").await, orders);
    assert_eq!(held(&store, "audit").await.len(), 4);
    assert_eq!(store.table("retained").unwrap().entries(), [("a".into(), "2".into())]);
    assert_eq!(store.statistics().cut_bytes, 0);
}

#[tokio::test]
async fn a_torn_end_is_cut_off() {
    let directory = fixture("v1-torn");
    let store = open(&directory).unwrap();
    assert_eq!(held(&store, "audit").await.len(), 3);
    assert!(store.statistics().cut_bytes > 0);
}

#[tokio::test]
async fn damage_is_told_with_its_place_or_set_aside() {
    let directory = fixture("v1-flipped");
    let Err(OpenError::Damaged { file, offset, reason }) = open(&directory) else {
        panic!("it was opened");
    };
    assert!(file.ends_with("00000001.journal"), "{}", file.display());
    assert!(offset > 36, "{offset}");
    assert!(reason.contains("checksum"), "{reason}");
    let settings =
        JournalSettings { verify: true, on_damage: OnDamage::SetAside, ..Default::default() };
    let store = JournalStore::open(directory.path(), settings).unwrap();
    assert!(directory.path().join("00000001.journal.damaged").exists());
    assert!(store.statistics().lost_messages > 0);
    let settings = JournalSettings { on_damage: OnDamage::Stop, ..settings };
    drop(store);
    drop(JournalStore::open(directory.path(), settings).unwrap());
}

#[tokio::test]
async fn a_version_that_is_not_known_is_refused_and_left_alone() {
    for (name, version) in [("v2-segment", 2), ("v9-checkpoint", 9)] {
        let directory = fixture(name);
        let settings = JournalSettings { on_damage: OnDamage::SetAside, ..Default::default() };
        let refused = JournalStore::open(directory.path(), settings);
        match refused {
            Err(OpenError::Version { version: found, .. }) => assert_eq!(found, version),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Writes the fixtures. They are there already; this is how they were made.
#[tokio::test]
#[ignore = "it writes the fixtures"]
async fn write_fixtures() {
    let directory = TempDir::new().unwrap();
    let append = async |store: &JournalStore, names: &[&str], payload: &str| {
        let to = names.iter().map(|name| AppendTo {
            queue: store.queue(name, DISK).unwrap().id(),
            arguments: [("to".into(), (*name).into())].into_iter().collect(),
            share: None,
        });
        let envelope = Envelope::new(Origin::new("a", "mqtt", "t/1"), payload.to_owned());
        store.append_durably(vec![Append { envelope, to: to.collect() }]).await.unwrap();
    };
    let store = open(&directory).unwrap();
    for payload in ["1", "2", "3"] {
        append(&store, &["orders", "audit"], payload).await;
    }
    let orders = store.queue("orders", DISK).unwrap();
    let leased = orders.try_lease(3, usize::MAX).await.unwrap();
    orders.resolve(&[leased[1].position], Resolution::Done);
    store.table("retained").unwrap().put("a".into(), "1".into()).await.unwrap();
    store.close().await.unwrap();
    drop((store, orders));
    let store = open(&directory).unwrap();
    let orders = store.queue("orders", DISK).unwrap();
    let leased = orders.try_lease(1, usize::MAX).await.unwrap();
    orders.resolve(&[leased[0].position], Resolution::Failed { attempts: 2 });
    store.table("retained").unwrap().put("a".into(), "2".into()).await.unwrap();
    append(&store, &["orders", "audit"], "4").await;
    let segment = "00000001.journal";
    let log = fs::read(directory.path().join(segment)).unwrap();
    let checkpoint = fs::read(directory.path().join("checkpoint")).unwrap();
    let write = |name: &str, log: &[u8], checkpoint: &[u8]| {
        fs::create_dir_all(folder(name)).unwrap();
        fs::write(folder(name).join(segment), log).unwrap();
        fs::write(folder(name).join("checkpoint"), checkpoint).unwrap();
    };
    write("v1-good", &log, &checkpoint);
    write("v1-torn", &log[..log.len() - 20], &checkpoint);
    let mut flipped = log.clone();
    flipped[250] ^= 1;
    write("v1-flipped", &flipped, &checkpoint);
    let mut later = log.clone();
    later[8] = 2;
    let crc = crc32fast::hash(&later[..32]).to_le_bytes();
    later[32..36].copy_from_slice(&crc);
    write("v2-segment", &later, &checkpoint);
    let mut later = checkpoint.clone();
    later[8] = 9;
    write("v9-checkpoint", &log, &later);
}
