//! Our own MQTT listener, as foreign clients see it.

use std::time::Duration;

use serde_json::json;
use transload_integration_tests::{
    Message, Python, Transload, free_port, mosquitto_clients, texts,
};

use crate::support::{client as client_at, devices, numbered, numbers, route};

/// A gateway that is nothing but an MQTT broker.
async fn broker(more: &str) -> (Transload, Python, String) {
    let port = free_port();
    let gateway = Transload::start(&devices(port, more)).await;
    gateway.until_up("devices").await;
    let address = format!("127.0.0.1:{port}");
    (gateway, Python::mqtt(&address), address)
}

const VERSIONS: [&str; 2] = ["4", "5"];

#[tokio::test]
async fn every_quality_of_service_passes_and_the_smaller_one_counts() {
    let (_gateway, client, _) = broker("").await;
    for version in VERSIONS {
        for granted in [0_u64, 1, 2] {
            let topic = format!("qos/{version}/{granted}");
            let qos = granted.to_string();
            let mut consumer =
                client.consume(&["consume", &topic, "--version", version, "--qos", &qos]).await;
            assert_eq!(consumer.subscription()["granted"], json!([granted]));
            for sent in [0_u64, 1, 2] {
                let message = Message::new(&topic, sent.to_string()).with("qos", json!(sent));
                client.publish(&["--version", version], &[message]).await;
                let received = consumer.take(1).await.remove(0);
                assert_eq!(received.text(), sent.to_string());
                assert_eq!(received.fields["qos"], json!(sent.min(granted)), "{sent} to {granted}");
            }
        }
    }
}

#[tokio::test]
async fn mosquitto_clients_of_both_versions_hear_each_other() {
    let (_gateway, _, address) = broker("").await;
    for version in ["mqttv311", "mqttv5"] {
        let mut consumer =
            mosquitto_clients::subscribe(&address, &["-V", version, "-t", "m/+/x", "-q", "2"])
                .await;
        for other in ["mqttv311", "mqttv5"] {
            let arguments = ["-V", other, "-t", "m/a/x", "-m", other, "-q", "2"];
            mosquitto_clients::publish(&address, &arguments).await;
            assert_eq!(texts(&consumer.take(1).await), [other]);
        }
    }
}

/// A retained message comes to later subscribers with the flag set; only a *retained* empty one
/// removes it (MQTT 5, section 3.3.1.3).
#[tokio::test]
async fn retained_messages_are_kept_and_removed_by_the_rules() {
    let (_gateway, client, _) = broker("").await;
    for version in VERSIONS {
        let version = ["--version", version];
        let topic = format!("retained/{}", version[1]);
        let retained = |payload: &str| Message::new(&topic, payload).with("retain", json!(true));
        client.publish(&version, &[retained("first"), retained("last")]).await;
        // Neither an ordinary message nor an ordinary empty one changes what is retained.
        client.publish(&version, &[Message::new(&topic, "x"), Message::new(&topic, "")]).await;
        let subscribe = [&["consume", topic.as_str()][..], &version].concat();
        let mut late = client.consume(&subscribe).await;
        let received = late.take(1).await.remove(0);
        assert_eq!((received.text().as_str(), &received.fields["retain"]), ("last", &json!(true)));
        client.publish(&version, &[retained("")]).await;
        let removed = late.take(1).await.remove(0);
        assert_eq!((removed.text().as_str(), &removed.fields["retain"]), ("", &json!(false)));
        let mut later = client.consume(&subscribe).await;
        client.publish(&version, &[Message::new(&topic, "live")]).await;
        assert_eq!(texts(&later.take(1).await), ["live"], "nothing retained is left");
    }
}

/// A will is published when the connection ends without DISCONNECT, and only then (MQTT 5, section
/// 3.1.2.5).
#[tokio::test]
async fn a_will_is_published_for_who_vanishes() {
    let (_gateway, client, _) = broker("").await;
    let mut watcher = client.consume(&["consume", "will/#"]).await;
    for version in VERSIONS {
        let will =
            format!("{{\"address\": \"will/{version}\", \"payload\": \"Z29uZQ==\", \"qos\": 1}}");
        let polite = [&["--will", &will, "--version", version][..]].concat();
        client.publish(&polite, &[Message::new("elsewhere", "x")]).await;
        let arguments = ["consume", "nothing", "--will", &will, "--version", version];
        client.consume(&arguments).await.vanish();
        let received = watcher.take(1).await.remove(0);
        assert_eq!(received.address, format!("will/{version}"));
        assert_eq!(received.text(), "gone");
    }
    watcher.stays_at(VERSIONS.len()).await;
}

