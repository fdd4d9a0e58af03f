use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::naive;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn found<K: Ord + Copy, V: Ord + Copy>(index: &Index<K, V>, address: &str) -> Vec<(K, V)> {
    let mut found = Vec::new();
    index.matches(address, |key, value| found.push((*key, *value)));
    found.sort();
    found
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, u8, u16),
    Remove(usize, u8),
    Change(usize, u8, u16),
    Match(String),
}

fn steps(patterns: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..patterns, 0..20_u8, any::<u16>()).prop_map(|(p, k, v)| Step::Insert(p, k, v)),
        4 => (0..patterns, 0..20_u8).prop_map(|(p, k)| Step::Remove(p, k)),
        1 => (0..patterns, 0..20_u8, any::<u16>()).prop_map(|(p, k, v)| Step::Change(p, k, v)),
        4 => naive::address().prop_map(Step::Match),
    ];
    vec(step, 0..300)
}

/// The names of captures play no part in an index.
fn shape(text: &str) -> String {
    let named = text.split('/').map(|level| match (level.split_once('{'), level.split_once('}')) {
        _ if level.ends_with("...}") => "#".to_owned(),
        (Some(("", _)), Some((_, ""))) => "+".to_owned(),
        (Some((prefix, _)), Some((_, suffix))) => format!("{prefix}{{}}{suffix}"),
        _ => level.to_owned(),
    });
    named.collect::<Vec<_>>().join("/")
}

proptest! {
    #[test]
    fn an_index_is_a_list_of_patterns(
        (texts, steps) in vec(naive::pattern(), 1..30)
            .prop_flat_map(|texts| { let n = texts.len(); (Just(texts), steps(n)) })
    ) {
        let mut index = Index::new();
        let mut model: BTreeMap<(String, u8), u16> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(place, key, value) => prop_assert_eq!(
                    index.insert(&pattern(&texts[place]), key, value),
                    model.insert((shape(&texts[place]), key), value)
                ),
                Step::Remove(place, key) => prop_assert_eq!(
                    index.remove(&pattern(&texts[place]), &key),
                    model.remove(&(shape(&texts[place]), key))
                ),
                Step::Change(place, key, value) => {
                    let slot = index.get_mut(&pattern(&texts[place]), &key);
                    let known = model.get_mut(&(shape(&texts[place]), key));
                    prop_assert_eq!(&slot, &known);
                    if let (Some(slot), Some(known)) = (slot, known) {
                        (*slot, *known) = (value, value);
                    }
                    let value = index.get(&pattern(&texts[place]), &key);
                    prop_assert_eq!(value, model.get(&(shape(&texts[place]), key)));
                }
                Step::Match(address) => {
                    let matching = model.iter().filter(|((text, _), _)| {
                        naive::matches(text, &address)
                    });
                    let mut expected: Vec<_> =
                        matching.map(|((_, key), value)| (*key, *value)).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found(&index, &address), expected, "{}", address);
                }
            }
            prop_assert_eq!(index.len(), model.len());
        }
        for (text, key) in model.into_keys() {
            let text = text.replace("{}", "{c}");
            let mut names = 0..;
            let text: Vec<_> = text
                .split('/')
                .map(|level| level.replace("{c}", &format!("{{c{}}}", names.next().unwrap())))
                .collect();
            prop_assert!(index.remove(&pattern(&text.join("/")), &key).is_some());
        }
        prop_assert!(index.is_empty() && index.root.is_empty(), "nodes are left behind");
    }
}

