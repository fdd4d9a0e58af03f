//! Who is let in, and what they may do.

use std::{path::PathBuf, sync::Arc, time::Duration};

use argon2::{
    Argon2, PasswordHasher as _,
    password_hash::{SaltString, rand_core::OsRng},
};
use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{
        QoS,
        v5::{
            self, ConnectReturnCode, DisconnectReasonCode, Packet, PubAckReason,
            SubscribeReasonCode,
        },
    },
};
use tempfile::TempDir;
use transload_adapter::{Delivery, Event, SendError, Sent, Settlement, store::Store};
use transload_delivery::MemoryStore;

use crate::common::{
    Listener, QUIET, V4, V5, outgoing, start, start_with, until, v4_connect, v5_connect, v5_filter,
    v5_persistent, v5_publish,
};

/// A users file that is cheap to check.
struct Users {
    folder: TempDir,
}

impl Users {
    fn new(users: &[(&str, &str)]) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        this.write(users);
        this
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn write(&self, users: &[(&str, &str)]) {
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let lines: Vec<_> = users
            .iter()
            .map(|(name, password)| {
                let salt = SaltString::generate(&mut OsRng);
                let hash = argon2.hash_password(password.as_bytes(), &salt).unwrap();
                format!("{name}:{hash}")
            })
            .collect();
        std::fs::write(self.path(), lines.join("\n")).unwrap();
    }

    fn setting(&self) -> String {
        format!("users_file = {:?}\n", self.path())
    }
}

/// What a client says to log in as somebody.
fn login(name: &str, password: &str) -> v5::Login {
    v5::Login { username: name.into(), password: password.into() }
}

async fn connect(
    listener: &Listener,
    connect: v5::Connect,
    login: Option<v5::Login>,
) -> (V5, ConnectReturnCode) {
    let mut client = V5::open(listener.address).await;
    client.send(Packet::Connect(connect, None, login)).await;
    match client.recv().await {
        Packet::ConnAck(connack) => (client, connack.code),
        other => panic!("not CONNACK: {other:?}"),
    }
}

async fn connect_v4(listener: &Listener, login: Option<v4::Login>) -> (V4, v4::ConnectReturnCode) {
    let mut client = V4::open(listener.address).await;
    let code = client.connect(v4::Connect { login, ..v4_connect("c") }).await.code;
    (client, code)
}

/// Two users with a place of their own each, and one that all may read.
const PLACES: &str = r#"
[[permissions]]
users = ["*"]
subscribe = ["public/#"]
[[permissions]]
users = ["one", "two"]
client_ids = ["{user}", "{user}-*"]
publish = ["devices/{user}/#", "gateway/{user}"]
subscribe = ["devices/{user}/#"]
"#;

#[tokio::test]
async fn only_the_right_password_lets_in() {
    let users = Users::new(&[("one", "secret")]);
    let listener = start(&users.setting()).await;
    for (login_as, code) in [
        (Some(login("one", "secret")), ConnectReturnCode::Success),
        (Some(login("one", "wrong")), ConnectReturnCode::BadUserNamePassword),
        (Some(login("one", "")), ConnectReturnCode::BadUserNamePassword),
        (Some(login("two", "secret")), ConnectReturnCode::BadUserNamePassword),
        (None, ConnectReturnCode::NotAuthorized),
    ] {
        let shown = format!("{login_as:?}");
        let (mut client, answer) = connect(&listener, v5_connect("c"), login_as).await;
        assert_eq!(answer, code, "{shown}");
        if code != ConnectReturnCode::Success {
            assert!(client.end().await.is_empty(), "{shown}");
        }
    }
    for (login, code) in [
        (Some(v4::Login::new("one", "secret")), v4::ConnectReturnCode::Success),
        (Some(v4::Login::new("one", "wrong")), v4::ConnectReturnCode::BadUserNamePassword),
        (None, v4::ConnectReturnCode::NotAuthorized),
    ] {
        let (_, answer) = connect_v4(&listener, login).await;
        assert_eq!(answer, code);
    }
    until("the counts", || listener.count(Event::AccessDenied) == 6).await;
}

