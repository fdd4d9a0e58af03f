//! What reading a large rules file costs, beside what only parsing it costs. See
//! `docs/PERFORMANCE.md` for the figures and how they were got.

#![expect(clippy::unwrap_used, reason = "a benchmark may end at any fault")]

use std::{fmt::Write as _, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use toml::de::DeTable;
use transload_adapter::{
    Registry,
    testing::{Fake, Script},
};
use transload_gateway::config::load_text;

/// A file with routes of mixed shapes.
fn file(script: &str, routes: usize) -> String {
    let mut text = String::new();
    for adapter in ["devices", "hooks"] {
        write!(text, "[adapters.{adapter}]\nkind = \"fake\"\nscript = \"{script}\"\n").unwrap();
    }
    for number in 0..routes {
        let keys = match number % 6 {
            0 => {
                format!("match = \"site/{number}/{{device}}/up\"\nto = TO, key = \"{{device}}\" }}")
            }
            1 => format!(
                "from = \"devices\"\nmatch = \"plant/{number}/+/temp\"\n\
                 when = \"payload.temperature > {}.5\"\nto = TO, key = \"alarms/{number}\" }}",
                number % 90
            ),
            2 => format!(
                "match = \"events/#\"\nwhen = \"payload.type == 't{number}'\"\n\
                 to = TO, key = \"typed/{number}\" }}"
            ),
            3 => format!("from = \"hooks\"\nmatch = \"hook/{number}\"\nto = \"devices\""),
            4 => format!(
                "match = [\"a/{number}/{{x}}\", \"b/{number}/{{x}}\"]\nstop = true\n\
                 to = [TO, key = \"x/{{x}}\" }}, TO, key = \"y/{{x}}\" }}]"
            ),
            _ => {
                format!("match = \"raw/{number}/{{path...}}\"\nto = TO, key = \"raw/{{path}}\" }}")
            }
        };
        let keys = keys.replace("TO", "{ adapter = \"devices\"");
        write!(text, "\n[[route]]\nname = \"r{number}\"\n{keys}\n").unwrap();
    }
    text
}

fn loading(criterion: &mut Criterion) {
    let script = Script::new();
    let registry = Registry::default().with::<Fake>();
    let mut group = criterion.benchmark_group("loading");
    group.sample_size(10);
    for routes in [1_000, 100_000] {
        let text = file(script.name(), routes);
        group.throughput(Throughput::Elements(routes as u64));
        group.bench_with_input(BenchmarkId::new("parse_only", routes), &text, |bencher, text| {
            bencher.iter_with_large_drop(|| DeTable::parse(black_box(text)).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("load", routes), &text, |bencher, text| {
            bencher.iter_with_large_drop(|| {
                let loaded = load_text("adapters.toml", black_box(text), &|_| None, &registry);
                assert_eq!(loaded.configuration.as_ref().unwrap().routes.len(), routes);
                loaded
            });
        });
    }
    group.finish();
}

criterion_group!(benches, loading);
criterion_main!(benches);
