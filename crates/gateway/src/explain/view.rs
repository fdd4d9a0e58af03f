//! An explanation as JSON. The names are an interface, described in `docs/TESTING-RULES.md`.

use serde_json::{Map, Value as Json, json};
use transload_adapter::{Carriage, Part, SendError};
use transload_envelope::{Envelope, Outgoing};
use transload_routing::{Considered, Pattern, RuleSet, Values, Verdict};

use super::{
    changes::changes,
    directory::Directory,
    outputs::{Output, Sending, outcome},
};
use crate::{
    limits::{Limited, RouteLimits},
    message,
};

/// How many rules are listed.
const LISTED_MAX: usize = 1_000;

pub(super) fn explanation(
    directory: &Directory,
    rules: &RuleSet,
    adapter: usize,
    envelope: &Envelope,
    all: bool,
) -> Json {
    let planned = outcome(directory, rules, adapter, envelope);
    let verdicts = rules.explain(adapter, envelope);
    let count = |wanted| verdicts.iter().filter(|one| one.verdict == wanted).count();
    let other_source = count(Verdict::OtherSource);
    let no_pattern = count(Verdict::NoPatternMatches);
    let mut considered = Vec::new();
    let mut left_out = 0_usize;
    for verdict in &verdicts {
        let unrelated = matches!(verdict.verdict, Verdict::OtherSource | Verdict::NoPatternMatches);
        if unrelated && !all {
            continue;
        }
        if considered.len() >= LISTED_MAX {
            left_out += 1;
            continue;
        }
        considered.push(rule(directory, rules, envelope, verdict, &planned.limited));
    }
    let outputs: Vec<_> =
        planned.outputs.iter().map(|one| output(directory, envelope, one)).collect();
    let refused = planned.limited.iter().any(|(_, said)| matches!(said, Limited::Refuse(_)));
    let outcome = match (planned.is_unrouted, outputs.is_empty()) {
        (true, _) => "unrouted",
        (false, true) if refused => "refused",
        (false, true) => "dropped",
        (false, false) => "routed",
    };
    let (name, kind) = directory.adapter(adapter);
    json!({
        "from": name,
        "kind": kind,
        "message": message::message(envelope),
        "outcome": outcome,
        "rules": {
            "all": verdicts.len(),
            "other_source": other_source,
            "no_pattern_matches": no_pattern,
            "not_listed": left_out,
        },
        "considered": considered,
        "outputs": outputs,
    })
}

fn rule(
    directory: &Directory,
    rules: &RuleSet,
    envelope: &Envelope,
    considered: &Considered,
    limited: &[(usize, Limited)],
) -> Json {
    let mut view = Map::new();
    view.insert("route".to_owned(), json!(directory.route(considered.rule)));
    let mut put = |key: &str, value: Json| drop(view.insert(key.to_owned(), value));
    match &considered.verdict {
        Verdict::Applies { pattern } => {
            put("verdict", json!("applies"));
            put_pattern(directory, rules, envelope, considered.rule, *pattern, &mut put);
            let said = limited.iter().find(|(rule, _)| *rule == considered.rule);
            if let Some((_, said)) = said {
                put("limited", json!(in_words(said)));
            }
        }
        Verdict::OtherSource => put("verdict", json!("other_source")),
        Verdict::NoPatternMatches => {
            put("verdict", json!("no_pattern_matches"));
            if let Some(rule) = rules.rules().get(considered.rule) {
                let patterns = rule.patterns.iter().map(Pattern::as_str);
                put("patterns", patterns.map(Json::from).collect());
            }
        }
        Verdict::NotTrue { values } => {
            put("verdict", json!("not_true"));
            put_condition(rules, considered.rule, values, "does not hold", &mut put);
        }
        Verdict::Absent { values } => {
            put("verdict", json!("absent"));
            put_condition(rules, considered.rule, values, "cannot be told", &mut put);
        }
        Verdict::Failed { error } => {
            put("verdict", json!("failed"));
            let because = format!("fails: {error}");
            put_condition(rules, considered.rule, &Values::default(), &because, &mut put);
        }
        Verdict::NotNeeded { because_of } => {
            put("verdict", json!("not_needed"));
            put("because_of", json!(directory.route(*because_of)));
        }
        Verdict::Stopped { by } => {
            put("verdict", json!("stopped"));
            put("by", json!(directory.route(*by)));
        }
    }
    Json::Object(view)
}

