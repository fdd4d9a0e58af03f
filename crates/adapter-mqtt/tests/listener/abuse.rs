//! Peers that mean harm: each meets a bound, and others are served meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{self, Packet, PubAckReason, SubscribeReasonCode},
};
use tokio::{io::AsyncWriteExt, task::JoinSet, time::timeout};
use transload_adapter::{Event, Settlement};

use crate::common::{
    Listener, Raw, V5, outgoing, soon, start, until, v5_connect, v5_filter, v5_persistent,
    v5_publish,
};

/// How long anybody else may have to wait; more without optimization, on a machine that builds meanwhile.
const SERVED_WITHIN: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 50 });

#[tokio::test]
async fn a_storm_of_subscriptions_meets_the_bounds() {
    let listener = start("max_subscriptions = 100\nmax_subscriptions_in_all = 150\n").await;
    let storm = |number: u32| {
        (0..1000).map(|n| v5_filter(&format!("s{number}/{n}/+/#"), QoS::AtLeastOnce)).collect()
    };
    let mut granted = Vec::new();
    let mut clients = Vec::new();
    for number in 0..2 {
        let mut client = listener.v5(&format!("s{number}")).await;
        let codes = client.subscribe(storm(number)).await;
        let quota = |code: &&SubscribeReasonCode| **code == SubscribeReasonCode::QuotaExceeded;
        granted.push(codes.len() - codes.iter().filter(quota).count());
        clients.push(client);
    }
    assert_eq!(granted, [100, 50]);
    assert_eq!(listener.count(Event::SubscriptionRefused), 1850);
    // What a session gives back, others may have.
    drop(clients.remove(0));
    until("the session is gone", || listener.count(Event::ConnectionClosed) == 1).await;
    let codes = clients[0].subscribe(storm(2)).await;
    let fine = codes.iter().filter(|code| matches!(code, SubscribeReasonCode::Success(_))).count();
    assert_eq!(fine, 50);
}

