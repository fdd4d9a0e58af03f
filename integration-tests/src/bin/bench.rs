//! The benchmark: the same messages through Transload and through what people would use instead. See
//! `docs/PERFORMANCE.md`.
//!
//! ```text
//! integration-tests/bench --quick
//! ```
//!
//! Exit codes: 0 if every run of Transload was good, 1 if not, 2 for wrong arguments.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "it is a program for people, who see what is wrong"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Parser;
use transload_integration_tests::{
    RabbitMq,
    bench::{Candidate, End, Environment, Path, Plan, Report, Run, run},
};

/// Measures Transload beside what people would use instead.
#[derive(Debug, Parser)]
struct Arguments {
    /// The way of the messages, such as listener-amqp or http-jetstream; may be given several times.
    /// Default: all.
    #[arg(long)]
    path: Vec<String>,
    /// Only candidates whose name contains this; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// How many messages a run sends as fast as it goes.
    #[arg(long, default_value_t = 100_000)]
    messages: u32,
    /// How long a run at a fixed rate takes, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The fixed rate, in messages a second; 0 leaves these runs out.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// How many connections send. Default: 64 for HTTP, 4 for MQTT, 2 for AMQP and NATS.
    #[arg(long)]
    connections: Option<u16>,
    /// Lengths of the payloads in bytes. The first is measured as often as `--repeat` says and at the
    /// fixed rate, the others once and as fast as they go.
    #[arg(long, value_delimiter = ',', default_values_t = [256, 64, 4_096, 65_536])]
    bytes: Vec<usize>,
    /// How many times the runs of the first length are made as fast as they go; the median is shown,
    /// and candidates take turns.
    #[arg(long, default_value_t = 3)]
    repeat: u32,
    /// A few minutes: 40,000 messages, 5 seconds, 256 bytes, once.
    #[arg(long)]
    quick: bool,
    /// Writes everything that was measured to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// For the benchmark itself: be a server of this kind.
    #[arg(long, hide = true)]
    serve: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
}

/// So many bytes may one run send at most, so that large payloads take no hour.
const RUN_BYTES_MAX: usize = 400_000_000;

impl Arguments {
    fn plans(&self) -> Result<Vec<Plan>, String> {
        let paths = if self.path.is_empty() {
            Path::ALL.to_vec()
        } else {
            self.path.iter().map(|path| path.parse()).collect::<Result<_, _>>()?
        };
        let mut plans = Vec::new();
        for path in paths {
            for (place, bytes) in self.bytes.iter().enumerate() {
                let first = place == 0;
                let repeat = if first { self.repeat } else { 1 };
                for _ in 0..repeat {
                    plans.extend(self.candidates(path, *bytes, None));
                }
                if first && self.rate > 0 {
                    plans.extend(self.candidates(path, *bytes, Some(self.rate)));
                }
            }
        }
        Ok(plans)
    }

    fn candidates(&self, path: Path, bytes: usize, rate: Option<u32>) -> Vec<Plan> {
        let fitting = u32::try_from(RUN_BYTES_MAX / bytes.max(1)).unwrap_or(u32::MAX);
        let messages = rate.map_or(self.messages, |rate| rate * self.seconds).min(fitting);
        let wanted = |candidate: &Candidate| {
            let name = candidate.to_string();
            self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
        };
        let connections = self.connections;
        let plan = |candidate| Plan {
            path,
            candidate,
            messages,
            bytes,
            rate: rate.map(f64::from),
            connections,
        };
        Candidate::of(path).into_iter().filter(wanted).map(plan).collect()
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(role) = &arguments.serve {
        serve(role, arguments.port);
        return ExitCode::SUCCESS;
    }
    if arguments.quick {
        (arguments.messages, arguments.seconds, arguments.repeat) = (40_000, 5, 1);
        arguments.bytes = vec![256];
    }
    match arguments.plans() {
        Ok(plans) => measure(&plans, arguments.json.as_deref()),
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn measure(plans: &[Plan], json: Option<&std::path::Path>) -> ExitCode {
    let environment = Environment::here(versions());
    let wants_rabbitmq = |plan: &Plan| plan.path.has(End::Amqp);
    let rabbitmq = if plans.iter().any(wants_rabbitmq) {
        Some(RabbitMq::start_with_mqtt().await)
    } else {
        None
    };
    let mut report = Report { environment, runs: Vec::new() };
    for (number, plan) in plans.iter().enumerate() {
        let done = run(plan, rabbitmq.as_ref()).await;
        eprintln!(
            "{}/{} {} {}: {:.0}/s, CPU {:.2}{}",
            number + 1,
            plans.len(),
            plan.path,
            plan.candidate,
            done.rate(),
            done.cpu_of_candidate().unwrap_or(0.0),
            done.failure
                .as_deref()
                .map(|failure| format!(", FAILED: {failure}"))
                .unwrap_or_default()
        );
        report.runs.push(done);
        // After each run, so that an hour that is cut short is not lost.
        if let Some(path) = json {
            let text = format!("{:#}\n", report.to_json());
            std::fs::write(path, text).expect("the file can be written");
        }
    }
    println!("{report}");
    let ours = |run: &&Run| matches!(run.plan.candidate, Candidate::Transload(_));
    let good = |run: &Run| run.failure.is_none() && run.lost == 0;
    if report.runs.iter().filter(ours).all(good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn versions() -> Vec<(String, String)> {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let list = [("rustc", "--version"), ("mosquitto", "-h")];
    list.iter()
        .filter_map(|(program, argument)| Some(((*program).to_owned(), said(program, argument)?)))
        .collect()
}

fn serve(role: &str, port: u16) {
    match role {
        "http" => serve_http(port),
        _ => serve_rumqttd(port),
    }
}

#[tokio::main]
async fn serve_http(port: u16) {
    use axum::{body::Bytes, http::StatusCode, routing::post};
    let accept = |body: Bytes| async move {
        if body.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED }
    };
    let router = axum::Router::new().fallback(post(accept));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
    axum::serve(listener, router).await.expect("axum serves");
}

fn serve_rumqttd(port: u16) {
    let text = format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 1000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n[v5.1]\nname = \"v5\"\n\
         listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n[v5.1.connections]\n\
         connection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = 1000\n"
    );
    let config: rumqttd::Config =
        toml::from_str(&text).expect("this is a configuration of rumqttd");
    rumqttd::Broker::new(config).start().expect("rumqttd starts");
}