#[tokio::test]
async fn who_has_not_logged_in_can_neither_publish_nor_read() {
    let users = Users::new(&[("one", "secret")]);
    let mut listener = start(&users.setting()).await;
    let (mut watcher, _) = connect(&listener, v5_connect("w"), Some(login("one", "secret"))).await;
    watcher.listen("#", QoS::AtMostOnce).await;
    for with_connect in [false, true] {
        let mut stranger = V5::open(listener.address).await;
        if with_connect {
            let wrong = Some(login("one", "guess"));
            stranger.send(Packet::Connect(v5_connect("w"), None, wrong)).await;
        }
        // Everything at once, without waiting to be let in.
        stranger.publish("gateway/x", QoS::AtLeastOnce, 1, b"in").await;
        stranger.publish("local", QoS::AtLeastOnce, 2, b"in").await;
        let filters = vec![v5_filter("#", QoS::AtLeastOnce)];
        let subscribe = v5::Subscribe { pkid: 7, filters, properties: None };
        stranger.send(Packet::Subscribe(subscribe)).await;
        let said = stranger.end().await;
        assert!(said.iter().all(|packet| matches!(packet, Packet::ConnAck(_))), "{said:?}");
    }
    watcher.nothing().await;
    listener.receives_nothing().await;
    // The session of the same name was not disturbed either.
    watcher.ping().await;
}

#[tokio::test]
async fn anonymous_clients_come_in_only_when_it_is_said() {
    let users = Users::new(&[("one", "secret")]);
    let listener = start(&format!("anonymous = true\n{}{PLACES}", users.setting())).await;
    let permission = "[[permissions]]\nsubscribe = [\"open\"]\n";
    let (_, code) = connect(&listener, v5_connect("c"), None).await;
    assert_eq!(code, ConnectReturnCode::NotAuthorized, "no entry is for those without a user");
    let settings = format!("anonymous = true\n{}{PLACES}{permission}", users.setting());
    let listener = start(&settings).await;
    let (mut client, code) = connect(&listener, v5_connect("c"), None).await;
    assert_eq!(code, ConnectReturnCode::Success);
    client.listen("open", QoS::AtMostOnce).await;
    let codes = client.subscribe(vec![v5_filter("public/#", QoS::AtMostOnce)]).await;
    assert_eq!(codes, [SubscribeReasonCode::NotAuthorized]);
    let (_, code) = connect(&listener, v5_connect("c"), Some(login("one", "wrong"))).await;
    assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
}

async fn places() -> (Users, Listener) {
    let users = Users::new(&[("one", "1"), ("two", "2"), ("three", "3")]);
    let listener = start(&format!("{}{PLACES}", users.setting())).await;
    (users, listener)
}

#[tokio::test]
async fn a_client_publishes_only_what_it_may() {
    let (_users, mut listener) = places().await;
    let (mut two, _) = connect(&listener, v5_connect("two"), Some(login("two", "2"))).await;
    two.listen("devices/two/#", QoS::AtLeastOnce).await;
    let (mut one, _) = connect(&listener, v5_connect("one"), Some(login("one", "1"))).await;
    one.publish("devices/two/x", QoS::AtMostOnce, 0, b"forged").await;
    one.publish("devices/two/x", QoS::AtLeastOnce, 1, b"forged").await;
    assert_eq!(one.puback().await.reason, PubAckReason::NotAuthorized);
    one.publish("gateway/two", QoS::ExactlyOnce, 2, b"forged").await;
    match one.recv().await {
        Packet::PubRec(rec) => assert_eq!(rec.reason, v5::PubRecReason::NotAuthorized),
        other => panic!("{other:?}"),
    }
    let retained =
        v5::Publish { retain: true, ..v5_publish("public/x", QoS::AtLeastOnce, 3, b"forged") };
    one.send(Packet::Publish(retained)).await;
    assert_eq!(one.puback().await.reason, PubAckReason::NotAuthorized);
    // An alias does not help: it stands for the topic that is judged.
    let properties = v5::PublishProperties { topic_alias: Some(1), ..Default::default() };
    for topic in ["devices/two/x", ""] {
        let publish = v5::Publish {
            properties: Some(properties.clone()),
            ..v5_publish(topic, QoS::AtLeastOnce, 4, b"forged")
        };
        one.send(Packet::Publish(publish)).await;
        assert_eq!(one.puback().await.reason, PubAckReason::NotAuthorized, "{topic:?}");
    }
    two.nothing().await;
    listener.receives_nothing().await;
    assert_eq!(listener.count(Event::MessageRefused), 6);
    one.publish("devices/one/x", QoS::AtLeastOnce, 5, b"own").await;
    assert_eq!(one.puback().await.reason, PubAckReason::NoMatchingSubscribers);
    // 3.1.1 has no way to say it: the message is acknowledged, and goes nowhere.
    let mut old = V4::open(listener.address).await;
    let login = Some(v4::Login::new("one", "1"));
    old.connect(v4::Connect { login, ..v4_connect("one-old") }).await;
    old.publish("devices/two/x", rumqttc::QoS::AtLeastOnce, 1, b"forged").await;
    assert!(matches!(old.recv().await, v4::Packet::PubAck(_)));
    two.nothing().await;
}