#[tokio::test]
async fn a_shared_subscription_gives_each_message_to_one() {
    let (_gateway, client, _) = broker("").await;
    for version in VERSIONS {
        let topic = format!("shared/{version}");
        let filter = format!("$share/group/{topic}");
        let subscribe = ["consume", filter.as_str(), "--version", version];
        let mut one = client.consume(&subscribe).await;
        let mut other = client.consume(&subscribe).await;
        let mut all = client.consume(&["consume", &topic]).await;
        client.publish(&["--version", version], &numbered(&topic, 0..100)).await;
        assert_eq!(texts(&all.take(100).await), numbers(0..100));
        let both = || (one.all().len(), other.all().len());
        let mut both = both;
        transload_integration_tests::wait::until("all messages in the group", || {
            let (first, second) = both();
            async move { (first + second >= 100).then_some(()) }
        })
        .await;
        let (first, second) = both();
        assert_eq!(first + second, 100);
        assert!(first > 0 && second > 0, "both members get some: {first} and {second}");
    }
}

/// rumqttd's router panics here: a persistent session, a shared subscription at `QoS` 1, an
/// unacknowledged message, and a socket that goes away.
#[tokio::test]
async fn a_member_of_a_group_that_vanishes_with_unacknowledged_messages_harms_nobody() {
    let (mut gateway, client, _) = broker("").await;
    for version in VERSIONS {
        let topic = format!("g/{version}");
        let filter = format!("$share/g/{topic}");
        let name = format!("worker-{version}");
        let mut worker = client
            .consume(&[
                "consume",
                &filter,
                "--version",
                version,
                "--session",
                "--client-id",
                &name,
                "--no-ack",
            ])
            .await;
        client.publish(&[], &numbered(&topic, 0..3)).await;
        worker.take(3).await;
        worker.vanish();
        // Another member is served, and so is everybody else.
        let mut other = client.consume(&["consume", &filter, "--version", version]).await;
        client.publish(&[], &numbered(&topic, 3..6)).await;
        other.until_received("a message after the loss", |message| message.text() == "5").await;
        let mut plain = client.consume(&["consume", &topic]).await;
        client.publish(&[], &numbered(&topic, 6..7)).await;
        assert_eq!(texts(&plain.take(1).await), ["6"]);
    }
    gateway.process().must_run();
}

#[tokio::test]
async fn a_persistent_session_keeps_what_came_while_its_client_was_away() {
    let (_gateway, client, _) = broker("").await;
    for version in VERSIONS {
        let topic = format!("session/{version}");
        let name = format!("sleeper-{version}");
        let session = ["--version", version, "--session", "--client-id", &name];
        let first = client.consume(&[&["consume", &topic][..], &session].concat()).await;
        assert_eq!(first.subscription()["session"], json!(false), "a new session");
        first.vanish();
        client.publish(&[], &numbered(&topic, 0..50)).await;
        let mut again = client.consume(&[&["consume"][..], &session].concat()).await;
        assert_eq!(again.subscription()["session"], json!(true), "the old session");
        assert_eq!(texts(&again.take(50).await), numbers(0..50));
        again.vanish();
        // A clean session ends it.
        let clean = ["consume", "--version", version, "--client-id", name.as_str()];
        let mut clean = client.consume(&clean).await;
        assert_eq!(clean.subscription()["session"], json!(false));
        client.publish(&[], &numbered(&topic, 50..51)).await;
        clean.stays_at(0).await;
    }
}

/// What a client has not acknowledged is sent to it again when it comes back.
#[tokio::test]
async fn unacknowledged_messages_are_sent_again() {
    let (_gateway, client, _) = broker("").await;
    for version in VERSIONS {
        let topic = format!("again/{version}");
        let name = format!("forgetful-{version}");
        let session = ["--version", version, "--session", "--client-id", &name];
        let first = [&["consume", &topic, "--no-ack"][..], &session].concat();
        let mut first = client.consume(&first).await;
        client.publish(&[], &numbered(&topic, 0..5)).await;
        assert_eq!(texts(&first.take(5).await), numbers(0..5));
        first.vanish();
        let mut again = client.consume(&[&["consume"][..], &session].concat()).await;
        let received = again.take(5).await;
        assert_eq!(texts(&received), numbers(0..5));
        assert!(received.iter().all(|message| message.fields["dup"] == json!(true)));
    }
}

/// MQTT 5, section 3.1.4: a second client of one name takes the session over, and the first is
/// told by reason code 0x8E.
#[tokio::test]
async fn a_second_client_of_one_name_takes_over() {
    let (_gateway, client, _) = broker("").await;
    let arguments = ["consume", "t", "--client-id", "twin"];
    let mut first = client.consume(&arguments).await;
    let mut second = client.consume(&arguments).await;
    // The first client connects again by itself, and takes the session back and so on; it is
    // enough that each is told.
    transload_integration_tests::wait::until("the first to be told", || {
        let told = first.process().output().contains("\"disconnected\": 142");
        async move { told.then_some(()) }
    })
    .await;
    first.vanish();
    client.publish(&[], &[Message::new("t", "x")]).await;
    second.until_received("the message", |message| message.text() == "x").await;
}

