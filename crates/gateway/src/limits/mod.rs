//! How much of what a route wants it takes: rate, sample, throttle and the size of a payload.
//!
//! Invariants:
//! - A limit does not change which routes apply: a route that lets a message go has taken it, so
//!   `stop` holds and no fallback steps in.
//! - What a limit keeps from its targets is counted, each kind by itself.
//! - Nothing that was acknowledged is lost by a throttle: what it holds back is on disk, unless its
//!   route is best-effort.
//! - The number of keys has a bound. Beyond it, keys share one rate, and a throttle holds nothing
//!   back.

mod dispatching;
mod gate;
mod holder;
mod rate;
mod sample;
mod settings;
#[cfg(test)]
mod tests;
mod throttle;

use std::{collections::HashMap, sync::Arc};

use transload_envelope::Text;

pub(crate) use self::{
    dispatching::{longest_wait, stopped},
    gate::{Limited, Passage, too_large},
    holder::{Holder, Holding},
};
use self::{rate::Rates, throttle::Throttle};
pub use self::{
    sample::Sample,
    settings::{OverPayload, OverRate, PayloadLimit, RateLimit, RouteLimits, ThrottleLimit},
};
use crate::{
    config::Route,
    metrics::{LimitMetrics, Metrics},
};

/// The limits of all routes.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// By the numbers of the rules.
    limiters: Vec<Option<Arc<Limiter>>>,
    /// The numbers of the rules by the names of their routes.
    numbers: HashMap<Text, usize>,
}

/// The limits of one route, and how much of them is used up.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) route: Text,
    pub(crate) settings: RouteLimits,
    rates: Rates,
    pub(crate) throttle: Throttle,
    pub(crate) metrics: LimitMetrics,
}

impl Limits {
    /// The limits of these routes. Where a route of the same name had the same limits before, what
    /// was used up of them remains used up.
    pub(crate) fn new(routes: &[Route], before: &Self, metrics: &Metrics) -> Self {
        let limiter = |route: &Route| {
            if route.limits == RouteLimits::default() {
                return None;
            }
            if let Some(same) =
                before.named(&route.name).filter(|same| same.settings == route.limits)
            {
                return Some(Arc::clone(same));
            }
            let figures = metrics.limits(&route.name);
            Some(Arc::new(Limiter::new(route.name.clone(), route.limits.clone(), figures)))
        };
        let numbers = routes.iter().enumerate();
        Self {
            limiters: routes.iter().map(limiter).collect(),
            numbers: numbers.map(|(number, route)| (route.name.clone(), number)).collect(),
        }
    }

    /// The limits of a rule, if it has any.
    pub(crate) fn get(&self, rule: usize) -> Option<&Arc<Limiter>> {
        self.limiters.get(rule)?.as_ref()
    }

    /// The number of the rule of this route.
    fn rule(&self, route: &Text) -> Option<usize> {
        self.numbers.get(route).copied()
    }

    fn named(&self, route: &Text) -> Option<&Arc<Limiter>> {
        self.get(self.rule(route)?)
    }
}

impl Limiter {
    fn new(route: Text, settings: RouteLimits, metrics: LimitMetrics) -> Self {
        let rates = Rates::new(settings.rate.as_ref());
        let throttle = Throttle::new(settings.throttle.as_ref());
        Self { route, settings, rates, throttle, metrics }
    }
}