#[tokio::test]
async fn a_client_hears_only_what_it_may() {
    let (_users, listener) = places().await;
    let (mut one, _) = connect(&listener, v5_connect("one"), Some(login("one", "1"))).await;
    let filters = [
        ("devices/one/+/x", SubscribeReasonCode::Success(QoS::AtLeastOnce)),
        ("$share/g/devices/one/#", SubscribeReasonCode::Success(QoS::AtLeastOnce)),
        ("public/#", SubscribeReasonCode::Success(QoS::AtLeastOnce)),
        ("devices/+/x", SubscribeReasonCode::NotAuthorized),
        ("#", SubscribeReasonCode::NotAuthorized),
        ("$share/g/#", SubscribeReasonCode::NotAuthorized),
        ("devices/#/x", SubscribeReasonCode::TopicFilterInvalid),
    ];
    let asked = filters.iter().map(|(filter, _)| v5_filter(filter, QoS::AtLeastOnce)).collect();
    let expected: Vec<_> = filters.iter().map(|(_, code)| *code).collect();
    assert_eq!(one.subscribe(asked).await, expected);
    assert_eq!(listener.count(Event::SubscriptionRefused), 3);
    listener.send("", outgoing("devices/two/x", b"other")).await.unwrap();
    listener.send("", outgoing("public/x", b"all")).await.unwrap();
    let message = one.message().await;
    assert_eq!(&message.payload[..], b"all");
    one.acknowledge(message.pkid).await;
    one.nothing().await;
    let (mut old, _) = connect_v4_as(&listener, "one-old", "one", "1").await;
    let mut subscribe = v4::Subscribe::new("devices/two/#", rumqttc::QoS::AtMostOnce);
    subscribe.pkid = 7;
    old.send(v4::Packet::Subscribe(subscribe)).await;
    match old.recv().await {
        v4::Packet::SubAck(ack) => {
            assert_eq!(ack.return_codes, [v4::SubscribeReasonCode::Failure]);
        }
        other => panic!("{other:?}"),
    }
}

async fn connect_v4_as(
    listener: &Listener,
    client_id: &str,
    name: &str,
    password: &str,
) -> (V4, v4::ConnectReturnCode) {
    let mut client = V4::open(listener.address).await;
    let login = Some(v4::Login::new(name, password));
    let code = client.connect(v4::Connect { login, ..v4_connect(client_id) }).await.code;
    (client, code)
}