#[test]
fn work_does_not_grow_with_the_number_of_patterns() {
    const MANY: usize = 100_000;
    let mut index = Index::new();
    for number in 0..MANY {
        index.insert(&pattern(&format!("devices/d{number}/telemetry")), number, 1);
        index.insert(&pattern(&format!("devices/{{id}}-{number}/state")), number, 2);
        index.insert(&pattern(&format!("gone/d{number}/#")), number, 3);
    }
    index.insert(&pattern("devices/+/telemetry"), MANY, 4);
    for (address, steps_max, expected) in [
        ("devices/d7/telemetry", 6, vec![(7, 1), (MANY, 4)]),
        ("devices/x-7/state", 5, vec![(7, 2)]),
        ("devices/x-99999/state", 5, vec![(99_999, 2)]),
        ("devices/x-7/other", 5, vec![]),
        ("gone/d99999/a/b/c/d", 3, vec![(99_999, 3)]),
        ("nobody/asked", 1, vec![]),
    ] {
        assert_eq!(found(&index, address), expected, "{address}");
        let steps = index.walk(address, |_, _| {});
        assert!(steps <= steps_max, "{address} took {steps} steps");
    }
    for number in 0..MANY {
        assert_eq!(index.remove(&pattern(&format!("gone/d{number}/#")), &number), Some(3));
    }
    assert_eq!(index.len(), 2 * MANY + 1);
    assert_eq!(found(&index, "gone/d7/x"), []);
}

#[test]
fn one_pattern_may_have_many_entries() {
    let news = pattern("news/#");
    let mut index = Index::new();
    for key in 0..100_000_u32 {
        assert_eq!(index.insert(&news, key, 0), None);
    }
    assert_eq!(index.insert(&news, 7, 1), Some(0));
    for key in 0..100_000 {
        assert_eq!(index.remove(&news, &key), Some(u32::from(key == 7)));
        assert_eq!(index.remove(&news, &key), None);
    }
    assert!(index.root.is_empty());
}

#[test]
fn a_deep_address_costs_no_more_than_the_deepest_pattern() {
    let mut index = Index::new();
    let deepest = vec!["+"; LEVELS_MAX].join("/");
    let rest = format!("{}/#", vec!["+"; LEVELS_MAX - 1].join("/"));
    index.insert(&pattern(&deepest), 1, ());
    index.insert(&pattern(&rest), 2, ());
    index.insert(&pattern("#"), 3, ());
    let deep = vec!["a"; 60_000].join("/");
    assert_eq!(found(&index, &deep), [(2, ()), (3, ())]);
    assert!(index.walk(&deep, |_, ()| {}) <= LEVELS_MAX + 1);
    let exact = vec!["a"; LEVELS_MAX].join("/");
    assert_eq!(found(&index, &exact), [(1, ()), (2, ()), (3, ())]);
    assert_eq!(found(&index, &format!("{exact}/a")), [(2, ()), (3, ())]);
}

#[test]
fn chains_of_wildcards_cost_what_was_stored() {
    const DEPTH: usize = 12;
    let mut index = Index::new();
    for choice in 0..1_usize << DEPTH {
        let levels: Vec<_> =
            (0..DEPTH).map(|level| if choice >> level & 1 == 1 { "+" } else { "a" }).collect();
        index.insert(&pattern(&format!("{}/never", levels.join("/"))), choice, ());
    }
    let address = vec!["a"; DEPTH + 1].join("/");
    let steps = index.walk(&address, |_, ()| panic!("nothing matches"));
    assert_eq!(steps, (1 << (DEPTH + 1)) - 1, "each stored prefix is one step");
    // Chains alone cost their length, since they share their prefixes.
    let mut chains = Index::new();
    for length in 1..=LEVELS_MAX {
        chains.insert(&pattern(&vec!["+"; length].join("/")), length, ());
    }
    let address = vec!["a"; LEVELS_MAX].join("/");
    assert_eq!(chains.walk(&address, |_, ()| {}), LEVELS_MAX + 1);
}

#[test]
fn the_texts_around_a_capture_do_not_share_characters() {
    let mut index = Index::new();
    index.insert(&pattern("x/aé{mid}éa"), 1, ());
    index.insert(&pattern("x/a{mid}a"), 2, ());
    for (address, expected) in [
        ("x/a", vec![]),
        ("x/aéa", vec![(2, ())]),
        ("x/aééa", vec![(1, ()), (2, ())]),
        ("x/aa", vec![(2, ())]),
    ] {
        assert_eq!(found(&index, address), expected, "{address}");
    }
}