#[tokio::test]
async fn properties_of_mqtt_5_pass_from_device_to_device() {
    let (_gateway, client, _) = broker("").await;
    let mut consumer = client.consume(&["consume", "p"]).await;
    let message =
        Message::new("p", "x").with("headers", json!([["b", "1"], ["a", "2"], ["b", "3"]])).with(
            "properties",
            json!({
                "content_type": "text/x",
                "correlation": "AP8=",
                "response_topic": "answers/1",
                "expiry": 300,
                "payload_format": 1,
            }),
        );
    client.publish(&[], &[message]).await;
    let received = consumer.take(1).await.remove(0);
    assert_eq!(received.fields["headers"], json!([["b", "1"], ["a", "2"], ["b", "3"]]), "in order");
    assert_eq!(received.property("content_type"), Some(&json!("text/x")));
    assert_eq!(received.property("correlation"), Some(&json!("AP8=")), "bytes stay bytes");
    assert_eq!(received.property("response_topic"), Some(&json!("answers/1")));
    let left = received.property("expiry").and_then(serde_json::Value::as_u64).unwrap_or(0);
    assert!((290..=300).contains(&left), "what is left of the expiry: {left}");
}

/// A message whose expiry has passed is not delivered (MQTT 5, section 3.3.2.3.3).
#[tokio::test]
async fn an_expired_message_is_not_delivered() {
    let (_gateway, client, _) = broker("").await;
    let session = ["--session", "--client-id", "late"];
    client.consume(&[&["consume", "e"][..], &session].concat()).await.vanish();
    let expiring = Message::new("e", "short").with("properties", json!({ "expiry": 1 }));
    client.publish(&[], &[expiring, Message::new("e", "lasting")]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut again = client.consume(&[&["consume"][..], &session].concat()).await;
    assert_eq!(texts(&again.take(1).await), ["lasting"]);
    again.stays_at(1).await;
}

#[tokio::test]
async fn a_second_address_speaks_websocket() {
    let port = free_port();
    let (_gateway, client, _) = broker(&format!("websocket = \"127.0.0.1:{port}\"")).await;
    let websocket = Python::mqtt(&format!("127.0.0.1:{port}"));
    for version in VERSIONS {
        let way = ["--version", version, "--websocket", "/mqtt"];
        let mut over_websocket = websocket.consume(&[&["consume", "w"][..], &way].concat()).await;
        let mut over_tcp = client.consume(&["consume", "w"]).await;
        websocket.publish(&way, &numbered("w", 0..3)).await;
        assert_eq!(texts(&over_websocket.take(3).await), numbers(0..3));
        assert_eq!(texts(&over_tcp.take(3).await), numbers(0..3));
        let large = vec![b'x'; 1 << 20];
        client.publish(&[], &[Message::new("w", &large)]).await;
        assert_eq!(over_websocket.take(1).await[0].payload.len(), large.len());
    }
}

#[tokio::test]
async fn without_local_devices_do_not_hear_each_other() {
    let (_gateway, client, _) = broker("local = false").await;
    let mut consumer = client.consume(&["consume", "#"]).await;
    client.try_publish(&[], &[Message::new("a", "x")]).await;
    consumer.stays_at(0).await;
}

/// The names of the listener's own are not for clients to publish under, and `#` does not show
/// them (MQTT 5, section 4.7.2).
#[tokio::test]
async fn wildcards_match_as_the_specification_says() {
    let (_gateway, client, _) = broker("").await;
    for (filter, matching, other) in [
        ("a/#", "a", "b"),
        ("a/#", "a/b/c", "ab"),
        ("+/b", "a/b", "a/b/c"),
        ("a/+", "a/", "a"),
        ("/+", "/x", "x"),
        ("#", "x/y", ""),
    ] {
        let mut consumer = client.consume(&["consume", filter]).await;
        if !other.is_empty() {
            client.publish(&[], &[Message::new(other, "other")]).await;
        }
        client.publish(&[], &[Message::new(matching, "match")]).await;
        assert_eq!(texts(&consumer.take(1).await), ["match"], "{filter} and {other}");
    }
}

/// A subscriber that reads slowly still gets every `QoS` 1 message (of 5,000, rumqttd's got 397).
#[tokio::test]
async fn a_slow_subscriber_reads_every_message() {
    const COUNT: usize = 5_000;
    let (_gateway, client, _) = broker("").await;
    let client = client.patient(Duration::from_mins(2));
    let mut slow = client.consume(&["consume", "slow", "--receive-maximum", "5"]).await;
    slow.process().signal(transload_integration_tests::End::Stop);
    client.publish(&["--pipelined"], &numbered("slow", 0..COUNT)).await;
    slow.process().signal(transload_integration_tests::End::Continue);
    let received = slow.take_within(Duration::from_mins(2), COUNT).await;
    assert_eq!(texts(&received), numbers(0..COUNT));
}

/// rumqttd refuses a keep-alive of 0, which turns the keep-alive off (MQTT 5, section 3.1.2.10).
#[tokio::test]
async fn a_keep_alive_of_zero_is_accepted() {
    let (_gateway, client, _) = broker("").await;
    for version in VERSIONS {
        let arguments = ["--keep-alive", "0", "--version", version];
        client.publish(&arguments, &[Message::new("k", "x")]).await;
    }
}

#[tokio::test]
async fn a_client_that_falls_silent_is_let_go() {
    let (_gateway, client, _) = broker("").await;
    let mut watcher = client.consume(&["consume", "will/silent"]).await;
    let will = "{\"address\": \"will/silent\", \"payload\": \"Z29uZQ==\"}";
    let arguments = ["consume", "x", "--keep-alive", "2", "--will", will];
    let mut silent = client.consume(&arguments).await;
    silent.process().signal(transload_integration_tests::End::Stop);
    // One and a half times the keep-alive (MQTT 5, section 3.1.2.10).
    assert_eq!(texts(&watcher.take(1).await), ["gone"]);
}

/// What the listener does not speak, it refuses by the reason code of the specification.
#[tokio::test]
async fn what_is_not_supported_is_refused_by_its_reason_code() {
    let (_gateway, client, _) = broker("").await;
    for (arguments, reason) in [
        // MQTT 3.1: «unacceptable protocol version» (3.1.1, section 3.2.2.3), which paho maps to 132.
        (["--version", "3"], 132),
        // Enhanced authentication: «bad authentication method» (5, section 3.2.2.2).
        (["--auth-method", "SCRAM-SHA-1"], 140),
    ] {
        let outcomes = client.try_publish(&arguments, &[Message::new("a", "x")]).await;
        assert_eq!(outcomes[0].0["refused"], json!(reason), "{outcomes:?}");
    }
}

/// A publisher of MQTT 5 is told when nobody wanted its message (section 3.4.2.1).
#[tokio::test]
async fn a_publisher_is_told_that_nobody_wanted_its_message() {
    let (_gateway, client, _) = broker("").await;
    let outcomes = client.try_publish(&[], &[Message::new("nobody/there", "x")]).await;
    assert_eq!(outcomes[0].0["reason"], json!(0x10), "{outcomes:?}");
    let _consumer = client.consume(&["consume", "somebody/#"]).await;
    let outcomes = client.try_publish(&[], &[Message::new("somebody/there", "x")]).await;
    assert_eq!(outcomes[0].0["reason"], json!(0), "{outcomes:?}");
}

/// A queue that is full and whose route says `reject` refuses: by «quota exceeded» in MQTT 5.
#[tokio::test]
async fn a_publisher_is_told_that_a_queue_is_full() {
    let port = free_port();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let _gateway = Transload::start(
        &[
            devices(port, ""),
            client_at("target", "http", &nowhere, ""),
            route(
                "r",
                "devices",
                "full/#",
                "\"target\"",
                "when_full = \"reject\"\nqueue = { max_messages = 5 }",
            ),
        ]
        .concat(),
    )
    .await;
    let device = Python::mqtt(&format!("127.0.0.1:{port}"));
    let outcomes = device.try_publish(&[], &numbered("full/x", 0..8)).await;
    let reasons: Vec<_> = outcomes.iter().map(|outcome| outcome.0["reason"].clone()).collect();
    assert_eq!(reasons[..5], vec![json!(0); 5], "{reasons:?}");
    assert_eq!(reasons[5..], vec![json!(0x97); 3], "{reasons:?}");
}

/// One client that breaks a bound is let go, and no other one notices.
#[tokio::test]
async fn a_packet_beyond_the_bound_ends_one_connection_only() {
    let (_gateway, client, _) = broker("max_packet_bytes = \"64KiB\"").await;
    for version in VERSIONS {
        let topic = format!("bound/{version}");
        let mut consumer = client.consume(&["consume", &topic]).await;
        let large = Message::new(&topic, vec![b'x'; 100_000]);
        let impatient = ["--version", version, "--timeout", "2"];
        let outcomes = client.try_publish(&impatient, &[large]).await;
        assert!(!outcomes[0].ok(), "{outcomes:?}");
        let fitting = vec![b'x'; 60_000];
        client.publish(&["--version", version], &[Message::new(&topic, &fitting)]).await;
        assert_eq!(consumer.take(1).await[0].payload, fitting);
    }
}
