use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use transload_envelope::Origin;

use super::*;
use crate::{Computed, Field, Step, naive};

/// A rule for all adapters with one target, whose destination is 10 times its first pattern's
/// length, so that tests can tell targets apart.
fn rule(patterns: &[&str]) -> Rule {
    Rule {
        name: patterns.join(" ").into(),
        from: vec![],
        patterns: patterns.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
        when: None,
        fallback: false,
        stop: false,
        shape: Shape::default(),
        targets: vec![target(0, &[])],
    }
}

fn target(destination: usize, templates: &[(&str, &str)]) -> TargetRule {
    let parse =
        |(key, template): &(&str, &str)| (Text::from(*key), Template::parse(template).unwrap());
    let templates = templates.iter().map(parse).collect();
    TargetRule { destination, shape: Shape::default(), templates }
}

fn message(address: &str) -> Envelope {
    Envelope::new(Origin::new("devices", "mqtt", address), "")
}

fn applied(set: &RuleSet, adapter: usize, address: &str) -> Vec<usize> {
    let mut plan = Plan::new();
    set.route(adapter, &message(address), &mut plan);
    plan.rules().to_vec()
}

#[test]
fn matching_rules_apply_in_the_order_of_the_file() {
    let from = |from: &[usize], pattern| Rule { from: from.to_vec(), ..rule(&[pattern]) };
    let stop = |pattern| Rule { stop: true, ..rule(&[pattern]) };
    let fallback = |pattern| Rule { fallback: true, ..rule(&[pattern]) };
    let set = RuleSet::new(vec![
        fallback("#"),                                   // 0
        rule(&["a/+"]),                                  // 1
        from(&[1], "a/#"),                               // 2
        from(&[1, 2, 2], "a/b"),                         // 3
        Rule { stop: true, ..fallback("c/#") },          // 4
        stop("a/stop"),                                  // 5
        rule(&["a/{x}", "{x}/b", "a/#", "x/{path...}"]), // 6
        fallback("c/+"),                                 // 7
        fallback("#"),                                   // 8
        Rule { targets: vec![], ..rule(&["dropped"]) },  // 9
    ]);
    for (adapter, address, rules) in [
        (0, "a/b", &[1, 6][..]),
        (1, "a/b", &[1, 2, 3, 6]),
        (2, "a/b", &[1, 3, 6]),
        (3, "a/b", &[1, 6]),
        (0, "a/stop", &[1, 5]),
        (1, "a/stop", &[1, 2, 5]),
        (1, "a", &[2, 6]),
        (0, "a", &[6]),
        (0, "nothing", &[0, 8]),
        (1, "c/d", &[0, 4]),
        (1, "dropped", &[9]),
        (0, "$SYS/x", &[]),
        (usize::MAX, "x", &[6]),
    ] {
        assert_eq!(applied(&set, adapter, address), rules, "{address} at {adapter}");
    }
}

#[test]
fn the_first_matching_pattern_gives_the_captures() {
    let templates = [("key", "{x|-}.{y|-}")];
    let set = RuleSet::new(vec![Rule {
        targets: vec![target(3, &templates)],
        ..rule(&["a/{x}/z", "{y}/b/#", "{x}/{y...}"])
    }]);
    let mut plan = Plan::new();
    for (address, text) in
        [("a/b/z", "b.-"), ("a/b/c", "-.a"), ("q/r/s", "q.r/s"), ("q/b", "-.q"), ("q", "q.")]
    {
        set.route(0, &message(address), &mut plan);
        let [planned] = plan.targets() else { panic!("{address}: {plan:?}") };
        assert_eq!(planned.arguments.get("key").unwrap(), text, "{address}");
    }
}

