use std::{fmt, fs};

use serde_json::{Value, json};

use super::{candidate::Candidate, path::Path, run::Run};

/// Where it was measured.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// What else ran, by the load average of the last minute.
    pub load: String,
    /// Versions of the programs.
    pub versions: Vec<(String, String)>,
}

impl Environment {
    /// Of this machine.
    pub fn here(versions: Vec<(String, String)>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo").lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        Self {
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions,
        }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// Where.
    pub environment: Environment,
    /// The runs, in the order in which they were made.
    pub runs: Vec<Run>,
}

impl Report {
    /// For machines.
    pub fn to_json(&self) -> Value {
        let environment = &self.environment;
        json!({
            "environment": {
                "processor": environment.processor,
                "processors": environment.processors,
                "load_average": environment.load,
                "versions": environment.versions.iter().cloned()
                    .collect::<std::collections::BTreeMap<_, _>>(),
            },
            "runs": self.runs.iter().map(run_to_json).collect::<Vec<_>>(),
        })
    }

    /// The median of what runs of the same kind came to.
    fn rows(&self) -> Vec<Vec<&Run>> {
        let mut rows: Vec<Vec<&Run>> = Vec::new();
        for run in &self.runs {
            let same =
                rows.iter_mut().find(|row| row.first().is_some_and(|other| alike(other, run)));
            match same {
                Some(row) => row.push(run),
                None => rows.push(vec![run]),
            }
        }
        rows
    }
}

fn alike(one: &Run, other: &Run) -> bool {
    let (one, other) = (&one.plan, &other.plan);
    one.path == other.path
        && one.candidate == other.candidate
        && one.bytes == other.bytes
        && one.rate.map(f64::to_bits) == other.rate.map(f64::to_bits)
}

fn run_to_json(run: &Run) -> Value {
    let [median, p99, most] = run.latency_us;
    json!({
        "path": run.plan.path.to_string(),
        "candidate": run.plan.candidate.to_string(),
        "acknowledged_means": run.plan.candidate.promise(),
        "bytes": run.plan.bytes,
        "rate_asked": run.plan.rate,
        "messages": run.plan.messages,
        "acknowledged": run.acknowledged,
        "delivered": run.delivered,
        "lost": run.lost,
        "duplicated": run.duplicated,
        "reordered": run.reordered,
        "seconds": run.seconds,
        "messages_per_second": run.rate(),
        "latency_us": { "median": median, "p99": p99, "max": most },
        "processes": run.used.iter().map(|(name, seconds, bytes)| json!({
            "name": name,
            "cpu_seconds": seconds,
            "cpu_seconds_per_100k": run.for_100_000(*seconds),
            "peak_bytes": bytes,
        })).collect::<Vec<_>>(),
        "failure": run.failure,
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let environment = &self.environment;
        writeln!(
            f,
            "{} x {}, load {} at the start",
            environment.processors, environment.processor, environment.load
        )?;
        for (name, version) in &environment.versions {
            writeln!(f, "  {name} {version}")?;
        }
        let mut shown: Option<(Path, usize, Option<u64>)> = None;
        for row in self.rows() {
            let Some(first) = row.first() else { continue };
            let plan = &first.plan;
            let part = (plan.path, plan.bytes, plan.rate.map(f64::to_bits));
            if shown != Some(part) {
                shown = Some(part);
                let rate = plan.rate.map_or("as fast as it goes".to_owned(), |rate| {
                    format!("{rate} messages a second")
                });
                writeln!(f, "\n{}, {} bytes, {rate}", plan.path, plan.bytes)?;
                writeln!(
                    f,
                    "{:<24}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}{:>7}{:>7}{:>7}",
                    "",
                    "msg/s",
                    "CPU",
                    "all CPU",
                    "MB",
                    "p50 ms",
                    "p99 ms",
                    "lost",
                    "twice",
                    "order"
                )?;
            }
            write_row(f, plan.candidate, &row)?;
        }
        writeln!(
            f,
            "\nCPU: seconds of the candidate's process for 100,000 messages; all CPU: with the brokers."
        )?;
        writeln!(f, "Medians of the runs. What an acknowledgement to the source means:")?;
        let mut said: Vec<Candidate> = Vec::new();
        for run in &self.runs {
            if !said.contains(&run.plan.candidate) {
                said.push(run.plan.candidate);
                writeln!(f, "  {:<24}{}", run.plan.candidate, run.plan.candidate.promise())?;
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, candidate: Candidate, row: &[&Run]) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "these numbers are far below 2^52")]
    let of = |value: fn(&Run) -> u64| median(row.iter().map(|run| value(run) as f64));
    let cpu = median(row.iter().filter_map(|run| run.cpu_of_candidate()));
    writeln!(
        f,
        "{candidate:<24}{:>9.0}{cpu:>9.2}{:>9.2}{:>9.1}{:>8.2}{:>9.2}{:>7}{:>7}{:>7}",
        median(row.iter().map(|run| run.rate())),
        median(row.iter().map(|run| run.cpu_of_all())),
        of(|run| run.used.first().map_or(0, |(_, _, bytes)| *bytes)) / 1e6,
        of(|run| run.latency_us[0]) / 1e3,
        of(|run| run.latency_us[1]) / 1e3,
        of(|run| run.lost),
        of(|run| run.duplicated),
        of(|run| run.reordered),
    )?;
    for run in row {
        if let Some(failure) = &run.failure {
            writeln!(f, "    FAILED: {failure}")?;
        }
    }
    Ok(())
}
