use transload_envelope::{Arguments, Envelope, Origin};

use super::*;
use crate::worker::BatchFormat;

fn window(batch: Option<&BatchSettings>) -> Window {
    Window::new(batch, Backoff::new(Duration::from_millis(100), Duration::from_secs(1)))
}

fn batches_of(messages_max: usize, wait_s: u64) -> BatchSettings {
    BatchSettings {
        messages_max,
        bytes_max: 1000,
        wait_max: Duration::from_secs(wait_s),
        format: BatchFormat::Lines,
        by_address: false,
    }
}

fn push(window: &mut Window, key: &str, position: u64, argument: &str) {
    let message = InHand {
        position: Position(position),
        attempts: 0,
        stored_at: Timestamp::now(),
        first_failure_at: None,
        share: None,
    };
    let envelope = Envelope::new(Origin::new("a", "fake", "x"), "body");
    let mut arguments = Arguments::default();
    arguments.push("key", argument.to_owned());
    window.push(key, message, Outgoing { envelope, arguments });
}

fn next(window: &mut Window) -> Option<(Unit, Vec<u64>)> {
    let unit = window.next(false).or_else(|| window.next(true))?;
    let positions = unit.members.iter().map(|held| held.message.position.0).collect();
    Some((unit, positions))
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_for_its_retry_holds_up_its_own_messages_only() {
    let mut window = window(None);
    for (position, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        push(&mut window, key, position, "");
    }
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [1]);
    window.retry(unit);
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [2]);
    assert!(next(&mut window).is_none(), "one of each key at a time");
    window.finished(unit.key);
    assert_eq!(next(&mut window).unwrap().1, [4]);
    assert!(next(&mut window).is_none());
    tokio::time::sleep_until(window.next_due().unwrap()).await;
    window.wake(Instant::now());
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [1], "before what is behind it");
    assert!(unit.failed);
    window.finished(unit.key);
    assert_eq!(next(&mut window).unwrap().1, [3]);
    assert!(window.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_unit_goes_when_it_is_full_when_another_kind_follows_or_when_it_has_waited() {
    let settings = batches_of(3, 60);
    let mut window = window(Some(&settings));
    for position in 1..=4 {
        push(&mut window, "", position, "x");
    }
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [1, 2, 3]);
    window.finished(unit.key);
    assert!(next(&mut window).is_none(), "the fourth waits for others");
    push(&mut window, "", 5, "y");
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [4], "another target has to wait behind it");
    window.finished(unit.key);
    assert!(next(&mut window).is_none());
    tokio::time::sleep_until(window.next_due().unwrap()).await;
    window.wake(Instant::now());
    assert_eq!(next(&mut window).unwrap().1, [5]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_others_goes_when_there_is_no_room() {
    let settings = batches_of(3, 60);
    let mut window = window(Some(&settings));
    push(&mut window, "a", 1, "x");
    push(&mut window, "b", 2, "x");
    assert!(next(&mut window).is_none());
    window.flush();
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [1]);
    window.retry(unit);
    assert_eq!(next(&mut window).unwrap().1, [2]);
    window.flush();
    assert!(next(&mut window).is_none(), "a retry keeps its time");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_comes_back_keeps_its_members() {
    let settings = batches_of(3, 0);
    let mut window = window(Some(&settings));
    push(&mut window, "", 1, "x");
    tokio::time::advance(Duration::from_millis(1)).await;
    window.wake(Instant::now());
    let (unit, _) = next(&mut window).unwrap();
    for position in 2..=5 {
        push(&mut window, "", position, "x");
    }
    window.put_back(unit);
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [1]);
    window.retry(unit);
    window.hurry();
    let (unit, positions) = next(&mut window).unwrap();
    assert_eq!(positions, [1]);
    window.finished(unit.key);
    assert_eq!(next(&mut window).unwrap().1, [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_others_is_left_in_the_queue_beyond_the_bound() {
    let mut window = window(None);
    let message = |position| InHand {
        position: Position(position),
        attempts: 0,
        stored_at: Timestamp::now(),
        first_failure_at: None,
        share: None,
    };
    let payload = vec![0_u8; 1 << 20];
    for position in 0..100 {
        assert!(window.has_room());
        let envelope = Envelope::new(Origin::new("a", "fake", "x"), payload.clone());
        let outgoing = Outgoing { envelope, arguments: Arguments::default() };
        window.push("a", message(position), outgoing);
    }
    assert!(window.kept_bytes < KEPT_BYTES_MAX);
    let unit = window.next(false).unwrap();
    assert!(unit.members[0].outgoing.is_some());
    window.finished(unit.key);
    assert_eq!(window.positions().len(), 99);
}
