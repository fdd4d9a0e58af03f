//! A process that is killed: what a session knows of packet identifiers is on disk before it is said.

use std::{path::Path, sync::Arc};

use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{
        QoS,
        v5::{self, Packet, PubRecReason, PubRelReason},
    },
};
use tempfile::TempDir;
use transload_adapter::{Settlement, store::Store};
use transload_delivery::{JournalStore, journal::JournalSettings};

use crate::common::{
    Listener, V4, V5, outgoing, soon, start_with, until, v4_connect, v5_filter, v5_persistent,
};

fn open(folder: &Path) -> Arc<dyn Store> {
    Arc::new(JournalStore::open(folder, JournalSettings::default()).unwrap())
}

/// A listener whose process can be killed.
struct Process {
    folder: TempDir,
    listener: Listener,
}

impl Process {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = start_with("", open(folder.path())).await;
        Self { folder, listener }
    }

    /// The files as a kill leaves them, and a new process on them. The old one may say what it wants
    /// meanwhile: nobody hears it, and its files are not looked at any more.
    async fn kill(self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        drop(self.listener);
        let listener = start_with("", open(folder.path())).await;
        Self { folder, listener }
    }

    async fn client(&self) -> V5 {
        let mut client = V5::open(self.listener.address).await;
        client.connect(v5_persistent("s", false)).await;
        client
    }

    async fn resumed(&self) -> V5 {
        let mut client = V5::open(self.listener.address).await;
        assert!(client.connect(v5_persistent("s", false)).await.session_present);
        client
    }
}

async fn pubrec(client: &mut V5, pkid: u16) -> PubRecReason {
    match client.recv().await {
        Packet::PubRec(rec) if rec.pkid == pkid => rec.reason,
        other => panic!("not PUBREC {pkid}: {other:?}"),
    }
}

async fn pubrel(client: &mut V5, pkid: u16) {
    match client.recv().await {
        Packet::PubRel(rel) => assert_eq!((rel.pkid, rel.reason), (pkid, PubRelReason::Success)),
        other => panic!("not PUBREL {pkid}: {other:?}"),
    }
}

async fn pubcomp(client: &mut V5, pkid: u16) {
    match client.recv().await {
        Packet::PubComp(comp) => assert_eq!(comp.pkid, pkid),
        other => panic!("not PUBCOMP {pkid}: {other:?}"),
    }
}

async fn release(client: &mut V5, pkid: u16) {
    client.send(Packet::PubRel(v5::PubRel::new(pkid, None))).await;
}

#[tokio::test]
async fn a_message_that_was_taken_is_not_taken_again_after_a_kill() {
    let mut process = Process::start().await;
    let mut client = process.client().await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"once").await;
    process.listener.receive().await.receipt.settle(Settlement::Accepted);
    pubrec(&mut client, 5).await;
    let mut process = process.kill().await;
    let mut client = process.resumed().await;
    // The client has not seen PUBREC.
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"once").await;
    pubrec(&mut client, 5).await;
    process.listener.receives_nothing().await;
    release(&mut client, 5).await;
    pubcomp(&mut client, 5).await;
    // After PUBCOMP the identifier is free, also for whoever is started next.
    let mut process = process.kill().await;
    let mut client = process.resumed().await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"another").await;
    let delivery = process.listener.receive().await;
    assert_eq!(&delivery.envelope.payload[..], b"another");
    delivery.receipt.settle(Settlement::Accepted);
    pubrec(&mut client, 5).await;
}

#[tokio::test]
async fn a_message_on_its_way_keeps_its_identifier_over_a_kill() {
    let process = Process::start().await;
    let mut client = process.client().await;
    client.listen("t", QoS::ExactlyOnce).await;
    for payload in [b"1", b"2", b"3"] {
        process.listener.send("qos = 2", outgoing("t", payload)).await.unwrap();
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.message().await.pkid);
    }
    let process = process.kill().await;
    let mut client = process.resumed().await;
    for (id, payload) in ids.iter().zip([b"1", b"2", b"3"]) {
        let message = client.message().await;
        assert_eq!((message.pkid, &message.payload[..]), (*id, &payload[..]));
        assert!(message.dup, "it may have been sent before");
    }
}

