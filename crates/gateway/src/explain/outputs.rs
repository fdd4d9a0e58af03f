use serde_json::{Map, Value as Json, json};
use transload_envelope::{Envelope, Text};
use transload_routing::Plan;

use super::directory::{Directory, TargetEntry};

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
    /// The keys of the target, with what the message has filled in.
    pub(crate) keys: Map<String, Json>,
}

/// What a plan comes to at each target, in the order of the file.
pub(crate) fn outputs<'a>(
    directory: &'a Directory,
    plan: &Plan,
    original: &Envelope,
) -> Vec<Output<'a>> {
    let mut outputs = Vec::new();
    for planned in plan.targets() {
        let Some(target) = directory.targets.get(planned.destination) else { continue };
        let mut keys = target.keys.clone();
        for (key, text) in planned.arguments.iter() {
            keys.insert(key.to_string(), json!(&**text));
        }
        let sends = Ok(Sending { envelope: original.clone(), keys });
        outputs.push((planned.destination, Output { rule: planned.rule, target, sends }));
    }
    for failed in plan.failed() {
        let Some(target) = directory.targets.get(failed.destination) else { continue };
        let reason = failed.to_string();
        let sends = Err(reason.into());
        outputs.push((failed.destination, Output { rule: failed.rule, target, sends }));
    }
    outputs.sort_by_key(|(destination, _)| *destination);
    outputs.into_iter().map(|(_, output)| output).collect()
}
