//! Memory stays within its bound while a target is away and far more comes in than it holds.

use std::fs;

use transload_integration_tests::{HttpSink, Transload, curl, free_port};

use crate::support::{client, route, web};

/// What a queue may hold, and what one message has.
const QUEUE_BYTES: usize = 12 << 20;
const MESSAGE_BYTES: usize = 3 << 20;
/// What the process may grow by beside the queue: what is under way, and what the allocator keeps.
const SLACK_BYTES: u64 = 24 << 20;
/// The journal keeps the end of the log in memory.
const CACHE_BYTES: u64 = 32 << 20;

fn resident(gateway: &mut Transload) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

/// Posts ten times what the queue in memory of a target holds that is away; returns how many were
/// accepted and how much the memory has grown.
async fn ten_times_the_bound(keys: &str) -> (usize, u64) {
    let (port, sink) = (free_port(), HttpSink::absent());
    let target = client("target", "http", &sink.url(), "");
    let route = route("r", "web", "d/{key}", "\"target\"", keys);
    let web = web(port) + "max_body_bytes = \"4MiB\"\n";
    let mut gateway = Transload::start(&[web, target, route].concat()).await;
    let payload = vec![b'x'; MESSAGE_BYTES];
    // The first messages fill what is made once and stays.
    let mut accepted = 0;
    let mut before = 0;
    for number in 0..10 * QUEUE_BYTES / MESSAGE_BYTES {
        let url = format!("http://127.0.0.1:{port}/d/{}", number % 4);
        accepted += usize::from(curl::post(&url, &[], &payload).await.status == 202);
        if number == 1 {
            before = resident(&mut gateway);
        }
    }
    (accepted, resident(&mut gateway).saturating_sub(before))
}

#[tokio::test]
async fn a_queue_in_memory_takes_what_it_may_and_no_more() {
    for keys in ["", "ordered_by = \"{key}\"\n"] {
        let queue = format!(
            "guarantee = \"best-effort\"\nqueue = {{ max_bytes = \"{}MiB\" }}\n{keys}",
            QUEUE_BYTES >> 20
        );
        let (accepted, grown) = ten_times_the_bound(&queue).await;
        assert!(accepted <= QUEUE_BYTES / MESSAGE_BYTES + 1, "{accepted} were accepted");
        let most = QUEUE_BYTES as u64 + SLACK_BYTES;
        assert!(grown < most, "{} KiB more than before, {keys}", grown >> 10);
    }
}

#[tokio::test]
async fn a_queue_on_disk_is_not_in_memory() {
    for keys in ["", "ordered_by = \"{key}\"\n"] {
        let (accepted, grown) = ten_times_the_bound(keys).await;
        assert_eq!(accepted, 10 * QUEUE_BYTES / MESSAGE_BYTES, "all of them fit the disk");
        assert!(grown < CACHE_BYTES + SLACK_BYTES, "{} KiB more, {keys}", grown >> 10);
    }
}
