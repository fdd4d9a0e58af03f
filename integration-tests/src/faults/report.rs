use std::{fmt, time::Duration};

use super::{Plan, Tally};

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// The comparison.
    pub tally: Tally,
    /// How many processes were killed.
    pub kills: usize,
    /// How many other faults there were.
    pub other_faults: usize,
    /// From the first message to the end.
    pub duration: Duration,
    /// The most memory that a gateway process had resident, in bytes.
    pub gateway_memory_peak_bytes: u64,
    /// What the gateway says of itself: messages in the dead letters since its last start.
    pub dead_letters: f64,
    /// What could not be done; the run is no good then.
    pub failure: Option<String>,
    /// What was left out, and why.
    pub not_run: Option<String>,
}

impl Report {
    /// Whether everything was acknowledged in the end, and everything acknowledged has arrived.
    pub fn is_good(&self) -> bool {
        let tally = &self.tally;
        let target_is_good =
            |target: &super::TargetTally| target.lost == 0 && target.duplicated_with_other_id == 0;
        self.failure.is_none()
            && tally.damaged == 0
            && tally.acknowledged_unsent == 0
            && tally.acknowledged == tally.messages
            && tally.targets.iter().all(target_is_good)
    }

    /// Copies that the gateway made, for each message that arrived and each kill.
    pub fn duplicates_for_each_kill(&self) -> f64 {
        let sum = |count: fn(&super::TargetTally) -> u64| -> u64 {
            self.tally.targets.iter().map(count).sum()
        };
        let copies = sum(|target| target.duplicated + target.duplicated_with_other_id);
        let delivered = sum(|target| target.delivered).max(1);
        #[expect(clippy::cast_precision_loss, reason = "these numbers are far below 2^52")]
        let share = copies as f64 / delivered as f64 / self.kills.max(1) as f64;
        share
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, tally, .. } = self;
        let disk = if plan.small_disk { ", on a small disk" } else { "" };
        writeln!(f, "{} with seed {}{disk}", plan.path, plan.seed)?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            writeln!(f, "  {name:<34} {value:>12}")
        };
        line(f, "messages", &tally.messages)?;
        line(f, "acknowledged", &tally.acknowledged)?;
        line(f, "sent again by producers", &tally.sent_again)?;
        line(f, "refused at least once", &tally.refused)?;
        for (name, target) in plan.path.targets().iter().zip(&tally.targets) {
            writeln!(f, "  {name}:")?;
            line(f, "  delivered", &target.delivered)?;
            line(f, "  lost", &target.lost)?;
            line(f, "  duplicated under the same id", &target.duplicated)?;
            line(f, "  duplicated under another id", &target.duplicated_with_other_id)?;
            line(f, "  repeated by the producer", &target.repeated_by_producer)?;
            line(f, "  repeated by the target's broker", &target.redelivered_by_broker)?;
            line(f, "  reordered", &target.reordered)?;
            for stamp in &target.lost_examples {
                writeln!(f, "    lost: {stamp}")?;
            }
        }
        line(f, "damaged", &tally.damaged)?;
        line(f, "acknowledged and never sent", &tally.acknowledged_unsent)?;
        line(f, "dead letters", &self.dead_letters)?;
        line(f, "kills", &self.kills)?;
        let duplicates = format!("{:.6}", self.duplicates_for_each_kill());
        line(f, "duplicated, part of all, per kill", &duplicates)?;
        line(f, "other faults", &self.other_faults)?;
        line(f, "duration, s", &self.duration.as_secs())?;
        let mebibytes = self.gateway_memory_peak_bytes / (1024 * 1024);
        line(f, "gateway memory peak, MiB", &mebibytes)?;
        if let Some(reason) = &self.not_run {
            writeln!(f, "  NOT RUN: {reason}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "  FAILED: {failure}")?;
        }
        write!(f, "  {}", if self.is_good() { "good" } else { "NOT GOOD" })
    }
}
