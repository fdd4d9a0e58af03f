use serde_json::{Map, Value as Json, json};
use transload_envelope::{Arguments, Envelope, Text};
use transload_routing::{Gate, Plan, RuleSet, Scope};

use super::directory::{Directory, TargetEntry};
use crate::limits::{Limited, too_large};

/// What comes of a message at one target.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    /// The number of the rule.
    pub(crate) rule: usize,
    pub(crate) target: &'a TargetEntry,
    /// What the target gets; or why it gets nothing, and the message goes to the dead letters.
    pub(crate) sends: Result<Sending, Text>,
}

/// What a target gets.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) envelope: Envelope,
    /// What the message has filled in.
    pub(crate) arguments: Arguments,
    /// The keys of the target, with what the message has filled in.
    pub(crate) keys: Map<String, Json>,
}

/// What the rules make of a message.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) is_unrouted: bool,
    /// In the order of the file.
    pub(crate) outputs: Vec<Output<'a>>,
    /// What a limit says about it, by the number of the rule. Only those limits are asked that depend
    /// on nothing but the message.
    pub(crate) limited: Vec<(usize, Limited)>,
}

/// Asks the rules about a message that comes in at the adapter of this number.
pub(crate) fn outcome<'a>(
    directory: &'a Directory,
    rules: &RuleSet,
    adapter: usize,
    envelope: &Envelope,
) -> Outcome<'a> {
    let mut plan = Plan::default();
    let mut preview = Preview { directory, limited: Vec::new() };
    rules.route_through(adapter, envelope, &mut plan, &mut preview);
    let limited = preview.limited;
    let refused = limited.iter().any(|(_, verdict)| matches!(verdict, Limited::Refuse(_)));
    let outputs = if refused { Vec::new() } else { outputs(directory, &plan, envelope, &limited) };
    Outcome { is_unrouted: plan.is_unrouted(), outputs, limited }
}

/// Asks the limits that depend on nothing but the message.
struct Preview<'a> {
    directory: &'a Directory,
    limited: Vec<(usize, Limited)>,
}

impl Gate for Preview<'_> {
    fn admits(&mut self, rule: usize, scope: &Scope<'_>) -> bool {
        let route = self.directory.routes.get(rule);
        let payload = route.and_then(|route| route.limits.payload.as_ref());
        let verdict = payload.and_then(|payload| too_large(payload, scope.envelope()));
        let admits = verdict.is_none();
        self.limited.extend(verdict.map(|verdict| (rule, verdict)));
        admits
    }

    fn asks_for_captures(&self, _: usize) -> bool {
        false
    }
}

/// What a plan comes to at each target, in the order of the file.
fn outputs<'a>(
    directory: &'a Directory,
    plan: &Plan,
    original: &Envelope,
    limited: &[(usize, Limited)],
) -> Vec<Output<'a>> {
    let mut outputs = Vec::new();
    let targets = directory.targets.iter().enumerate().filter(|_| !limited.is_empty());
    for (number, target) in targets {
        let mut own = limited.iter().filter(|(rule, _)| *rule == target.route);
        let buried = own.find_map(|(_, verdict)| verdict.buries().cloned());
        if let Some(reason) = buried {
            outputs.push((number, Output { rule: target.route, target, sends: Err(reason) }));
        }
    }
    for planned in plan.targets() {
        let Some(target) = directory.targets.get(planned.destination) else { continue };
        let mut keys = target.keys.to_map();
        for (key, text) in planned.arguments.iter() {
            keys.insert(key.to_string(), json!(&**text));
        }
        let envelope = planned.envelope.as_deref().unwrap_or(original).clone();
        let arguments = planned.arguments.clone();
        let sends = Ok(Sending { envelope, arguments, keys });
        outputs.push((planned.destination, Output { rule: planned.rule, target, sends }));
    }
    for failed in plan.failed() {
        let Some(target) = directory.targets.get(failed.destination) else { continue };
        let sends = Err(failed.reason.clone());
        outputs.push((failed.destination, Output { rule: failed.rule, target, sends }));
    }
    outputs.sort_by_key(|(destination, _)| *destination);
    outputs.into_iter().map(|(_, output)| output).collect()
}
