use super::{ADAPTERS, check, findings};

/// Checks a route whose further keys are given, from line 10 on, for exactly these findings.
fn route(keys: &str, expected: &[&str]) {
    let route = "[[route]]\nname = \"r\"\nto = \"door\"\n";
    let loaded = check(&format!("{ADAPTERS}{route}{keys}\n"));
    assert_eq!(findings(&loaded), expected, "{keys}");
}

#[test]
fn limits_are_read() {
    for keys in [
        "rate = \"100/s\"",
        "rate = { limit = \"5/10m\", by = \"{source}\", burst = 2, over = \"drop\", max_keys = 5 }",
        "sample = 0.25\nmax_payload = 1000",
        "sample = \"1/4\"\nmax_payload = { limit = \"1KiB\", over = \"reject\" }",
        "throttle = \"10s\"",
        "throttle = { interval = \"10s\", by = \"{address}\", max_keys = 5, max_bytes = \"1MiB\" }",
        "throttle = \"10s\"\nguarantee = \"best-effort\"",
    ] {
        route(keys, &[]);
    }
}

#[test]
fn faults_in_limits_are_found_at_their_places() {
    let rate =
        "expected how many messages in which time, such as \"100/s\", \"20/m\" or \"100/10s\"";
    for (keys, expected) in [
        ("rate = \"fast\"", &[format!("10:8 {rate}")][..]),
        ("rate = { limit = \"0/s\" }", &[format!("10:18 {rate}")]),
        (
            "match = \"{device}/#\"\nrate = { limit = \"1/s\", by = \"{devcie}\" }",
            &["11:32 the pattern of this route does not capture `devcie` -> did you mean `device`?"
                .to_owned()],
        ),
        (
            "rate = { limit = \"1/s\", over = \"explode\" }",
            &["10:32 unknown value `explode` -> possible values are: `wait`, `reject`, `drop`"
                .to_owned()],
        ),
        ("rate = 5", &[format!("10:8 {rate}")]),
        (
            "sample = 2",
            &["10:10 expected a fraction above 0 and up to 1, such as 0.1 or \"1/10\"".to_owned()],
        ),
        (
            "throttle = { interval = \"0s\" }",
            &["10:25 expected a duration of more than nothing".to_owned()],
        ),
        (
            "throttle = { interval = \"10s\", by = \"device\" }",
            &["10:37 this is the same for every message -> write a template, such as \
               \"{device}\", or leave `by` out"
                .to_owned()],
        ),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        route(keys, &expected);
    }
}

#[test]
fn what_becomes_of_what_nobody_wants_is_read() {
    let file = ADAPTERS.replace("kind = \"door\"\n", "kind = \"door\"\nunrouted = \"bin\"\n");
    let expected =
        ["3:12 unknown value `bin` -> possible values are: `drop`, `reject`, `dead-letter`"];
    assert_eq!(findings(&check(&file)), expected);
    let loaded = check(&format!("[gateway]\nunrouted = \"dead-letter\"\n{ADAPTERS}"));
    let configuration = loaded.configuration.unwrap();
    let all = configuration.adapters.iter().map(|adapter| adapter.unrouted);
    assert!(all.eq([crate::config::Unrouted::DeadLetter; 2]));
}

#[test]
fn a_throttle_cannot_hold_what_a_source_waits_for() {
    let route = "[[route]]\nname = \"r\"\nto = { adapter = \"broker\", exchange = \"e\" }\n";
    let keys = "throttle = \"10s\"\nguarantee = \"delivered\"\n";
    let expected = "10:12 a throttle holds messages back, and \"delivered\" would let their sources \
                    wait for it -> use `guarantee = \"stored\"`, which keeps them on disk meanwhile, \
                    or \"best-effort\"";
    assert_eq!(findings(&check(&format!("{ADAPTERS}{route}{keys}"))), [expected]);
}
