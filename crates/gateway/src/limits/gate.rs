use std::time::Duration;

use tokio::time::Instant;
use transload_envelope::{Envelope, Text};
use transload_routing::{Gate, Scope, Template};

use super::{
    Limiter, Limits,
    settings::{OverPayload, OverRate, PayloadLimit},
    throttle::Throttled,
};

/// How long a source waits at most before it is asked again; what comes next then waits anew.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// What the limits of a rule have to say about a message, where that is not that it passes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// It is acknowledged, and goes nowhere by this rule.
    Drop,
    /// It is refused, for all rules.
    Refuse(Text),
    /// The source is told to come again.
    Later(Duration),
    /// It passes after this time.
    Wait(Duration),
    /// It goes to the dead letters of the rule.
    Bury(Text),
    /// It is held back, under this key.
    Hold(Text),
}

impl Limited {
    /// The reason for which it goes to the dead letters.
    pub(crate) fn buries(&self) -> Option<&Text> {
        if let Self::Bury(reason) = self { Some(reason) } else { None }
    }

    /// The reason for which it is refused.
    pub(crate) fn refuses(&self) -> Option<&Text> {
        if let Self::Refuse(reason) = self { Some(reason) } else { None }
    }

    /// When the source is to come again.
    pub(crate) fn later(&self) -> Option<Duration> {
        if let Self::Later(wait) = self { Some(*wait) } else { None }
    }

    /// How long it waits.
    pub(crate) fn waits(&self) -> Option<Duration> {
        if let Self::Wait(wait) = self { Some(*wait) } else { None }
    }
}

/// One message on its way through the limits of the rules that apply to it.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    limits: &'a Limits,
    /// The source can be told to come again.
    source_refuses: bool,
    verdicts: Vec<(usize, Limited)>,
}

impl<'a> Passage<'a> {
    pub(crate) fn new(limits: &'a Limits, source_refuses: bool) -> Self {
        Self { limits, source_refuses, verdicts: Vec::new() }
    }

    /// What the rules had to say, in their order.
    pub(crate) fn verdicts(self) -> Vec<(usize, Limited)> {
        self.verdicts
    }
}

impl Gate for Passage<'_> {
    fn admits(&mut self, rule: usize, scope: &Scope<'_>) -> bool {
        let Some(limiter) = self.limits.get(rule) else { return true };
        let Some(verdict) = limiter.ask(self.source_refuses, scope) else {
            return true;
        };
        let admits = matches!(verdict, Limited::Wait(_));
        self.verdicts.push((rule, verdict));
        admits
    }

    fn asks_for_captures(&self, rule: usize) -> bool {
        self.limits.get(rule).is_some()
    }
}

/// What becomes of a message whose payload is too large; nothing if it is not.
pub(crate) fn too_large(limit: &PayloadLimit, envelope: &Envelope) -> Option<Limited> {
    let bytes = envelope.payload.len() as u64;
    if bytes <= limit.bytes_max {
        return None;
    }
    let reason = || {
        let most = limit.bytes_max;
        format!("the payload has {bytes} bytes, more than `max_payload` allows ({most})").into()
    };
    Some(match limit.over {
        OverPayload::DeadLetter => Limited::Bury(reason()),
        OverPayload::Reject => Limited::Refuse(reason()),
        OverPayload::Drop => Limited::Drop,
    })
}

impl Limiter {
    fn ask(&self, source_refuses: bool, scope: &Scope<'_>) -> Option<Limited> {
        let envelope = scope.envelope();
        let figures = &self.metrics;
        if let Some(payload) = &self.settings.payload
            && let Some(verdict) = too_large(payload, envelope)
        {
            figures.payload.inc();
            return Some(verdict);
        }
        if self.settings.sample.is_some_and(|sample| !sample.takes(envelope.id.as_str())) {
            figures.sampled_out.inc();
            return Some(Limited::Drop);
        }
        let now = Instant::now();
        let wait = match self.rated(source_refuses, scope, now) {
            passing @ (None | Some(Limited::Wait(_))) => passing,
            stopping => return stopping,
        };
        self.throttled(scope, envelope, now).or(wait)
    }

    fn rated(&self, source_refuses: bool, scope: &Scope<'_>, now: Instant) -> Option<Limited> {
        let rate = self.settings.rate.as_ref()?;
        // What has no key shares one rate.
        let key = key(rate.by.as_ref(), scope).unwrap_or_default();
        if rate.over == OverRate::Wait && !source_refuses {
            let wait = self.rates.reserve(&key, now).min(WAIT_MAX);
            if wait.is_zero() {
                return None;
            }
            self.metrics.rate_waited.inc();
            return Some(Limited::Wait(wait));
        }
        let wait = self.rates.take(&key, now).err()?;
        Some(match rate.over {
            OverRate::Wait => {
                self.metrics.rate_waited.inc();
                Limited::Later(wait)
            }
            OverRate::Reject => {
                self.metrics.rate_refused.inc();
                Limited::Refuse(Text::from_static("the rate of a route is used up"))
            }
            OverRate::Drop => {
                self.metrics.rate_dropped.inc();
                Limited::Drop
            }
        })
    }

    fn throttled(&self, scope: &Scope<'_>, envelope: &Envelope, now: Instant) -> Option<Limited> {
        let throttle = self.settings.throttle.as_ref()?;
        let Some(key) = key(throttle.by.as_ref(), scope) else {
            // Of what it might supersede, nothing is known.
            self.metrics.throttle_passed.inc();
            return None;
        };
        match self.throttle.ask(&key, envelope.size(), now) {
            Throttled::Passes => None,
            Throttled::PassesUnbounded => {
                self.metrics.throttle_passed.inc();
                None
            }
            Throttled::IsHeld => {
                self.metrics.throttle_held.inc();
                Some(Limited::Hold(key))
            }
        }
    }
}

/// The key of a message; nothing where it cannot be filled in.
fn key(template: Option<&Template>, scope: &Scope<'_>) -> Option<Text> {
    let Some(template) = template else { return Some(Text::new()) };
    template.render_text(scope, &mut String::new()).ok()
}
