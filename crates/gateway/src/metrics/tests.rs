use transload_adapter::Observer as _;
use transload_delivery::worker::DeliveryObserver as _;

use super::*;
use crate::requests::Kind;

#[test]
fn names_and_labels_are_an_interface() {
    let metrics = Metrics::new();
    metrics.adapter("devices").received.inc();
    metrics.adapter("devices").count(Event::MessageDropped, 2);
    metrics.routed("telemetry").inc();
    let [absent, _] = metrics.condition("telemetry");
    absent.inc();
    let destination = metrics.destination("telemetry/services");
    destination.count(Outcome::Delivered, 3);
    destination.queue_messages.set(7);
    metrics.dead_letters("telemetry", 4);
    metrics.limits("telemetry").sampled_out.inc();
    metrics.deduplication("devices").duplicates.inc();
    metrics.requests("ask").failed(Kind::TimedOut).inc();
    metrics.reloaded(true);
    metrics.store(&Statistics {
        disk_bytes: 4096,
        segments: 1,
        last_sync: std::time::Duration::from_millis(250),
        ..Statistics::default()
    });
    let text = metrics.render().unwrap();
    for line in [
        "transload_messages_received_total{adapter=\"devices\"} 1",
        "transload_messages_unrouted_total{adapter=\"devices\"} 0",
        "transload_messages_refused_total{adapter=\"devices\"} 0",
        "transload_adapter_events_total{adapter=\"devices\",event=\"message_dropped\"} 2",
        "transload_adapter_connected{adapter=\"devices\"} 0",
        "transload_messages_routed_total{route=\"telemetry\"} 1",
        "transload_conditions_unknown_total{route=\"telemetry\",reason=\"absent\"} 1",
        "transload_conditions_unknown_total{route=\"telemetry\",reason=\"failed\"} 0",
        "transload_messages_finished_total{destination=\"telemetry/services\",outcome=\"delivered\"} 3",
        "transload_messages_dropped_total{destination=\"telemetry/services\"} 0",
        "transload_queue_messages{destination=\"telemetry/services\"} 7",
        "transload_queue_bytes{destination=\"telemetry/services\"} 0",
        "transload_queue_oldest_seconds{destination=\"telemetry/services\"} 0",
        "transload_circuit_open{destination=\"telemetry/services\"} 0",
        "transload_circuit_opened_total{destination=\"telemetry/services\"} 0",
        "transload_dead_letters{route=\"telemetry\"} 4",
        "transload_messages_limited_total{route=\"telemetry\",limit=\"sample\",outcome=\"dropped\"} 1",
        "transload_messages_duplicate_total{adapter=\"devices\"} 1",
        "transload_deduplication_ids{adapter=\"devices\"} 0",
        "transload_deduplication_forgotten_total{adapter=\"devices\"} 0",
        "transload_requests_total{route=\"ask\",outcome=\"timed-out\"} 1",
        "transload_requests_total{route=\"ask\",outcome=\"replied\"} 0",
        "transload_requests_in_flight{route=\"ask\"} 0",
        "transload_reloads_total{outcome=\"applied\"} 1",
        "transload_journal_disk_bytes 4096",
        "transload_journal_live_bytes 0",
        "transload_journal_segments 1",
        "transload_journal_index_bytes 0",
        "transload_journal_failed 0",
        "transload_journal_full 0",
        "transload_journal_syncs 0",
        "transload_journal_last_sync_seconds 0.25",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_metric_is_in_the_document() {
    let document = include_str!("../../../../docs/OPERATIONS.md");
    let metrics = Metrics::new();
    metrics.adapter("a");
    metrics.deduplication("a");
    metrics.requests("a");
    metrics.routed("a");
    metrics.condition("a");
    metrics.destination("a");
    metrics.dead_letters("a", 0);
    metrics.reloaded(false);
    metrics.limits("a");
    let text = metrics.render().unwrap();
    let figures: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(figures.len() > 20, "{text}");
    for figure in figures {
        let name = figure.split(['{', ' ']).next().unwrap();
        assert!(document.contains(&format!("| `{name}` |")), "{name}");
    }
}
