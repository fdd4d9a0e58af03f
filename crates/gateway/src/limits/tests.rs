use std::time::Duration;

use tokio::time::Instant;
use transload_routing::Template;

use super::{
    rate::Rates,
    sample::Sample,
    settings::{OverRate, RateLimit, ThrottleLimit},
    throttle::{Throttle, Throttled},
};

fn rates(messages: u32, burst: u32, keys_max: usize) -> Rates {
    Rates::new(Some(&RateLimit {
        messages,
        per: Duration::from_secs(1),
        burst,
        by: Template::parse("{id}").ok(),
        keys_max,
        over: OverRate::Drop,
    }))
}

#[test]
fn a_rate_lets_a_burst_pass_and_then_its_share() {
    let rates = rates(10, 3, 100);
    let start = Instant::now();
    let passed = |key: &str, ms: u64| {
        let now = start + Duration::from_millis(ms);
        (0..20).take_while(|_| rates.take(key, now).is_ok()).count()
    };
    assert_eq!(passed("a", 0), 3, "the burst");
    assert_eq!(passed("a", 50), 0, "the next one comes after 100 ms");
    assert_eq!(passed("a", 100), 1);
    assert_eq!(passed("b", 100), 3, "another key has a rate of its own");
    assert_eq!(passed("a", 350), 2);
    assert_eq!(passed("a", 10_000), 3, "after a quiet time the burst is there again");
}

#[test]
fn what_waits_is_told_how_long_and_has_its_place() {
    let rates = rates(10, 1, 100);
    let now = Instant::now();
    let waits: Vec<_> = (0..4).map(|_| rates.reserve("a", now).as_millis()).collect();
    assert_eq!(waits, [0, 100, 200, 300]);
    assert_eq!(rates.take("a", now), Err(Duration::from_millis(400)));
    assert_eq!(rates.take("a", now), Err(Duration::from_millis(400)), "nothing was taken");
}

#[test]
fn keys_beyond_the_bound_share_one_rate_until_there_is_room() {
    let rates = rates(10, 1, 2);
    let now = Instant::now();
    assert!(rates.take("a", now).is_ok());
    assert!(rates.take("b", now).is_ok());
    assert!(rates.take("c", now).is_ok(), "the first of those that share");
    assert!(rates.take("d", now).is_err());
    assert!(rates.take(&"x".repeat(1_000), now).is_err(), "a key that is too long shares too");
    let later = now + Duration::from_secs(1);
    assert!(rates.take("c", later).is_ok());
    assert!(rates.take("d", later).is_ok(), "the others have been forgotten");
}

#[test]
fn a_sample_is_a_part_and_always_the_same() {
    for (fraction, expected) in [(0.1, 800..1_200), (0.5, 4_700..5_300), (1.0, 10_000..10_001)] {
        let sample = Sample::new(fraction).unwrap();
        let taken = (0..10_000).filter(|number| sample.takes(&format!("id-{number}"))).count();
        assert!(expected.contains(&taken), "{fraction}: {taken}");
    }
    for unfit in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(Sample::new(unfit).is_none(), "{unfit}");
    }
    // A change of the hash would decide anew on messages that come again.
    let tenth = Sample::new(0.1).unwrap();
    let taken: Vec<_> = (0..200).filter(|number| tenth.takes(&format!("m-{number}"))).collect();
    assert_eq!(taken, TAKEN);
}

/// What a tenth of `m-0` to `m-199` was in the first version.
const TAKEN: [i32; 10] = [58, 65, 71, 90, 109, 118, 141, 166, 176, 193];

fn throttle(keys_max: usize, bytes_max: usize) -> Throttle {
    Throttle::new(Some(&ThrottleLimit {
        interval: Duration::from_secs(10),
        by: None,
        keys_max,
        bytes_max,
        durable: true,
    }))
}

#[test]
fn the_first_passes_and_later_ones_are_held() {
    let throttle = throttle(10, 1_000);
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(throttle.ask("a", 1, at(0)), Throttled::Passes);
    assert_eq!(throttle.ask("a", 1, at(1)), Throttled::IsHeld);
    assert_eq!(throttle.ask("b", 1, at(1)), Throttled::Passes);
    let key = "a".into();
    assert_eq!(throttle.hold(&key, 1, at(1)), at(10));
    assert_eq!(
        throttle.ask("a", 1, at(11)),
        Throttled::IsHeld,
        "one is on its way, none passes it"
    );
    throttle.hold(&key, 1, at(11));
    throttle.release("a", 1, None);
    throttle.release("a", 1, Some(at(12)));
    assert_eq!(throttle.ask("a", 1, at(13)), Throttled::IsHeld, "the interval began anew");
    assert_eq!(throttle.ask("a", 1, at(22)), Throttled::Passes);
}

#[test]
fn at_its_bounds_a_throttle_holds_nothing_back() {
    let throttle = throttle(1, 10);
    let now = Instant::now();
    assert_eq!(throttle.ask("a", 1, now), Throttled::Passes);
    assert_eq!(throttle.ask("b", 1, now), Throttled::PassesUnbounded);
    assert_eq!(throttle.ask("a", 20, now), Throttled::PassesUnbounded);
    throttle.hold(&"a".into(), 8, now);
    assert_eq!(throttle.ask("a", 20, now), Throttled::IsHeld, "none passes one that is held");
    let later = now + Duration::from_secs(10);
    assert_eq!(throttle.ask("b", 1, later), Throttled::PassesUnbounded, "`a` is still held");
    throttle.release("a", 8, Some(now));
    assert_eq!(throttle.ask("b", 1, later), Throttled::Passes);
}