#[test]
fn a_target_that_cannot_be_rendered_hides_no_other() {
    let set = RuleSet::new(vec![
        Rule {
            targets: vec![
                target(1, &[("fixed", "amq.topic"), ("key", "{device}"), ("brace", "{{")]),
                target(2, &[("key", "{device}"), ("tenant", "{header.tenant}")]),
                target(3, &[("tenant", "{header.tenant|nobody}")]),
            ],
            ..rule(&["devices/{device}/up"])
        },
        Rule { targets: vec![target(4, &[])], ..rule(&["devices/#"]) },
        Rule { fallback: true, ..rule(&["#"]) },
    ]);
    let mut plan = Plan::new();
    set.route(0, &message("devices/d7/up"), &mut plan);
    let targets: Vec<_> = plan
        .targets()
        .iter()
        .map(|target| {
            let arguments = target.arguments.iter().map(|(key, text)| format!("{key}={text}"));
            (target.rule, target.destination, arguments.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(
        targets,
        [
            (0, 1, "key=d7 brace={".to_owned()),
            (0, 3, "tenant=nobody".to_owned()),
            (1, 4, String::new()),
        ]
    );
    let [failed] = plan.failed() else { panic!("{plan:?}") };
    assert_eq!((failed.rule, failed.destination), (0, 2));
    let reason = "`tenant` cannot be filled in: the message has no `header.tenant`";
    assert!(failed.reason.starts_with(reason), "{failed:?}");

    assert_eq!(plan.drain_targets().len(), 3);
    assert_eq!(plan.drain_failed().len(), 1);
    set.route(0, &message("$nobody"), &mut plan);
    assert!(plan.is_unrouted() && plan.targets().is_empty() && plan.failed().is_empty());
}

#[test]
fn targets_share_what_their_rule_has_made() {
    let address = |template: &str| {
        let computed = Computed::Template(template.parse().unwrap());
        Shape::new(vec![Step::Set(vec![(Field::Address, computed)])])
    };
    let own = TargetRule { shape: address("{address}/own"), ..target(3, &[("key", "{address}")]) };
    let set = RuleSet::new(vec![
        rule(&["a/#"]),
        Rule {
            shape: address("b/{x}"),
            targets: vec![target(1, &[("key", "{address}")]), target(2, &[]), own],
            ..rule(&["a/{x}"])
        },
        Rule { shape: address("{header.none}"), targets: vec![target(4, &[])], ..rule(&["a/#"]) },
    ]);
    let mut plan = Plan::new();
    set.route(0, &message("a/1"), &mut plan);
    let [original, first, second, own] = plan.targets() else { panic!("{plan:?}") };
    assert!(original.envelope.is_none());
    let [first_message, second_message, own_message] =
        [first, second, own].map(|target| target.envelope.as_ref().unwrap());
    assert!(Arc::ptr_eq(first_message, second_message));
    assert_eq!((&*first_message.address, &**first.arguments.get("key").unwrap()), ("b/1", "b/1"));
    assert_eq!(&*own_message.address, "b/1/own");
    assert_eq!(own.arguments.get("key").unwrap(), "b/1/own");
    let [failed] = plan.failed() else { panic!("{plan:?}") };
    assert_eq!((failed.rule, failed.destination), (2, 4));
    assert!(failed.reason.starts_with("`set address` failed: "), "{failed:?}");
}

#[test]
fn a_rule_whose_targets_all_fail_has_applied() {
    let failing = Rule { targets: vec![target(1, &[("k", "{header.x}")])], ..rule(&["a"]) };
    let fallback = Rule { fallback: true, ..rule(&["#"]) };
    let set = RuleSet::new(vec![Rule { stop: true, ..failing }, rule(&["a"]), fallback]);
    let mut plan = Plan::new();
    set.route(0, &message("a"), &mut plan);
    assert_eq!((plan.rules(), plan.targets().len(), plan.failed().len()), (&[0][..], 0, 1));
}

#[test]
fn an_address_changed_since_its_origin_is_the_one_that_counts() {
    let set = RuleSet::new(vec![rule(&["old"]), rule(&["new"])]);
    let mut envelope = message("old");
    envelope.address = "new".into();
    let mut plan = Plan::new();
    set.route(0, &envelope, &mut plan);
    assert_eq!(plan.rules(), [1]);
}

#[test]
fn an_explanation_gives_the_first_reason() {
    let set = RuleSet::new(vec![
        Rule { from: vec![1], ..rule(&["#"]) },
        rule(&["b"]),
        rule(&["x", "a"]),
        Rule { stop: true, ..rule(&["+"]) },
        rule(&["a"]),
        Rule { fallback: true, ..rule(&["a"]) },
        Rule { fallback: true, ..rule(&["b"]) },
    ]);
    let verdicts = |address| -> Vec<_> {
        set.explain(0, &message(address)).into_iter().map(|entry| entry.verdict).collect()
    };
    assert_eq!(
        verdicts("a"),
        [
            Verdict::OtherSource,
            Verdict::NoPatternMatches,
            Verdict::Applies { pattern: 1 },
            Verdict::Applies { pattern: 0 },
            Verdict::Stopped { by: 3 },
            Verdict::NotNeeded { because_of: 2 },
            Verdict::NoPatternMatches,
        ]
    );
}

fn when(predicate: &str) -> Option<When> {
    let predicate = Predicate::compile(predicate);
    predicate.ok().map(|predicate| When { predicate, missing: WhenMissing::Skip })
}

fn with_payload(address: &str, payload: &str) -> Envelope {
    Envelope::new(Origin::new("devices", "mqtt", address), payload.to_owned())
}

#[test]
fn conditions_decide_and_their_trouble_is_told() {
    let strict = |text| Some(When { missing: WhenMissing::Fail, ..when(text).unwrap() });
    let set = RuleSet::new(vec![
        Rule { when: when("payload.t > 30"), stop: true, ..rule(&["a/{x}"]) },
        Rule { when: when("captures.x == 'b' && payload.t > 10"), ..rule(&["a/{x}"]) },
        Rule { when: strict("payload.t > 5"), ..rule(&["strict"]) },
        Rule { when: when("payload.t > 5"), fallback: true, ..rule(&["#"]) },
        Rule { fallback: true, ..rule(&["#"]) },
    ]);
    let mut plan = Plan::new();
    for (address, payload, applied, absent, failed) in [
        ("a/b", "{\"t\": 31}", &[0][..], &[][..], None),
        ("a/b", "{\"t\": 20.5}", &[1], &[], None),
        ("a/c", "{\"t\": 20}", &[3, 4], &[], None),
        ("a/c", "{}", &[4], &[0, 3], None),
        ("a/b", "no JSON", &[4], &[0, 1, 3], None),
        (
            "a/b",
            "{\"t\": \"hot\"}",
            &[],
            &[],
            Some(
                "`when` cannot be told: `payload.t > 30`: `>` cannot be used between a text and \
                  an integer; payload.t is \"hot\"",
            ),
        ),
        ("strict", "{\"t\": 6}", &[2], &[], None),
        ("strict", "{\"t\": 4}", &[4], &[], None),
        (
            "strict",
            "{}",
            &[],
            &[],
            Some("`when` cannot be told: `payload.t > 5`: payload.t is absent"),
        ),
    ] {
        set.route(0, &with_payload(address, payload), &mut plan);
        assert_eq!(plan.rules(), applied, "{address} {payload}");
        assert_eq!(plan.absent(), absent, "{address} {payload}");
        assert_eq!(plan.failed().first().map(ToString::to_string).as_deref(), failed);
        assert_eq!(plan.is_unrouted(), applied.is_empty() && failed.is_none());
    }
}

#[test]
fn an_explanation_shows_the_values() {
    let set = RuleSet::new(vec![
        Rule { when: when("payload.t > 30"), ..rule(&["#"]) },
        Rule { when: when("payload.u > 30"), ..rule(&["#"]) },
        Rule { when: when("payload.s > 30"), ..rule(&["#"]) },
        Rule { fallback: true, ..rule(&["#"]) },
    ]);
    let considered = set.explain(0, &with_payload("a", "{\"t\": 5, \"s\": \"x\"}"));
    let shown: Vec<_> = considered
        .iter()
        .map(|entry| match &entry.verdict {
            Verdict::NotTrue { values } => format!("not true{values}"),
            Verdict::Absent { values } => format!("absent{values}"),
            Verdict::Failed { error } => format!("failed: {error}"),
            Verdict::NotNeeded { because_of } => format!("not needed because of {because_of}"),
            other @ (Verdict::Applies { .. }
            | Verdict::OtherSource
            | Verdict::NoPatternMatches
            | Verdict::Stopped { .. }) => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "not true; payload.t is 5",
            "absent; payload.u is absent",
            "failed: `>` cannot be used between a text and an integer; payload.s is \"x\"",
            "not needed because of 2",
        ]
    );
}

/// A condition on the first field of a payload, or none, and what it says of the payload by the
/// words of the documentation: true, false, absent or failed.
fn any_when() -> impl Strategy<Value = Option<When>> {
    let constant = || prop::sample::select(vec!["1", "2", "'x'", "'y'", "true", "1.0"]);
    let equal = (prop::sample::select(vec!["payload.a", "payload.b", "source.kind"]), constant())
        .prop_map(|(field, constant)| format!("{field} == {constant}"));
    let one_of = (constant(), constant()).prop_map(|(a, b)| format!("payload.a in [{a}, {b}]"));
    let and = (constant(), 0..3).prop_map(|(a, b)| format!("payload.a == {a} && payload.b > {b}"));
    let other = prop::sample::select(vec!["payload.a > 1", "has(payload.b)", "true"]);
    let text = prop_oneof![4 => equal, 2 => one_of, 2 => and, 1 => other.prop_map(str::to_owned)];
    (prop::option::of(text), prop::bool::weighted(0.2)).prop_map(|(text, strict)| {
        let missing = if strict { WhenMissing::Fail } else { WhenMissing::Skip };
        text.map(|text| When { predicate: Predicate::compile(&text).unwrap(), missing })
    })
}

fn any_payload() -> impl Strategy<Value = String> {
    let value =
        || prop::sample::select(vec!["1", "2", "1.0", "\"x\"", "\"y\"", "true", "null", "[]"]);
    let field = || prop::option::weighted(0.8, value());
    (field(), field()).prop_map(|(a, b)| {
        let fields = [("a", a), ("b", b)];
        let written = fields
            .iter()
            .filter_map(|(key, value)| value.map(|value| format!("\"{key}\": {value}")));
        format!("{{{}}}", written.collect::<Vec<_>>().join(", "))
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let flag = || prop::bool::weighted(0.2);
    (vec(0..3_usize, 0..3), vec(naive::pattern(), 0..4), any_when(), flag(), flag()).prop_map(
        |(from, patterns, when, fallback, stop)| {
            let patterns: Vec<_> = patterns.iter().map(|text| &**text).collect();
            Rule { from, when, fallback, stop, ..rule(&patterns) }
        },
    )
}

/// The numbers of the rules that apply, and of those that fail, by the words of [`RuleSet`]'s
/// documentation.
fn naive_route(rules: &[Rule], adapter: usize, envelope: &Envelope) -> (Vec<usize>, Vec<usize>) {
    let facts = Facts::new(envelope);
    for fallback in [false, true] {
        let (mut applied, mut failed) = (Vec::new(), Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            let from = rule.from.is_empty() || rule.from.contains(&adapter);
            let address = &envelope.address;
            let matching = rule.patterns.iter().any(|text| naive::matches(text.as_str(), address));
            if !from || !matching || rule.fallback != fallback {
                continue;
            }
            let captures = Captures::default();
            let scope = Scope::new(&captures, &facts);
            let told = rule.when.as_ref().map_or(Ok(true), |when| when.predicate.test(&scope));
            match (told, rule.when.as_ref().map(|when| when.missing)) {
                (Ok(true), _) => applied.push(number),
                (Ok(false), _) | (Err(EvalError::Absent { .. }), Some(WhenMissing::Skip)) => {
                    continue;
                }
                (Err(_), _) => failed.push(number),
            }
            if rule.stop && applied.last() == Some(&number) {
                break;
            }
        }
        if !applied.is_empty() || !failed.is_empty() {
            return (applied, failed);
        }
    }
    (vec![], vec![])
}

proptest! {
    #[test]
    fn routing_and_explaining_agree_with_the_naive_router(
        rules in vec(any_rule(), 0..20),
        adapter in 0..4_usize,
        address in naive::address(),
        payload in any_payload(),
    ) {
        let envelope = with_payload(&address, &payload);
        let (expected, failed) = naive_route(&rules, adapter, &envelope);
        let set = RuleSet::new(rules);
        let mut plan = Plan::new();
        set.route(adapter, &envelope, &mut plan);
        prop_assert_eq!(plan.rules(), &*expected);
        prop_assert_eq!(plan.failed().iter().map(|failed| failed.rule).collect::<Vec<_>>(), &*failed);
        let considered = set.explain(adapter, &envelope);
        let explained = considered.iter().filter(|entry| entry.applies()).map(|entry| entry.rule);
        prop_assert_eq!(explained.collect::<Vec<_>>(), expected);
        let failing = considered.iter().filter(|entry| matches!(entry.verdict, Verdict::Failed { .. }));
        prop_assert_eq!(failing.map(|entry| entry.rule).collect::<Vec<_>>(), &*failed);
        prop_assert_eq!(considered.len(), set.rules().len());
    }
}

/// Shut for the rules of these numbers.
struct Shut(Vec<usize>);

impl Gate for Shut {
    fn admits(&mut self, rule: usize, _: &Scope<'_>) -> bool {
        !self.0.contains(&rule)
    }

    fn asks_for_captures(&self, _: usize) -> bool {
        false
    }
}

/// Writes down what it is shown of a capture.
struct Reader(Vec<String>);

impl Gate for Reader {
    fn admits(&mut self, _: usize, scope: &Scope<'_>) -> bool {
        let key = Template::parse("{device}").unwrap();
        self.0.push(key.render_text(scope, &mut String::new()).unwrap().to_string());
        true
    }

    fn asks_for_captures(&self, rule: usize) -> bool {
        rule == 0
    }
}

#[test]
fn a_gate_that_asks_for_captures_sees_them() {
    let set = RuleSet::new(vec![rule(&["devices/{device}"])]);
    let (mut plan, mut reader) = (Plan::new(), Reader(Vec::new()));
    set.route_through(0, &message("devices/d1"), &mut plan, &mut reader);
    assert_eq!(reader.0, ["d1"]);
}

#[test]
fn a_gate_keeps_a_message_from_targets_and_changes_nothing_else() {
    let set = RuleSet::new(vec![
        Rule { targets: vec![target(0, &[])], ..rule(&["a"]) },
        Rule { stop: true, targets: vec![target(1, &[])], ..rule(&["a"]) },
        Rule { targets: vec![target(2, &[])], ..rule(&["a"]) },
        Rule { fallback: true, targets: vec![target(3, &[])], ..rule(&["#"]) },
    ]);
    for (shut, targets) in [(vec![], vec![0, 1]), (vec![1], vec![0]), (vec![0, 1], vec![])] {
        let mut plan = Plan::new();
        set.route_through(0, &message("a"), &mut plan, &mut Shut(shut));
        let found: Vec<_> = plan.targets().iter().map(|target| target.destination).collect();
        assert_eq!((plan.rules(), found), (&[0, 1][..], targets));
    }
}

#[test]
fn one_rule_is_planned_by_itself() {
    let set = RuleSet::new(vec![
        Rule { stop: true, ..rule(&["#"]) },
        Rule { targets: vec![target(5, &[("key", "{x}")])], ..rule(&["a/{x}"]) },
    ]);
    let mut plan = Plan::new();
    assert!(set.plan_one(1, &message("a/b"), &mut plan));
    let target = &plan.targets()[0];
    assert_eq!((target.destination, target.arguments.get("key").map(|key| &**key)), (5, Some("b")));
    assert!(!set.plan_one(1, &message("b"), &mut plan));
    assert!(!set.plan_one(2, &message("b"), &mut plan));
}
