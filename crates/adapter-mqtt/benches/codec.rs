//! What it costs to read a message from a device and to write it to one, beside the codec of
//! `rumqttc`. See `docs/PERFORMANCE.md` for the figures and how they were got.

#![expect(clippy::unwrap_used, reason = "a benchmark may end at any fault")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{QoS, v5},
};
use transload_adapter_mqtt::measure::Codec;

const PACKET_BYTES_MAX: usize = 1 << 20;
/// As many as come with one read of a busy connection.
const MESSAGES: usize = 64;
const TOPIC: &str = "plant/7/dev/d4711/telemetry";

/// Messages of 3.1.1 with 256 bytes of payload, `QoS` 1.
fn plain() -> BytesMut {
    let mut stream = BytesMut::new();
    for number in 1..=MESSAGES {
        let qos = rumqttc::mqttbytes::QoS::AtLeastOnce;
        let mut publish = v4::Publish::new(TOPIC, qos, vec![b'x'; 256]);
        publish.pkid = u16::try_from(number).unwrap();
        publish.write(&mut stream).unwrap();
    }
    stream
}

/// The same with version 5 and what a service sets.
fn rich() -> BytesMut {
    let mut stream = BytesMut::new();
    for number in 1..=MESSAGES {
        let properties = v5::PublishProperties {
            content_type: Some("application/json".into()),
            message_expiry_interval: Some(60),
            user_properties: vec![("tenant".into(), "acme".into()), ("line".into(), "3".into())],
            ..v5::PublishProperties::default()
        };
        let payload = vec![b'x'; 256];
        let mut publish = v5::Publish::new(TOPIC, QoS::AtLeastOnce, payload, Some(properties));
        publish.pkid = u16::try_from(number).unwrap();
        publish.write(&mut stream).unwrap();
    }
    stream
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("read 64 messages");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let (plain, rich) = (plain(), rich());
    let (ours, ours_5) = (Bytes::from(plain.to_vec()), Bytes::from(rich.to_vec()));
    assert_eq!((Codec::V311.read(&ours), Codec::V5.read(&ours_5)), (MESSAGES, MESSAGES));
    group.bench_function("3.1.1", |bencher| {
        bencher.iter(|| Codec::V311.read(black_box(&ours)));
    });
    group.bench_function("3.1.1, rumqttc", |bencher| {
        bencher.iter_batched_ref(
            || plain.clone(),
            |stream| while v4::Packet::read(stream, PACKET_BYTES_MAX).is_ok() {},
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("5 with properties", |bencher| {
        bencher.iter(|| Codec::V5.read(black_box(&ours_5)));
    });
    group.bench_function("5 with properties, rumqttc", |bencher| {
        bencher.iter_batched_ref(
            || rich.clone(),
            |stream| while v5::Packet::read(stream, Some(1 << 20)).is_ok() {},
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("write a message");
    group.throughput(Throughput::Elements(1));
    let mut into = BytesMut::with_capacity(1 << 12);
    for (name, codec, stream) in
        [("3.1.1", Codec::V311, plain()), ("5 with properties", Codec::V5, rich())]
    {
        let first = stream.len() / MESSAGES;
        let message = codec.message(&stream.freeze().slice(..first)).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                into.clear();
                codec.write(black_box(&message), &mut into);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reading, writing);
criterion_main!(benches);
