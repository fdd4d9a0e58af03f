//! The comparison itself: each of these is seen for what it is.

use transload_integration_tests::faults::{Ledger, Path, Plan, Schedule, Stamp, TargetTally};

use self::Step::{Acknowledged, Arrived, Redelivered, Refused, Sent};

#[derive(Clone, Copy)]
enum Step {
    Sent(u32),
    Acknowledged(u32),
    Refused(u32),
    /// A message under an id.
    Arrived(u32, &'static str),
    /// A copy that the broker says it may have handed out before.
    Redelivered(u32, &'static str),
}

fn stamp(number: u32) -> Stamp {
    Stamp { lane: 0, number }
}

fn arrive(ledger: &Ledger, number: u32, id: &str, redelivered: bool) {
    let payload = stamp(number).payload();
    ledger.arrived(transload_integration_tests::faults::Arrival {
        target: 0,
        payload: &payload,
        id,
        redelivered,
    });
}

/// What the books say of one target after these steps.
fn tally(carries_id: bool, steps: &[Step]) -> TargetTally {
    let ledger = Ledger::new(&[(3, carries_id)], 1);
    for step in steps {
        match *step {
            Sent(number) => ledger.sent(stamp(number)),
            Acknowledged(number) => ledger.acknowledged(stamp(number)),
            Refused(number) => ledger.refused(stamp(number)),
            Arrived(number, id) => arrive(&ledger, number, id, false),
            Redelivered(number, id) => arrive(&ledger, number, id, true),
        }
    }
    ledger.tally().targets.remove(0)
}

#[test]
fn what_was_acknowledged_and_did_not_arrive_is_lost() {
    let steps = [Sent(0), Sent(1), Acknowledged(0), Acknowledged(1), Arrived(1, "b")];
    let expected =
        TargetTally { delivered: 1, lost: 1, lost_examples: vec![stamp(0)], ..Default::default() };
    assert_eq!(tally(true, &steps), expected);
}

#[test]
fn what_was_not_acknowledged_is_not_lost() {
    assert_eq!(tally(true, &[Sent(0)]), TargetTally::default());
}

#[test]
fn copies_are_told_apart() {
    let one = TargetTally { delivered: 1, ..Default::default() };
    let (a, again) = (Arrived(0, "a"), [Sent(0), Sent(0)]);
    let cases: [(bool, Vec<Step>, TargetTally); 6] = [
        (true, vec![Sent(0), a, a], TargetTally { duplicated: 1, ..one.clone() }),
        (
            true,
            [&again[..], &[a, a]].concat(),
            TargetTally { repeated_by_producer: 1, ..one.clone() },
        ),
        (
            true,
            [&again[..], &[a, a, a]].concat(),
            TargetTally { repeated_by_producer: 1, duplicated: 1, ..one.clone() },
        ),
        (
            true,
            [&again[..], &[a, Arrived(0, "b")]].concat(),
            TargetTally { duplicated_with_other_id: 1, ..one.clone() },
        ),
        (
            false,
            [&again[..], &[a, Arrived(0, "b")]].concat(),
            TargetTally { repeated_by_producer: 1, ..one.clone() },
        ),
        (
            true,
            vec![Sent(0), a, Redelivered(0, "a")],
            TargetTally { redelivered_by_broker: 1, ..one.clone() },
        ),
    ];
    for (carries_id, steps, expected) in cases {
        assert_eq!(tally(carries_id, &steps), expected);
    }
    let without_excuse = tally(false, &[Sent(0), a, Arrived(0, "b")]);
    assert_eq!(without_excuse.duplicated_with_other_id, 1);
}

#[test]
fn the_order_is_that_of_the_first_of_each() {
    let steps = [Arrived(0, "a"), Arrived(2, "c"), Arrived(1, "b"), Arrived(0, "a")];
    assert_eq!(tally(true, &steps).reordered, 1);
    let refused = [Refused(1), Arrived(2, "c"), Arrived(1, "b")];
    assert_eq!(tally(true, &refused).reordered, 0, "the producer itself was held up");
}

#[test]
fn damaged_messages_are_noticed() {
    let payload = stamp(7).payload();
    assert_eq!(Stamp::read(&payload), Some(stamp(7)));
    for at in 0..payload.len() {
        let mut damaged = payload.clone();
        damaged[at] ^= 1;
        assert_ne!(Stamp::read(&damaged), Some(stamp(7)), "byte {at}");
    }
    assert_eq!(Stamp::read(&payload[..payload.len() - 1]), None);
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let plan = |seed| Plan {
        path: Path::MqttAmqp,
        messages: 1,
        kills: 9,
        rate: None,
        seed,
        small_disk: true,
        best_effort: false,
        patience: std::time::Duration::ZERO,
        verbose: false,
    };
    let schedule = Schedule::new(&plan(1));
    assert_eq!(schedule, Schedule::new(&plan(1)));
    assert_ne!(schedule, Schedule::new(&plan(2)));
    assert_eq!(schedule.kills(), 9);
}
