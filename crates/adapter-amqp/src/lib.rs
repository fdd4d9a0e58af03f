//! The AMQP 0-9-1 adapter: a client of brokers such as RabbitMQ.
//!
//! Invariants:
//! - A message is acknowledged to its queue only when it has been settled, and counts as published
//!   only when the broker has confirmed it.
//! - Nothing reconnects here: the gateway connects again after each loss.
//! - Publishing and consuming have a connection each. Replies to requests come in on the one that
//!   publishes, since they are not acknowledged.
//! - No type of the library whose codec is used appears in a public signature.

mod address;
mod carriage;
mod client;
mod config;
mod connect;
mod error;
mod flexible;
mod inbound;
mod lint;
mod mapping;
mod outbound;
mod request;
#[cfg(feature = "testing")]
mod round_trip;
mod settle;
mod table;
mod unacked;

use std::sync::Arc;

use async_trait::async_trait;
use tracing::warn;
use transload_adapter::{
    Adapter, ConnectError, Context, Endpoints, Inbound, Interest, Lint, ReplyPath, SendError,
    SourceCapabilities, TargetCapabilities,
};
use transload_envelope::Outgoing;

#[cfg(feature = "testing")]
pub use self::round_trip::round_trip;
pub use self::{
    address::AddressMapping,
    carriage::CARRIAGE,
    config::{
        AddressSource, AmqpConfig, AmqpTarget, Bind, Consume, Declare, QueueDeclaration, ServerUrl,
    },
    flexible::OneOrMany,
};
use self::{connect::Purpose, inbound::Consumers, outbound::Publisher};

/// A connection to an AMQP 0-9-1 broker.
#[derive(Clone, Copy, Debug)]
pub struct AmqpClient;

#[async_trait]
impl Adapter for AmqpClient {
    const KIND: &'static str = "amqp";
    const ROLE_KEY: &'static str = "url";
    const SUMMARY: &'static str = "a connection to an AMQP 0-9-1 broker such as RabbitMQ";
    const TEMPLATED: &'static [&'static str] = &["exchange", "routing_key", "queue"];

    type Config = AmqpConfig;
    type Target = AmqpTarget;

    fn lint(config: &AmqpConfig) -> Vec<Lint> {
        lint::lint(config)
    }

    fn lint_target(_: &AmqpConfig, target: &AmqpTarget) -> Vec<Lint> {
        lint::lint_target(target)
    }

    fn lint_source(config: &AmqpConfig, pattern: &str) -> Vec<Lint> {
        lint::lint_source(config, pattern)
    }

    fn describe(config: &AmqpConfig) -> String {
        let places: Vec<_> = config.url.iter().map(ServerUrl::public).collect();
        let queues: Vec<_> = config.consume.iter().map(|consume| consume.queue.as_str()).collect();
        match &queues[..] {
            [] => places.join(" or "),
            queues => format!("{}, consumes {}", places.join(" or "), queues.join(", ")),
        }
    }

    fn describe_target(_: &AmqpConfig, target: &AmqpTarget) -> String {
        if let Some(queue) = &target.queue {
            return format!("queue {queue}");
        }
        let exchange = target.exchange.as_deref().filter(|exchange| !exchange.is_empty());
        let exchange = exchange.unwrap_or("(default)");
        match &target.routing_key {
            Some(key) => format!("exchange {exchange}, key {key}"),
            None => format!("exchange {exchange}, key by address"),
        }
    }

    fn source(config: &AmqpConfig) -> SourceCapabilities {
        SourceCapabilities {
            receives: !config.consume.is_empty(),
            acknowledges: true,
            refuses: false,
            replies: ReplyPath::Message,
            brings: &CARRIAGE,
        }
    }

    fn target(_: &AmqpConfig, _: &AmqpTarget) -> TargetCapabilities {
        TargetCapabilities { sends: true, confirms: true, replies: true, carries: &CARRIAGE }
    }

    fn reconnects(_: &AmqpConfig, before: &Interest, now: &Interest) -> bool {
        // Queues are consumed whole, or not at all; see `consumes`.
        before.patterns.is_empty() != now.patterns.is_empty()
    }

    fn follows_address(_: &AmqpConfig, target: &AmqpTarget) -> bool {
        target.routing_key.is_none() && target.queue.is_none()
    }

    fn place(
        config: &AmqpConfig,
        target: &AmqpTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        let (key, _) = mapping::routing_key(message, target, config.address_mapping)?;
        let name = if mapping::names_a_queue(message, target) { "queue" } else { "routing_key" };
        Ok(Some((name, key.to_string())))
    }

    async fn connect(
        config: Arc<AmqpConfig>,
        context: Context,
    ) -> Result<Endpoints<AmqpTarget>, ConnectError> {
        let open = |purpose| connect::open(&config, &context.name, &context.tasks, purpose);
        let (publishing, replies) = open(Purpose::Publish).await?;
        let mut states = vec![publishing.state().clone()];
        let mut inbound: Option<Box<dyn Inbound>> = None;
        if consumes(&config, &context) {
            let (consuming, arrivals) = open(Purpose::Consume).await?;
            states.push(consuming.state().clone());
            let consumers = Consumers::start(&config, &context, consuming, arrivals).await?;
            inbound = Some(Box::new(consumers));
        }
        Ok(Endpoints {
            inbound,
            outbound: Some(Arc::new(Publisher::new(publishing, replies, config, &context))),
            lost: connect::lost(states),
        })
    }
}

/// A queue whose messages no route wants is left alone: they wait at the broker instead of being
/// taken and dropped.
fn consumes(config: &AmqpConfig, context: &Context) -> bool {
    if config.consume.is_empty() {
        return false;
    }
    let wanted = !context.interest.patterns.is_empty();
    if !wanted {
        warn!(adapter = %context.name, "no route is from this adapter: its queues are not consumed");
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_for_people_and_without_secrets() {
        let config: AmqpConfig = toml::from_str(
            "url = ['amqp://u:geheim@a/%2f', 'amqps://b/v']\nconsume = [{ queue = 'q' }]",
        )
        .unwrap();
        assert_eq!(
            AmqpClient::describe(&config),
            "amqp://a:5672/%2f or amqps://b:5671/v, consumes q"
        );
        for (target, text) in [
            ("queue = 'q'", "queue q"),
            ("exchange = 'x'\nrouting_key = 'a.{b}'", "exchange x, key a.{b}"),
            ("exchange = 'x'", "exchange x, key by address"),
            ("routing_key = 'q'", "exchange (default), key q"),
        ] {
            let target = toml::from_str(target).unwrap();
            assert_eq!(AmqpClient::describe_target(&config, &target), text);
        }
    }

    #[test]
    fn the_registry_takes_it() {
        let registry = transload_adapter::Registry::default().with::<AmqpClient>();
        let kinds: Vec<_> = registry.kinds().map(|kind| (kind.kind(), kind.role_key())).collect();
        assert_eq!(kinds, [("amqp", "url")]);
    }
}
