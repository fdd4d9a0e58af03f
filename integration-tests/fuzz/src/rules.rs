//! What is done with a rules file. Nothing here may panic, whatever the text is.

use transload_adapter::Registry;
use transload_gateway::config::{load_text, overview};

/// A rules file, checked and shown.
pub fn configuration(text: &str) {
    // What a file includes is no matter of its own text.
    if text.contains("include") || text.contains("_file") {
        return;
    }
    let registry = Registry::default()
        .with::<transload_adapter_mqtt::MqttListener>()
        .with::<transload_adapter_mqtt::MqttClient>()
        .with::<transload_adapter_amqp::AmqpClient>()
        .with::<transload_adapter_nats::NatsClient>()
        .with::<transload_adapter_http::HttpListener>()
        .with::<transload_adapter_http::HttpClient>();
    let loaded = load_text("adapters.toml", text, &|_| None, &registry);
    for finding in &loaded.report.findings {
        if let Some(place) = &finding.place {
            let source = loaded.report.sources.text(place.file);
            assert!(source.get(place.span.clone()).is_some(), "{finding:?}");
        }
    }
    let _ = loaded.report.render(false);
    if let Some(configuration) = loaded.configuration {
        let _ = overview(&configuration);
    }
}