/// Deep, wide and long topics cost no more than their length.
#[tokio::test]
async fn giant_topics_pass_or_are_refused_and_cost_nothing_else() {
    let listener = start("").await;
    let mut client = listener.v5("c").await;
    client.listen("#", QoS::AtMostOnce).await;
    for topic in ["/".repeat(65_535), "x".repeat(65_535), "a/".repeat(32_767)] {
        client.publish(&topic, QoS::AtMostOnce, 0, b"x").await;
        assert_eq!(client.message().await.topic.len(), topic.len());
        let codes = client.subscribe(vec![v5_filter(&topic, QoS::AtMostOnce)]).await;
        let known = [
            SubscribeReasonCode::TopicFilterInvalid,
            SubscribeReasonCode::Success(QoS::AtMostOnce),
        ];
        assert!(known.contains(&codes[0]), "{codes:?}");
    }
    let begin = Instant::now();
    client.ping().await;
    assert!(begin.elapsed() < SERVED_WITHIN, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_storm_of_wills_is_bounded_while_the_gateway_takes_nothing() {
    let mut listener = start("").await;
    let mut watcher = listener.v5("watcher").await;
    for _ in 0..20 {
        let mut storm = JoinSet::new();
        for number in 0..50 {
            let address = listener.address;
            storm.spawn(async move {
                let mut client = V5::open(address).await;
                let will = v5::LastWill::new("gateway/will", "x", QoS::AtLeastOnce, false, None);
                client.connect_with(v5_connect(&format!("w{number}")), Some(will)).await;
            });
        }
        storm.join_all().await;
    }
    let begin = Instant::now();
    watcher.ping().await;
    assert!(begin.elapsed() < 10 * SERVED_WITHIN, "{:?}", begin.elapsed());
    until("all have gone", || listener.count(Event::ConnectionClosed) == 1000).await;
    // None was lost.
    let mut wills = listener.accept_all();
    for _ in 0..1000 {
        soon("a will", wills.recv()).await.unwrap();
    }
}

/// Messages that wait for all sessions together have a bound beside that of each.
#[tokio::test]
async fn what_waits_for_all_sessions_together_is_bounded() {
    let listener = start("max_queued_bytes_in_all = \"64KiB\"\nmax_in_flight = 1").await;
    for name in ["a", "b", "c"] {
        let mut client = V5::open(listener.address).await;
        client.connect(v5_persistent(name, true)).await;
        client.listen(name, QoS::AtLeastOnce).await;
    }
    let mut publisher = listener.v5("p").await;
    let payload = vec![0; 8 * 1024];
    let mut taken = 0_usize;
    for n in 0..30 {
        let name = ["a", "b", "c"][n % 3];
        publisher.publish(name, QoS::AtLeastOnce, 1, &payload).await;
        taken += usize::from(publisher.puback().await.reason == PubAckReason::Success);
    }
    assert!((8..=9).contains(&taken), "{taken}");
    assert_eq!(listener.count(Event::MessageDropped), 30 - taken as u64);
    // Room comes back with the messages that were read.
    let mut reader = V5::open(listener.address).await;
    reader.connect(v5_persistent("a", false)).await;
    for _ in 0..taken.div_ceil(3) {
        let message = reader.message().await;
        reader.acknowledge(message.pkid).await;
    }
    let again = async {
        loop {
            publisher.publish("b", QoS::AtLeastOnce, 1, &payload).await;
            if publisher.puback().await.reason == PubAckReason::Success {
                break;
            }
        }
    };
    soon("room", again).await;
}

/// A client that floods has its share and no more: another is answered as if nothing were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_served_while_others_flood() {
    let mut listener = start("").await;
    let mut inbound = listener.endpoints.inbound.take().unwrap();
    listener.context.tasks.spawn(async move {
        let mut deliveries = Vec::new();
        while inbound.receive(&mut deliveries, 256).await.is_ok() {
            for delivery in deliveries.drain(..) {
                delivery.receipt.settle(Settlement::Accepted);
            }
        }
    });
    let sent = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    for number in 0..3 {
        let address = listener.address;
        let sent = Arc::clone(&sent);
        flood.spawn(async move { flood_from(address, number, &sent).await });
    }
    until("the flood has begun", || sent.load(Ordering::Relaxed) > 1000).await;
    let mut device = listener.v5("device").await;
    let mut waits = Vec::new();
    for n in 1..=100 {
        let begin = Instant::now();
        device.publish("gateway/device", QoS::AtLeastOnce, n, b"x").await;
        device.puback().await;
        waits.push(begin.elapsed());
    }
    flood.abort_all();
    waits.sort_unstable();
    let (middle, last) = (waits[50], waits[99]);
    let flooded = sent.load(Ordering::Relaxed);
    println!("flood {flooded} messages; device: half within {middle:?}, all within {last:?}");
    assert!(middle < SERVED_WITHIN, "half within {middle:?}, all within {last:?}");
}

async fn flood_from(address: std::net::SocketAddr, number: usize, sent: &AtomicUsize) {
    let mut client = V5::open(address).await;
    client.connect(v5_connect(&format!("flood{number}"))).await;
    let mut frame = BytesMut::new();
    for _ in 0..100 {
        let publish = v5_publish("gateway/flood", QoS::AtMostOnce, 0, &[0; 64]);
        Packet::Publish(publish).write(&mut frame, None).unwrap();
    }
    while client.0.stream.write_all(&frame).await.is_ok() {
        sent.fetch_add(100, Ordering::Relaxed);
    }
}

/// A peer that sends a packet byte by byte, one that sends half of one and one that never reads hold
/// up nobody, and the keep-alive ends them.
#[tokio::test]
async fn slow_and_half_open_peers_hold_up_nobody() {
    let listener = start("connect_timeout = \"300ms\"\n").await;
    let mut drip = Raw::open(listener.address).await;
    let mut half = V5::open(listener.address).await;
    half.connect(v5::Connect { keep_alive: 1, ..v5_connect("half") }).await;
    half.0.write(&[0x30, 0xff, 0xff, 0x03, 0, 1, b'a']).await;
    let mut device = listener.v5("device").await;
    let begin = Instant::now();
    let ended = async {
        for byte in [0x10, 30, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 20] {
            if drip.stream.write_all(&[byte]).await.is_err() {
                break;
            }
            let asked = Instant::now();
            device.ping().await;
            assert!(asked.elapsed() < SERVED_WITHIN, "{:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drip.closed().await
    };
    assert_eq!(soon("the end of who drips", ended).await, b"");
    assert!(begin.elapsed() >= Duration::from_millis(290));
    half.end().await;
}

/// Names that a client makes up become a name of a queue, a key of a table and a word of the log,
/// and nothing else.
#[tokio::test]
async fn client_identifiers_cannot_reach_elsewhere() {
    let listener = start("").await;
    let names =
        ["../../etc", "a/session/b", "\u{1b}[2J", "a\nb", "session/x", "%00", "', '", "{user}"];
    for name in names {
        let mut client = V5::open(listener.address).await;
        client.connect(v5_persistent(name, true)).await;
        client.listen("t", QoS::AtLeastOnce).await;
    }
    until("all have gone", || listener.count(Event::ConnectionClosed) == names.len() as u64).await;
    listener.send("", outgoing("t", b"x")).await.unwrap();
    for name in names {
        let mut client = V5::open(listener.address).await;
        assert!(client.connect(v5_persistent(name, false)).await.session_present, "{name:?}");
        let message = client.message().await;
        client.acknowledge(message.pkid).await;
        client.nothing().await;
    }
}

/// Streams of packets, broken at random, sent to a listener: it goes on serving others, and no task
/// of it panics. `TRANSLOAD_FUZZ_STREAMS` says how many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_streams_of_packets_harm_nobody() {
    let panics = Arc::new(AtomicUsize::new(0));
    let before = std::panic::take_hook();
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|at| at.file().contains("src/")) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
    let streams = streams_to_send();
    let listener = start("connect_timeout = \"1s\"\nmax_packet_bytes = 65536\n").await;
    let mut healthy = listener.v5("healthy").await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..streams.unwrap_or(400_usize).div_ceil(8) {
        let mut all = JoinSet::new();
        for _ in 0..8 {
            let stream = broken_stream(&mut random);
            all.spawn(send_stream(listener.address, stream));
        }
        all.join_all().await;
        if round % 16 == 0 {
            healthy.ping().await;
        }
    }
    healthy.ping().await;
    assert_eq!(panics.load(Ordering::Relaxed), 0, "seed {seed}");
    all_gone(&listener).await;
}

async fn all_gone(listener: &Listener) {
    until("all have gone", || {
        listener.count(Event::ConnectionOpened) - listener.count(Event::ConnectionClosed) == 1
    })
    .await;
}

async fn send_stream(address: std::net::SocketAddr, stream: Vec<u8>) {
    let mut raw = Raw::open(address).await;
    raw.write(&stream).await;
    // A listener that has closed already has nothing against it.
    let _ = raw.stream.shutdown().await;
    let _ = timeout(Duration::from_secs(5), raw.closed()).await;
}

fn broken_stream(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut stream = Vec::new();
    let version = if random.bool() { 5 } else { 4 };
    let mut packets = vec![connect(version, random)];
    for _ in 0..random.usize(0..12) {
        packets.push(packet(version, random));
    }
    let broken = random.usize(0..packets.len());
    for (place, packet) in packets.iter_mut().enumerate() {
        // CONNECT is left whole mostly, or nothing behind it would be read.
        if place == broken && (place > 0 || random.u8(0..4) == 0) {
            break_packet(packet, random);
        }
        stream.extend_from_slice(packet);
    }
    stream
}

fn break_packet(packet: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        let place = random.usize(0..packet.len());
        match random.u8(0..5) {
            0 => packet[place] ^= 1 << random.u8(0..8),
            1 => packet[place] = random.u8(..),
            2 => packet.insert(place, random.u8(..)),
            3 if packet.len() > 1 => drop(packet.remove(place)),
            _ => packet.truncate(place.max(1)),
        }
    }
}

