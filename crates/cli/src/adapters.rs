//! The one list of adapters. A new protocol is one more line here.

use transload_adapter::Registry;

/// All protocols that this program speaks.
pub(crate) fn registry() -> Registry {
    Registry::default()
        .with::<transload_adapter_mqtt::MqttListener>()
        .with::<transload_adapter_mqtt::MqttClient>()
        .with::<transload_adapter_amqp::AmqpClient>()
        .with::<transload_adapter_nats::NatsClient>()
        .with::<transload_adapter_http::HttpListener>()
        .with::<transload_adapter_http::HttpClient>()
}
