//! What routing a message costs: with few and with very many rules, with conditions, and with
//! templates. See `docs/PERFORMANCE.md` for the figures and how they were got.

#![expect(clippy::unwrap_used, reason = "a benchmark may end at any fault")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use transload_envelope::{Envelope, Origin};
use transload_routing::{
    Captures, Facts, Pattern, Plan, Predicate, Rule, RuleSet, Scope, Shape, TargetRule, Template,
    When, WhenMissing,
};

/// About 200 bytes, as a sensor sends.
const PAYLOAD: &str = r#"{"device":"d4711","site":"plant-7","temperature":31.5,"humidity":48.2,"pressure":1013.25,"battery":87,"alarm":false,"tags":["indoor","line-3"],"position":{"lat":48.137,"lon":11.575},"ts":1700000000123}"#;

fn rule(number: usize, pattern: &str, when: Option<&str>) -> Rule {
    Rule {
        name: format!("r{number}").into(),
        from: Vec::new(),
        patterns: vec![Pattern::parse(pattern).unwrap()],
        when: when.map(|text| When {
            predicate: Predicate::compile(text).unwrap(),
            missing: WhenMissing::Skip,
        }),
        fallback: false,
        stop: false,
        shape: Shape::default(),
        targets: vec![TargetRule {
            destination: number,
            shape: Shape::default(),
            templates: Vec::new(),
        }],
    }
}

/// Rules of mixed shapes, of which the first three match `site/1/dev/d7/telemetry`.
fn mixed(count: usize) -> RuleSet {
    let rules = (0..count).map(|number| {
        let pattern = match number {
            0 => "site/1/dev/{device}/telemetry".to_owned(),
            1 => "site/+/dev/d7/#".to_owned(),
            2 => "site/1/{rest...}".to_owned(),
            _ => match number % 6 {
                0 => format!("site/{number}/dev/{{device}}/telemetry"),
                1 => format!("site/{number}/#"),
                2 => format!("fleet/{}/car-{{id}}/{number}", number % 100),
                3 => format!("building/{number}/+/temperature"),
                4 => format!("site/1/dev/d{number}/telemetry"),
                _ => format!("site/+/dev/x{number}/#"),
            },
        };
        rule(number, &pattern, None)
    });
    RuleSet::new(rules.collect())
}

fn message(address: &str, payload: &'static str) -> Envelope {
    Envelope::new(Origin::new("devices", "mqtt", address), payload)
}

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    group.throughput(Throughput::Elements(1));
    for count in [10, 1_000, 100_000] {
        let rules = mixed(count);
        for (address, matches) in
            [("site/2/dev/d7/x", 1), ("site/1/dev/d8/telemetry", 2), ("site/1/dev/d7/telemetry", 3)]
        {
            let envelope = message(address, PAYLOAD);
            let mut plan = Plan::new();
            rules.route(0, &envelope, &mut plan);
            assert_eq!(plan.targets().len(), matches, "{address}");
            group.bench_function(BenchmarkId::new(format!("{matches} of"), count), |bencher| {
                bencher.iter(|| rules.route(0, black_box(&envelope), &mut plan));
            });
        }
    }
    group.finish();
}

fn equality(c: &mut Criterion) {
    let mut group = c.benchmark_group("equality");
    for count in [10, 1_000, 100_000] {
        let rules = (0..count).map(|number| {
            rule(number, "site/#", Some(&format!("payload.device == 'd{}'", number + 4_711)))
        });
        let rules = RuleSet::new(rules.collect());
        let envelope = message("site/1", PAYLOAD);
        let mut plan = Plan::new();
        rules.route(0, &envelope, &mut plan);
        assert_eq!(plan.targets().len(), 1);
        group.bench_function(BenchmarkId::new("one field, rules", count), |bencher| {
            bencher.iter(|| rules.route(0, black_box(&envelope), &mut plan));
        });
    }
    group.finish();
}

fn predicate(c: &mut Criterion) {
    let mut group = c.benchmark_group("predicate");
    let envelope = message("site/1/dev/d7/telemetry", PAYLOAD);
    group.bench_function("serde_json parse to a Value", |bencher| {
        bencher.iter(|| {
            serde_json::from_slice::<serde_json::Value>(black_box(&envelope.payload)).unwrap()
        });
    });
    let captures = Captures::default();
    for text in [
        "payload.temperature > 30.0",
        "payload.position.lat > 48.0 && payload.alarm == false",
        "payload.device.startsWith('d4') && has(payload.ts)",
        "payload.temperature * 1.8 + 32 > 80",
        "payload.tags.exists(t, t == 'line-3')",
    ] {
        // Through the rules, as in the gateway: the memory for payloads is used again.
        let rules = RuleSet::new(vec![rule(0, "#", Some(text))]);
        let mut plan = Plan::new();
        rules.route(0, &envelope, &mut plan);
        assert_eq!(plan.targets().len(), 1, "{text}");
        group.bench_function(BenchmarkId::new("rule", text), |bencher| {
            bencher.iter(|| rules.route(0, black_box(&envelope), &mut plan));
        });
        let predicate = Predicate::compile(text).unwrap();
        group.bench_function(BenchmarkId::new("alone", text), |bencher| {
            bencher.iter(|| {
                let facts = Facts::new(black_box(&envelope));
                predicate.test(&Scope::new(&captures, &facts))
            });
        });
    }
    group.finish();
}

fn template(c: &mut Criterion) {
    let mut group = c.benchmark_group("template");
    let envelope = message("site/1/dev/d7/telemetry", PAYLOAD);
    let pattern = Pattern::parse("site/{site}/dev/{device}/telemetry").unwrap();
    let captures = pattern.matches(&envelope.address).unwrap();
    for text in
        ["out.{site}.{device}", "{address}", "out/{payload.device}", "{payload.battery + 1}"]
    {
        let template = Template::parse(text).unwrap();
        let mut buffer = String::new();
        group.bench_function(BenchmarkId::new("render", text), |bencher| {
            bencher.iter(|| {
                let facts = Facts::new(black_box(&envelope));
                template.render_text(&Scope::new(&captures, &facts), &mut buffer).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, matching, equality, predicate, template);
criterion_main!(benches);