#[tokio::test]
async fn a_will_is_judged_at_connect() {
    let (_users, listener) = places().await;
    for (topic, code) in [
        ("devices/one/gone", ConnectReturnCode::Success),
        ("devices/two/gone", ConnectReturnCode::NotAuthorized),
    ] {
        let will = v5::LastWill::new(topic, "gone", QoS::AtMostOnce, false, None);
        let mut client = V5::open(listener.address).await;
        let login = Some(login("one", "1"));
        client.send(Packet::Connect(v5_connect("one"), Some(will), login)).await;
        match client.recv().await {
            Packet::ConnAck(connack) => assert_eq!(connack.code, code, "{topic}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_identifier_is_taken_over_by_its_own_user_only() {
    let users = Users::new(&[("one", "1"), ("two", "2")]);
    let listener = start(&format!("anonymous = true\n{}", users.setting())).await;
    let one = || Some(login("one", "1"));
    let (mut first, _) = connect(&listener, v5_persistent("device", true), one()).await;
    first.listen("t", QoS::AtLeastOnce).await;
    for thief in [Some(login("two", "2")), None] {
        for clean in [true, false] {
            let (_, code) = connect(&listener, v5_persistent("device", clean), thief.clone()).await;
            assert_eq!(code, ConnectReturnCode::NotAuthorized);
        }
    }
    first.ping().await;
    drop(first);
    until("the client is gone", || {
        listener.count(Event::ConnectionOpened) == listener.count(Event::ConnectionClosed)
    })
    .await;
    // Nor while its owner is away.
    listener.send("", outgoing("t", b"for one")).await.unwrap();
    let (_, code) =
        connect(&listener, v5_persistent("device", false), Some(login("two", "2"))).await;
    assert_eq!(code, ConnectReturnCode::NotAuthorized);
    let (mut again, code) = connect(&listener, v5_persistent("device", false), one()).await;
    assert_eq!(code, ConnectReturnCode::Success);
    assert_eq!(&again.message().await.payload[..], b"for one");
}

#[tokio::test]
async fn a_session_is_its_users_also_after_a_restart() {
    let users = Users::new(&[("one", "1"), ("two", "2")]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let listener = start_with(&users.setting(), Arc::clone(&store)).await;
    let one = || Some(login("one", "1"));
    let (mut client, _) = connect(&listener, v5_persistent("device", true), one()).await;
    client.listen("t", QoS::AtLeastOnce).await;
    drop((client, listener));
    let listener = start_with(&users.setting(), store).await;
    let (_, code) =
        connect(&listener, v5_persistent("device", true), Some(login("two", "2"))).await;
    assert_eq!(code, ConnectReturnCode::NotAuthorized);
    listener.send("", outgoing("t", b"x")).await.unwrap();
    let (mut client, _) = connect(&listener, v5_persistent("device", false), one()).await;
    client.message().await;
}

#[tokio::test]
async fn an_answer_goes_only_where_its_asker_may_read_or_write() {
    let (_users, mut listener) = places().await;
    let (mut two, _) = connect(&listener, v5_connect("two"), Some(login("two", "2"))).await;
    two.listen("devices/two/#", QoS::AtLeastOnce).await;
    let (mut one, _) = connect(&listener, v5_connect("one"), Some(login("one", "1"))).await;
    one.listen("devices/one/#", QoS::AtLeastOnce).await;
    for (topic, packet_id) in [("devices/two/x", 1), ("devices/one/x", 2)] {
        let properties =
            v5::PublishProperties { response_topic: Some(topic.into()), ..Default::default() };
        let publish = v5_publish("gateway/one", QoS::AtLeastOnce, packet_id, b"?");
        one.send(Packet::Publish(v5::Publish { properties: Some(properties), ..publish })).await;
        let Delivery { envelope, receipt } = listener.receive().await;
        let outbound = listener.endpoints.outbound.as_ref().unwrap();
        let sent = outbound.answer(&envelope, &envelope.clone()).await;
        if topic.starts_with("devices/one") {
            assert_eq!(sent.unwrap(), Sent::Confirmed);
            assert_eq!(&one.message().await.topic[..], topic.as_bytes());
        } else {
            assert!(matches!(sent, Err(SendError::Rejected { .. })), "{sent:?}");
        }
        receipt.settle(Settlement::Accepted);
        assert_eq!(one.puback().await.reason, PubAckReason::Success);
    }
    two.nothing().await;
}

#[tokio::test]
async fn permissions_that_shrink_reach_sessions_of_before() {
    let users = Users::new(&[("one", "1")]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let wide = "[[permissions]]\nsubscribe = [\"#\"]\n";
    let listener = start_with(&format!("{}{wide}", users.setting()), Arc::clone(&store)).await;
    let one = || Some(login("one", "1"));
    let (mut client, _) = connect(&listener, v5_persistent("device", true), one()).await;
    client.listen("secret/#", QoS::AtLeastOnce).await;
    client.listen("open/#", QoS::AtLeastOnce).await;
    drop(client);
    until("the client is gone", || listener.count(Event::ConnectionClosed) == 1).await;
    for topic in ["secret/1", "open/1"] {
        listener.send("", outgoing(topic, b"waits")).await.unwrap();
    }
    listener.endpoints.outbound.as_ref().unwrap().close().await;
    drop(listener);
    let narrow = "[[permissions]]\nsubscribe = [\"open/#\"]\n";
    let listener = start_with(&format!("{}{narrow}", users.setting()), store).await;
    let (mut client, _) = connect(&listener, v5_persistent("device", false), one()).await;
    let message = client.message().await;
    assert_eq!(&message.topic[..], b"open/1", "what waited is judged too");
    client.acknowledge(message.pkid).await;
    for topic in ["secret/2", "open/2"] {
        listener.send("", outgoing(topic, b"new")).await.unwrap();
    }
    assert_eq!(&client.message().await.topic[..], b"open/2");
    client.nothing().await;
}

#[tokio::test]
async fn a_users_file_is_read_again_and_sessions_stay() {
    let users = Users::new(&[("one", "1"), ("two", "2")]);
    let listener = start(&users.setting()).await;
    let (mut one, _) = connect(&listener, v5_connect("one"), Some(login("one", "1"))).await;
    let (mut two, _) =
        connect(&listener, v5_persistent("two", true), Some(login("two", "2"))).await;
    // A file with a fault is not taken.
    std::fs::write(users.path(), "one:nonsense").unwrap();
    tokio::time::sleep(QUIET).await;
    users.write(&[("one", "new"), ("three", "3")]);
    match two.end().await.as_slice() {
        [Packet::Disconnect(disconnect)] => {
            assert_eq!(disconnect.reason_code, DisconnectReasonCode::NotAuthorized);
        }
        other => panic!("{other:?}"),
    }
    one.ping().await;
    for (name, password, code) in [
        ("one", "1", ConnectReturnCode::BadUserNamePassword),
        ("one", "new", ConnectReturnCode::Success),
        ("two", "2", ConnectReturnCode::BadUserNamePassword),
        ("three", "3", ConnectReturnCode::Success),
    ] {
        let (_, answer) = connect(&listener, v5_connect("x"), Some(login(name, password))).await;
        assert_eq!(answer, code, "{name} {password}");
        until("the end", || {
            listener.count(Event::ConnectionOpened) - listener.count(Event::ConnectionClosed) == 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_users_file_with_a_fault_keeps_the_listener_from_starting() {
    let users = Users::new(&[]);
    std::fs::write(users.path(), "# users\none:plain text\n").unwrap();
    let text = format!("listen = \"127.0.0.1:0\"\n{}", users.setting());
    let listener = start("").await;
    let config = Arc::new(toml::from_str(&text).unwrap());
    let opened = transload_adapter_mqtt::MqttListener::open(config, listener.context.clone()).await;
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("users:2:5: this is no argon2 hash"), "{error}");
}

/// A flood of logins waits in a queue of its own; devices that are connected do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_logins_does_not_hold_up_devices() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let line = transload_adapter_mqtt::hash_line("one", b"1").unwrap();
    std::fs::write(&file, line).unwrap();
    let listener = start(&format!("users_file = {file:?}\nmax_logins = 4\n")).await;
    let (mut device, code) = connect(&listener, v5_connect("one"), Some(login("one", "1"))).await;
    assert_eq!(code, ConnectReturnCode::Success);
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..16 {
        let address = listener.address;
        flood.spawn(async move {
            let mut client = V5::open(address).await;
            let wrong = Some(login("one", "guess"));
            client.send(Packet::Connect(v5_connect(&format!("f{number}")), None, wrong)).await;
            // As long as it takes: the checks are slow on purpose.
            while client.0.fill().await {}
            client.0.buffer[3]
        });
    }
    until("the bound is reached", || listener.count(Event::ConnectionRefused) >= 1).await;
    let begin = std::time::Instant::now();
    device.ping().await;
    let (_, code) = connect(&listener, v5_connect("again"), Some(login("one", "1"))).await;
    assert_eq!(code, ConnectReturnCode::Success, "a known password does not wait");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let answers = flood.join_all().await;
    assert!(answers.iter().all(|code| [0x86, 0x89].contains(code)), "{answers:x?}");
    assert!(answers.contains(&0x89), "{answers:x?}");
}