/// The condition, and what it read; what is absent is not there.
fn put_condition(
    rules: &RuleSet,
    rule: usize,
    values: &Values,
    because: &str,
    put: &mut impl FnMut(&str, Json),
) {
    let when = rules.rules().get(rule).and_then(|rule| rule.when.as_ref());
    let when = when.map_or("", |when| when.predicate.as_str());
    put("reason", json!(format!("`{when}` {because}{values}")));
    put("when", json!(when));
    let present = |(name, value): &(_, Option<Json>)| {
        let name: &transload_envelope::Text = name;
        value.clone().map(|value| (name.to_string(), value))
    };
    put("values", Json::Object(values.0.iter().filter_map(present).collect()));
    let absent = values.0.iter().filter(|(_, value)| value.is_none());
    put("absent", absent.map(|(name, _)| json!(&**name)).collect());
}

/// The pattern that matched, and what it captured.
fn put_pattern(
    directory: &Directory,
    rules: &RuleSet,
    envelope: &Envelope,
    rule: usize,
    pattern: usize,
    put: &mut impl FnMut(&str, Json),
) {
    let route = directory.routes.get(rule);
    let pattern = rules.rules().get(rule).and_then(|rule| rule.patterns.get(pattern));
    if let Some(pattern) = pattern {
        put("pattern", json!(pattern.as_str()));
    }
    let captures = pattern.and_then(|pattern| pattern.matches(&envelope.address));
    let captures = captures.unwrap_or_default();
    let captures: Map<String, Json> =
        captures.iter().map(|(name, text)| (name.to_owned(), json!(text))).collect();
    put("captures", Json::Object(captures));
    if let Some(route) = route {
        put("guarantee", json!(route.guarantee.as_str()));
        if route.limits != RouteLimits::default() {
            put("limits", json!(route.limits.to_string()));
        }
    }
}

/// What a limit says about a message, as far as it keeps it from the targets.
fn in_words(said: &Limited) -> String {
    match said {
        Limited::Bury(reason) => format!("to the dead letters: {reason}"),
        Limited::Refuse(reason) => format!("the message is refused: {reason}"),
        Limited::Drop => "the message goes nowhere by this route".to_owned(),
        Limited::Later(_) | Limited::Wait(_) | Limited::Hold(_) => "the message waits".to_owned(),
    }
}

fn output(directory: &Directory, original: &Envelope, output: &Output<'_>) -> Json {
    let target = output.target;
    let (adapter, kind) = directory.adapter(target.adapter);
    let mut view = Map::new();
    let mut put = |key: &str, value: Json| drop(view.insert(key.to_owned(), value));
    put("route", json!(directory.route(output.rule)));
    put("to", json!(adapter));
    put("kind", json!(kind));
    put("destination", json!(&*target.destination));
    put("at", json!(target.description));
    match &output.sends {
        Ok(sending) => {
            put("keys", Json::Object(sending.keys.clone()));
            let Sending { envelope, arguments, .. } = sending;
            let (envelope, arguments) = (envelope.clone(), arguments.clone());
            match directory.place(target, &Outgoing { envelope, arguments }) {
                Ok(Some((name, text))) => put("place", json!({ name: text })),
                Ok(None) => {}
                Err(SendError::Rejected { reason }) => put("rejected", json!(&*reason)),
                Err(error) => put("rejected", json!(error.to_string())),
            }
            if let Some(route) = directory.routes.get(target.route) {
                put("guarantee", json!(route.guarantee.as_str()));
                put("queue", json!(&*route.queue));
            }
            put("carries_headers", json!(target.carries.carries(Part::Headers)));
            put("lost", lost(&sending.envelope, target.carries));
            put("message", Json::Object(message::message(&sending.envelope)));
            put("changes", Json::Object(changes(original, &sending.envelope)));
        }
        Err(reason) => put("dead_letter", json!(&**reason)),
    }
    Json::Object(view)
}

/// What this message has and the target cannot carry.
fn lost(envelope: &Envelope, carries: &Carriage) -> Json {
    let properties = envelope.properties();
    let has = |part: &Part| match part {
        // The one is a matter of the guarantee, the others are the gateway's own.
        Part::Durable | Part::Hops | Part::Id => false,
        Part::ContentType => properties.content_type.is_some(),
        Part::ContentEncoding => properties.content_encoding.is_some(),
        Part::Correlation => properties.correlation.is_some(),
        Part::ReplyTo => properties.reply_to.is_some(),
        Part::Expiry => properties.expires_at.is_some(),
        Part::Retain => properties.retain,
        Part::Priority => properties.priority.is_some(),
        Part::Type => properties.kind.is_some(),
        Part::Application => properties.app_id.is_some(),
        Part::User => properties.user_id.is_some(),
        Part::Timestamp => properties.timestamp.is_some(),
        Part::Headers => !envelope.headers.is_empty(),
    };
    let lost = Part::ALL.into_iter().filter(|part| has(part) && !carries.carries(*part));
    lost.map(|part| json!(part.name())).collect()
}