fn connect(version: u8, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version];
    body.extend([if random.bool() { 2 } else { 0 }, 0, 10]);
    if version == 5 {
        body.extend([5, 17, 0, 0, 0, random.u8(0..60)]);
    }
    body.extend([0, 1, b'a' + random.u8(0..8)]);
    frame(0x10, &body)
}

fn packet(version: u8, random: &mut fastrand::Rng) -> Vec<u8> {
    let v5 = version == 5;
    let id = [0, random.u8(0..6)];
    let topic = [0, 1, b'a' + random.u8(0..3)];
    let none: &[u8] = if v5 { &[0] } else { &[] };
    let (first, body) = match random.u8(0..9) {
        0 => (0x30, [&topic[..], none, b"payload"].concat()),
        1 => (0x32 | random.u8(0..2), [&topic[..], &id, none, b"payload"].concat()),
        2 => (0x34, [&topic[..], &id, none, b"payload"].concat()),
        3 => {
            let properties: &[u8] = if v5 { &[9, 1, 1, 2, 0, 0, 0, 9, 35, 0] } else { &[] };
            (0x30, [&topic[..], properties, b"x"].concat())
        }
        4 => (0x82, [&id[..], none, &topic, &[random.u8(0..3)]].concat()),
        5 => (0xa2, [&id[..], none, &topic].concat()),
        6 => ([0x40, 0x50, 0x62, 0x70][random.usize(0..4)], id.to_vec()),
        7 => (0xc0, Vec::new()),
        _ => (0xe0, Vec::new()),
    };
    frame(first, &body)
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, u8::try_from(body.len()).unwrap()];
    frame.put_slice(body);
    frame
}

#[expect(clippy::disallowed_methods, reason = "a longer run is asked for by whoever runs the test")]
fn streams_to_send() -> Option<usize> {
    std::env::var("TRANSLOAD_FUZZ_STREAMS").ok()?.parse().ok()
}
