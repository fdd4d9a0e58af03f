use proptest::{collection::vec, prelude::*};
use transload_envelope::Origin;

use super::*;
use crate::naive;

/// A rule for all adapters with one target, whose destination is 10 times its first pattern's
/// length, so that tests can tell targets apart.
fn rule(patterns: &[&str]) -> Rule {
    Rule {
        name: patterns.join(" ").into(),
        from: vec![],
        patterns: patterns.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
        fallback: false,
        stop: false,
        targets: vec![target(0, &[])],
    }
}

fn target(destination: usize, templates: &[(&str, &str)]) -> TargetRule {
    let parse =
        |(key, template): &(&str, &str)| (Text::from(*key), Template::parse(template).unwrap());
    TargetRule { destination, templates: templates.iter().map(parse).collect() }
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
    assert_eq!((failed.rule, failed.destination, &*failed.key), (0, 2, "tenant"));
    assert_eq!(failed.error, RenderError::Missing { name: "header.tenant".into() });

    assert_eq!(plan.drain_targets().len(), 3);
    assert_eq!(plan.drain_failed().len(), 1);
    set.route(0, &message("$nobody"), &mut plan);
    assert!(plan.is_unrouted() && plan.targets().is_empty() && plan.failed().is_empty());
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
        set.explain(0, &message(address)).iter().map(|entry| entry.verdict).collect()
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

fn any_rule() -> impl Strategy<Value = Rule> {
    let flag = || prop::bool::weighted(0.2);
    (vec(0..3_usize, 0..3), vec(naive::pattern(), 0..4), flag(), flag()).prop_map(
        |(from, patterns, fallback, stop)| {
            let patterns: Vec<_> = patterns.iter().map(|text| &**text).collect();
            Rule { from, fallback, stop, ..rule(&patterns) }
        },
    )
}

/// The numbers of the rules that apply, by the words of [`RuleSet`]'s documentation.
fn naive_route(rules: &[Rule], adapter: usize, address: &str) -> Vec<usize> {
    for fallback in [false, true] {
        let mut applied = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let from = rule.from.is_empty() || rule.from.contains(&adapter);
            let matching = rule.patterns.iter().any(|text| naive::matches(text.as_str(), address));
            if from && matching && rule.fallback == fallback {
                applied.push(number);
                if rule.stop {
                    break;
                }
            }
        }
        if !applied.is_empty() {
            return applied;
        }
    }
    vec![]
}

proptest! {
    #[test]
    fn routing_and_explaining_agree_with_the_naive_router(
        rules in vec(any_rule(), 0..20), adapter in 0..4_usize, address in naive::address(),
    ) {
        let expected = naive_route(&rules, adapter, &address);
        let set = RuleSet::new(rules);
        prop_assert_eq!(applied(&set, adapter, &address), &*expected);
        let considered = set.explain(adapter, &message(&address));
        let explained = considered.iter().filter(|entry| entry.applies()).map(|entry| entry.rule);
        prop_assert_eq!(explained.collect::<Vec<_>>(), expected);
        prop_assert_eq!(considered.len(), set.rules().len());
    }
}
