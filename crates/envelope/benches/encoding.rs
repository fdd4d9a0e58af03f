//! What writing and reading a message costs. See `docs/PERFORMANCE.md` for the figures and how they
//! were got.

#![expect(clippy::unwrap_used, reason = "a benchmark may end at any fault")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use transload_envelope::{Envelope, MessageId, Origin, Properties, Text, codec};

/// As a device sends over MQTT 3.1.1: a payload and nothing else.
fn bare(payload: usize) -> Envelope {
    let origin = Origin::new("devices", "mqtt", "plant/7/dev/d4711/telemetry")
        .with(Text::from_static("client_id"), Text::from_static("d4711"))
        .with(Text::from_static("qos"), 1_i64)
        .with(Text::from_static("retain"), false)
        .with(Text::from_static("peer"), Text::from_static("10.0.0.7:51234"))
        .with(Text::from_static("protocol_version"), Text::from_static("3.1.1"));
    Envelope::new(origin, vec![b'x'; payload])
        .with_id(MessageId::from_source("01890a5d-ac96-774b-bcce-b302099a8057"))
}

/// As a service sends over AMQP: properties and a few headers.
fn rich() -> Envelope {
    let properties = Properties {
        content_type: Some(Text::from_static("application/json")),
        correlation: Some(Bytes::from_static(b"4711-0815")),
        priority: Some(4),
        durable: Some(true),
        kind: Some(Text::from_static("order.placed")),
        ..Properties::default()
    };
    let mut envelope = bare(256).with_properties(properties);
    envelope.headers.push("tenant", "acme");
    envelope.headers.push("attempt", 3_i64);
    envelope.headers.push("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    envelope
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    group.throughput(Throughput::Elements(1));
    for (name, envelope) in [
        ("bare, 64 B", bare(64)),
        ("bare, 256 B", bare(256)),
        ("bare, 4 KiB", bare(4096)),
        ("rich, 256 B", rich()),
    ] {
        let mut buffer = Vec::new();
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                codec::encode(black_box(&envelope), &mut buffer);
            });
        });
        let bytes = Bytes::from(buffer);
        assert_eq!(codec::decode(&bytes).unwrap(), envelope);
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| codec::decode(black_box(&bytes)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, encoding);
criterion_main!(benches);
