//! The fault harness: kills, freezes and cuts while messages go through the gateway, and compares
//! what was acknowledged with what has arrived. See `docs/RELIABILITY.md`.
//!
//! ```text
//! cargo build -p transload-cli
//! cargo run -p transload-integration-tests --example faults -- --kills 20 --messages 20000
//! ```
//!
//! Exit codes: 0 if nothing was lost, 1 if something was, 2 for wrong arguments.

#![expect(clippy::print_stdout, reason = "the report is what the program is for")]

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use tokio::task::JoinSet;
use transload_integration_tests::faults::{Path, Plan, Report, run};

/// Kills, freezes and cuts while messages go through the gateway, and compares what was
/// acknowledged with what has arrived. Exits with 1 if anything was lost.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
struct Arguments {
    /// The way of the messages: mqtt-amqp, http-jetstream, amqp-mqtt, amqp-mosquitto,
    /// jetstream-http or all.
    #[arg(long, default_value = "all")]
    path: String,
    /// How many times a process is killed on each path. Half as many other faults come beside.
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// How many messages are sent on each path.
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// Messages a second on each path, at most. Default: as fast as they are acknowledged.
    #[arg(long)]
    rate: Option<f64>,
    /// The same seed gives the same faults in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// 4 kills and 4000 messages on each path.
    #[arg(long)]
    quick: bool,
    /// Puts the gateway's data on a small file system that is filled up now and then. Only root
    /// may do that.
    #[arg(long)]
    full_disk: bool,
    /// Has the route promise its best effort only: to see that the harness notices what is lost.
    #[arg(long)]
    best_effort: bool,
    /// Runs the paths at the same time instead of one after the other.
    #[arg(long)]
    together: bool,
    /// For how many seconds nothing may arrive at the end before what is missing counts as lost.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Says nothing until the reports.
    #[arg(long)]
    quiet: bool,
}

impl Arguments {
    fn plans(&self) -> Result<Vec<Plan>, String> {
        let paths = match self.path.as_str() {
            "all" => Path::ALL.to_vec(),
            path => vec![path.parse()?],
        };
        let (kills, messages) = if self.quick { (4, 4_000) } else { (self.kills, self.messages) };
        let plan = |path| Plan {
            path,
            messages,
            kills,
            rate: self.rate,
            seed: self.seed,
            small_disk: self.full_disk,
            best_effort: self.best_effort,
            patience: Duration::from_secs(self.patience),
            verbose: !self.quiet,
        };
        Ok(paths.into_iter().map(plan).collect())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plans = match arguments.plans() {
        Ok(plans) => plans,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    let mut reports: Vec<Report> = Vec::new();
    if arguments.together {
        let mut runs = JoinSet::new();
        for plan in plans {
            runs.spawn(async move { run(&plan).await });
        }
        reports.extend(runs.join_all().await);
    } else {
        for plan in &plans {
            reports.push(run(plan).await);
        }
    }
    for report in &reports {
        println!("{report}\n");
    }
    let good = reports.iter().all(Report::is_good);
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let kills: usize = reports.iter().map(|report| report.kills).sum();
    println!(
        "in all: {} messages, {} acknowledged, {} lost, {kills} kills",
        sum(|report| report.tally.messages),
        sum(|report| report.tally.acknowledged),
        sum(|report| report.tally.targets.iter().map(|target| target.lost).sum()),
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
