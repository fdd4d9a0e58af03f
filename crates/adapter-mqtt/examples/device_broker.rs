//! The device listener with nothing behind it, to be tried by hand with any MQTT client:
//! `cargo run -p transload-adapter-mqtt --example device_broker -- 1884 [9001]`, then for example
//! `mosquitto_sub -p 1884 -V 5 -t 'a/#' -q 1`.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_adapter::{Adapter, Context, Interest, NoObserver, Settlement};
use transload_adapter_mqtt::MqttListener;
use transload_delivery::MemoryStore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter("debug").init();
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or("1884".into());
    let websocket = arguments.next().unwrap_or("0".into());
    let config = format!("listen = \"127.0.0.1:{port}\"\nwebsocket = \"127.0.0.1:{websocket}\"\n");
    let config = Arc::new(toml::from_str(&config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = Context {
            name: "devices".into(),
            credits: Arc::new(Semaphore::new(1024)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            updates: transload_adapter::Updates::default(),
            interest: Arc::new(Interest { patterns: vec!["gateway/#".into()] }),
            store: Arc::new(MemoryStore::new()),
            observer: Arc::new(NoObserver),
        };
        let endpoints = MqttListener::connect(config, context).await?;
        let mut inbound = endpoints.inbound.ok_or("no inbound")?;
        let mut deliveries = Vec::new();
        loop {
            inbound.receive(&mut deliveries, 64).await?;
            for delivery in deliveries.drain(..) {
                tracing::info!(address = %delivery.envelope.address, "The gateway has a message.");
                tokio::time::sleep(Duration::from_millis(1)).await;
                delivery.receipt.settle(Settlement::Accepted);
            }
        }
    })
}
