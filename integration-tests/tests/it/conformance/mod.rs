//! The contract's conformance suite for every adapter, against real peers.

mod amqp;
mod devices;
mod foreign_broker;
mod http;
mod nats;

use transload_integration_tests::{Consumer, texts};

/// TLS needs a provider to be chosen, also where no test uses TLS.
fn choose_tls() {
    // Another test of this process may have chosen it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What has arrived, over several consumers one after the other.
#[derive(Default)]
struct Arrived {
    before: Vec<String>,
    consumer: Option<Consumer>,
}

impl Arrived {
    fn replace(&mut self, consumer: Option<Consumer>) {
        if let Some(old) = std::mem::replace(&mut self.consumer, consumer) {
            self.before.extend(texts(&old.vanish()));
        }
    }

    fn all(&mut self) -> Vec<String> {
        let now = self.consumer.as_mut().map(|consumer| texts(consumer.all()));
        self.before.iter().cloned().chain(now.unwrap_or_default()).collect()
    }
}
