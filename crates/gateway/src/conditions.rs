//! What conditions of routes (`when`) had to say that was neither yes nor no.
//!
//! Invariants:
//! - Every such answer is counted, by its route.
//! - The log has one line for a route in a while, with what was absent, and not one for a message.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tracing::warn;
use transload_envelope::Envelope;
use transload_routing::{Plan, RuleSet};

use crate::{metrics::Metrics, sync::lock};

/// How long the log is silent about the absent fields of a route after a line about them.
const SILENCE: Duration = Duration::from_mins(1);

/// The figures of all routes that have a condition, by the numbers of their rules. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Conditions(Arc<[Option<Figures>]>);

#[derive(Debug)]
struct Figures {
    absent: Counter,
    failed: Counter,
    /// When the log was last told, and how often that was kept from it since.
    told: Mutex<Option<(Instant, u64)>>,
}

impl Conditions {
    pub(crate) fn new(rules: &RuleSet, metrics: &Metrics) -> Self {
        let figures = rules.rules().iter().map(|rule| {
            rule.when.as_ref()?;
            let [absent, failed] = metrics.condition(&rule.name);
            Some(Figures { absent, failed, told: Mutex::new(None) })
        });
        Self(figures.collect())
    }

    /// Counts what the plan of one message tells.
    pub(crate) fn count(&self, rules: &RuleSet, adapter: &str, envelope: &Envelope, plan: &Plan) {
        for rule in plan.absent() {
            let Some(Some(figures)) = self.0.get(*rule) else { continue };
            figures.absent.inc();
            if let Some(kept) = figures.due() {
                let Some(rule) = rules.rules().get(*rule) else { continue };
                let absent = rule.what_is_absent(envelope);
                warn!(
                    route = %rule.name, adapter, address = %envelope.address, id = %envelope.id,
                    absent, since_last = kept,
                    "A message lacks what `when` of a route reads, so the route does not take it."
                );
            }
        }
        let mut last = None;
        for failed in plan.failed().iter().filter(|failed| failed.is_condition()) {
            if last.replace(failed.rule) != Some(failed.rule)
                && let Some(Some(figures)) = self.0.get(failed.rule)
            {
                figures.failed.inc();
            }
        }
    }
}

impl Figures {
    /// How many lines were kept from the log, if one may go there now.
    fn due(&self) -> Option<u64> {
        let mut told = lock(&self.told);
        if let Some((at, kept)) = told.as_mut()
            && at.elapsed() < SILENCE
        {
            *kept += 1;
            return None;
        }
        let kept = told.map_or(0, |(_, kept)| kept);
        *told = Some((Instant::now(), 0));
        Some(kept)
    }
}