#[tokio::test]
async fn a_message_that_the_client_has_is_released_and_not_sent_again_after_a_kill() {
    let process = Process::start().await;
    let mut client = process.client().await;
    client.listen("t", QoS::ExactlyOnce).await;
    for payload in [b"1", b"2"] {
        process.listener.send("qos = 2", outgoing("t", payload)).await.unwrap();
    }
    let (first, second) = (client.message().await.pkid, client.message().await.pkid);
    client.send(Packet::PubRec(v5::PubRec::new(first, None))).await;
    pubrel(&mut client, first).await;
    let process = process.kill().await;
    let mut client = process.resumed().await;
    pubrel(&mut client, first).await;
    let message = client.message().await;
    assert_eq!((message.pkid, &message.payload[..]), (second, &b"2"[..]));
    client.send(Packet::PubComp(v5::PubComp::new(first, None))).await;
    client.send(Packet::PubRec(v5::PubRec::new(second, None))).await;
    pubrel(&mut client, second).await;
    client.send(Packet::PubComp(v5::PubComp::new(second, None))).await;
    client.ping().await;
    until("the queue is empty", || depth(&process.listener) == 0).await;
    // Nothing is left of it: neither in the queue nor among the identifiers.
    drop(client);
    until("the client is gone", || {
        process.listener.count(transload_adapter::Event::ConnectionClosed) == 1
    })
    .await;
    let process = process.kill().await;
    let mut client = process.resumed().await;
    client.nothing().await;
}

fn depth(listener: &Listener) -> u64 {
    let settings = transload_adapter::store::QueueSettings {
        storage: transload_adapter::store::Storage::Disk,
        messages_max: 1000,
        bytes_max: 1 << 20,
        age_max: None,
    };
    listener.context.store.queue("mqtt/devices/session/s", settings).unwrap().depth().messages
}

#[tokio::test]
async fn a_session_that_has_ended_leaves_no_identifiers_behind() {
    let mut process = Process::start().await;
    let mut client = process.client().await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"x").await;
    process.listener.receive().await.receipt.settle(Settlement::Accepted);
    pubrec(&mut client, 5).await;
    drop(client);
    let mut clean = V5::open(process.listener.address).await;
    clean.connect(v5_persistent("s", true)).await;
    let mut process = process.kill().await;
    let mut client = process.resumed().await;
    client.publish("gateway/a", QoS::ExactlyOnce, 5, b"y").await;
    let delivery = process.listener.receive().await;
    assert_eq!(&delivery.envelope.payload[..], b"y");
    let packets = process.listener.context.store.table("mqtt/devices/packets").unwrap();
    assert_eq!(packets.entries(), []);
}

#[tokio::test]
async fn retained_messages_and_those_of_a_group_keep_their_identifiers_too() {
    let process = Process::start().await;
    let mut publisher = V5::open(process.listener.address).await;
    publisher.connect(crate::common::v5_connect("p")).await;
    let retained = v5::Publish {
        retain: true,
        ..crate::common::v5_publish("r", QoS::ExactlyOnce, 1, b"kept")
    };
    publisher.send(Packet::Publish(retained)).await;
    pubrec(&mut publisher, 1).await;
    let mut client = process.client().await;
    let filters = vec![v5_filter("r", QoS::ExactlyOnce), v5_filter("$share/g/t", QoS::ExactlyOnce)];
    client.subscribe(filters).await;
    process.listener.send("qos = 2", outgoing("t", b"shared")).await.unwrap();
    let mut before = Vec::new();
    for _ in 0..2 {
        let message = client.message().await;
        before.push((message.topic.clone(), message.payload.clone(), message.pkid, message.retain));
    }
    // That the group is done with its message is on disk with the next sync.
    publisher.retain("sync", b"x").await;
    let process = process.kill().await;
    // Another member must not get what the first may have.
    let mut other = V5::open(process.listener.address).await;
    other.connect(crate::common::v5_connect("other")).await;
    other.listen("$share/g/t", QoS::ExactlyOnce).await;
    other.nothing().await;
    let mut client = process.resumed().await;
    let mut after = Vec::new();
    for _ in 0..2 {
        let message = client.message().await;
        after.push((message.topic.clone(), message.payload.clone(), message.pkid, message.retain));
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn the_same_in_3_1_1() {
    let process = Process::start().await;
    let connect = || v4::Connect { clean_session: false, ..v4_connect("s") };
    let mut client = V4::open(process.listener.address).await;
    client.connect(connect()).await;
    client.listen("t", rumqttc::QoS::ExactlyOnce).await;
    process.listener.send("qos = 2", outgoing("t", b"x")).await.unwrap();
    let v4::Packet::Publish(message) = client.recv().await else { panic!("not PUBLISH") };
    client.send(v4::Packet::PubRec(v4::PubRec::new(message.pkid))).await;
    assert!(matches!(client.recv().await, v4::Packet::PubRel(rel) if rel.pkid == message.pkid));
    let process = process.kill().await;
    let mut client = V4::open(process.listener.address).await;
    assert!(client.connect(connect()).await.session_present);
    assert!(matches!(client.recv().await, v4::Packet::PubRel(rel) if rel.pkid == message.pkid));
    client.send(v4::Packet::PubComp(v4::PubComp::new(message.pkid))).await;
    soon("an answer", async {
        client.send(v4::Packet::PingReq).await;
        assert!(matches!(client.recv().await, v4::Packet::PingResp));
    })
    .await;
}
