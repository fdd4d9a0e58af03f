use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{
    Ledger, Plan, Report, Schedule,
    rig::{self, Rig},
};

/// For how long nothing may be acknowledged before the run is given up: longer than any broker
/// takes to come back, and any time-out.
const STUCK: Duration = Duration::from_mins(2);
const STEP: Duration = Duration::from_millis(20);
/// How many segments of the messages may be sent while a fault lasts: enough that messages are
/// under way and wait, and not so many that none are left for the faults to come.
const SEGMENTS_AHEAD: f64 = 2.0;

/// Sends the plan's messages, inflicts its faults, and compares.
pub async fn run(plan: &Plan) -> Report {
    let mut rig = Rig::start(plan).await;
    let lanes = rig::producers(plan);
    let lanes: Vec<_> = lanes.iter().map(|lane| (lane.messages, lane.carries_id)).collect();
    let ledger = Arc::new(Ledger::new(&lanes, plan.path.targets().len()));
    let mut consumers = JoinSet::new();
    rig.consume(&ledger, &mut consumers).await;
    let mut producers = JoinSet::new();
    rig.produce(plan, &ledger, &mut producers);
    let begin = Instant::now();
    let mut schedule = Schedule::new(plan);
    if rig.not_run.is_some() {
        schedule.steps.retain(|(_, fault)| !matches!(fault, super::Fault::FillDisk(_)));
    }
    let outcome = follow(plan, &schedule, &mut rig, &ledger).await;
    let gateway_memory_peak_bytes = rig.measure();
    let report = Report {
        plan: plan.clone(),
        tally: ledger.tally(),
        kills: schedule.kills(),
        other_faults: schedule.steps.len() - schedule.kills(),
        duration: begin.elapsed(),
        gateway_memory_peak_bytes,
        dead_letters: rig.dead_letters().await,
        failure: outcome.err(),
        not_run: rig.not_run.clone(),
    };
    if !report.is_good() {
        rig.explain(&ledger).await;
    }
    report
}

async fn follow(
    plan: &Plan,
    schedule: &Schedule,
    rig: &mut Rig,
    ledger: &Ledger,
) -> Result<(), String> {
    let messages = f64::from(plan.messages);
    let segments = u32::try_from(schedule.steps.len()).unwrap_or(u32::MAX).saturating_add(1);
    let segment = messages / f64::from(segments);
    for (number, (part, fault)) in (0_u32..).zip(&schedule.steps) {
        let at = segment * (f64::from(number) + 0.2 + 0.6 * part);
        ledger.open_gate(whole(at + segment * SEGMENTS_AHEAD));
        until_acknowledged(whole(at), rig, ledger).await?;
        if plan.verbose {
            let (sent, came) = (ledger.acknowledged_count(), ledger.arrived_count());
            let done = number + 1;
            eprintln!(
                "{} {done}/{}: {sent} acknowledged, {came} arrived: {fault}",
                plan.path,
                segments - 1
            );
        }
        rig.inflict(*fault).await;
    }
    ledger.open_gate(u64::from(plan.messages));
    until_acknowledged(u64::from(plan.messages), rig, ledger).await?;
    until_complete(plan.patience, rig, ledger).await
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a part of a number of messages"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

async fn until_acknowledged(count: u64, rig: &mut Rig, ledger: &Ledger) -> Result<(), String> {
    let (mut last, mut since) = (ledger.acknowledged_count(), Instant::now());
    while ledger.acknowledged_count() < count {
        look(rig)?;
        if ledger.acknowledged_count() > last {
            (last, since) = (ledger.acknowledged_count(), Instant::now());
        } else if since.elapsed() > STUCK {
            return Err(format!("nothing was acknowledged for {STUCK:?}, after {last} messages"));
        }
        sleep(STEP).await;
    }
    Ok(())
}

/// What does not arrive for a long time is lost, and for the comparison to say.
async fn until_complete(patience: Duration, rig: &mut Rig, ledger: &Ledger) -> Result<(), String> {
    let (mut last, mut since) = (ledger.arrived_count(), Instant::now());
    while !ledger.is_complete() && since.elapsed() < patience {
        look(rig)?;
        if ledger.arrived_count() > last {
            (last, since) = (ledger.arrived_count(), Instant::now());
        }
        sleep(STEP).await;
    }
    Ok(())
}

fn look(rig: &mut Rig) -> Result<(), String> {
    rig.gateway_fault().map_or(Ok(()), Err)
}
