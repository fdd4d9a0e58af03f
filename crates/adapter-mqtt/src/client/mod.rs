//! A client of another MQTT broker: it takes messages in by our own codec (`source`), and publishes
//! by `rumqttc` (`outbound`).
//!
//! Invariants:
//! - Two connections: one takes messages in, with a session that the broker keeps, and one
//!   publishes, without a session. An acknowledgement of one never waits behind a publish.
//! - Each connection belongs to one task. It is made once; after an error both are thrown away,
//!   and the gateway decides when new ones are made. The gateway's queues are the truth about what
//!   has been sent.

mod config;
mod error;
mod link;
mod lint;
mod options;
mod outbound;
mod source;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use transload_adapter::{
    Adapter, ConnectError, Context, Endpoints, Lint, ReplyPath, SendError, SourceCapabilities,
    TargetCapabilities,
};
use transload_envelope::Outgoing;
use transload_routing::Pattern;
use url::Url;

pub use self::config::{
    ClientConfig, ClientTarget, ProtocolVersion, Subscription, SubscriptionSettings,
};
#[cfg(feature = "testing")]
pub(crate) use self::outbound::message;
use self::{
    error::Broken,
    link::Link,
    options::Peer,
    wire::{Handle, Step, Terms, Wire},
};
use crate::{
    codec::QoS,
    request::Requests,
    topic::{self, Filter},
};

/// A client of another MQTT broker.
#[derive(Debug)]
pub struct MqttClient;

#[async_trait]
impl Adapter for MqttClient {
    const KIND: &'static str = "mqtt";
    const ROLE_KEY: &'static str = "url";
    const SUMMARY: &'static str = "a client of another MQTT broker";
    const TEMPLATED: &'static [&'static str] = &["topic", "reply_topic"];
    type Config = ClientConfig;
    type Target = ClientTarget;

    fn lint(config: &ClientConfig) -> Vec<Lint> {
        lint::config(config)
    }

    fn lint_target(_: &ClientConfig, target: &ClientTarget) -> Vec<Lint> {
        lint::target(target)
    }

    fn lint_source(config: &ClientConfig, pattern: &str) -> Vec<Lint> {
        lint::source(config, pattern)
    }

    fn describe(config: &ClientConfig) -> String {
        let version = match config.version {
            ProtocolVersion::V5 => "5",
            ProtocolVersion::V311 => "3.1.1",
        };
        match Url::parse(config.url.expose()) {
            Ok(url) => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}://{host}{port}, MQTT {version}", url.scheme())
            }
            Err(_) => "an unreadable URL".to_owned(),
        }
    }

    fn describe_target(_: &ClientConfig, target: &ClientTarget) -> String {
        let topic = match &target.topic {
            Some(topic) => format!("topic {topic}"),
            None => "topic from the address".to_owned(),
        };
        match target.qos {
            Some(qos) => format!("{topic}, QoS {qos}"),
            None => topic,
        }
    }

    fn source(config: &ClientConfig) -> SourceCapabilities {
        let at_least_once = match &config.subscribe {
            None => config.qos > 0,
            Some(some) => some.iter().all(|one| one.qos().unwrap_or(config.qos) > 0),
        };
        SourceCapabilities {
            receives: true,
            acknowledges: at_least_once && !config.session_expiry.is_zero(),
            refuses: false,
            // Only version 5 has response topics.
            replies: match config.version {
                ProtocolVersion::V5 => ReplyPath::Message,
                ProtocolVersion::V311 => ReplyPath::None,
            },
            brings: config.version.carriage(),
        }
    }

    fn target(config: &ClientConfig, target: &ClientTarget) -> TargetCapabilities {
        TargetCapabilities {
            sends: true,
            confirms: target.qos != Some(0),
            replies: config.version == ProtocolVersion::V5 || target.reply_topic.is_some(),
            carries: config.version.carriage(),
        }
    }

    fn follows_address(_: &ClientConfig, target: &ClientTarget) -> bool {
        target.topic.is_none()
    }

    fn place(
        _: &ClientConfig,
        target: &ClientTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        let topic = topic::of(message, target.topic.as_deref(), "the broker's own")?;
        Ok(Some(("topic", topic.to_string())))
    }

    async fn connect(
        config: Arc<ClientConfig>,
        context: Context,
    ) -> Result<Endpoints<ClientTarget>, ConnectError> {
        let peer = options::peer(&config).await?;
        let link = Link::new();
        let (handle, wire, terms) = open(&config, &peer, &context).await?;
        let filters = filters(&config, &context);
        let inbound = if filters.is_empty() {
            None
        } else {
            Some(source::open(&config, &peer, &context, &link, filters).await?)
        };
        let settings = outbound::Settings {
            terms,
            packet_bytes_max: config.max_packet_bytes.as_usize(),
            window: usize::from(config.max_inflight.max(1)),
            confirm_timeout: config.confirm_timeout.get(),
            link: Arc::clone(&link),
            observer: Arc::clone(&context.observer),
            requests: Arc::new(Requests::new(context.name.clone(), Arc::clone(&context.observer))),
        };
        let (outbound, driver) = outbound::new(handle, wire, settings);
        context.tasks.spawn(driver.run());
        Ok(Endpoints {
            inbound,
            outbound: Some(Arc::new(outbound)),
            lost: Box::pin(async move {
                link.lost().await;
                link.reason()
            }),
        })
    }
}

/// Opens the connection that publishes.
async fn open(
    config: &ClientConfig,
    peer: &Peer,
    context: &Context,
) -> Result<(Handle, Wire, Terms), ConnectError> {
    let end = Instant::now() + config.connect_timeout.get();
    let (handle, mut wire) = options::options(config, peer, &context.name).wire();
    loop {
        match timeout_at(end, wire.poll()).await {
            Ok(Ok(Step::Connected(terms))) => {
                tracing::debug!(adapter = %context.name, ?terms, "The connection that publishes is open.");
                return Ok((handle, wire, terms));
            }
            Ok(Ok(_)) => {}
            Ok(Err(broken)) => return Err(broken.into()),
            Err(_) => return Err(Broken::Lost("the broker does not answer".to_owned()).into()),
        }
    }
}

/// The filters that the settings name, or else those that the routes' patterns ask for, without
/// any that another one covers.
fn filters(config: &ClientConfig, context: &Context) -> Vec<(String, QoS)> {
    let level = |own: Option<u8>| {
        if own.unwrap_or(config.qos) == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
    };
    let all: Vec<_> = match &config.subscribe {
        Some(some) => some.iter().map(|one| (one.filter().to_owned(), level(one.qos()))).collect(),
        None => context
            .interest
            .patterns
            .iter()
            .filter_map(|pattern| Pattern::parse(pattern).ok())
            .map(|pattern| (pattern.to_filter(), level(None)))
            .collect(),
    };
    let parsed = |text: &str| Filter::parse(text);
    let mut kept: Vec<(String, QoS)> = Vec::with_capacity(all.len());
    for (text, qos) in all {
        let Some(filter) = parsed(&text) else { continue };
        let covers = |outer: &Filter, inner: &Filter| {
            outer.group == inner.group && outer.pattern.covers(&inner.pattern)
        };
        let others = |(other, other_qos): &(String, QoS)| Some((parsed(other)?, *other_qos));
        let covered = |one: &(String, QoS)| {
            others(one).is_some_and(|(other, at)| at >= qos && covers(&other, &filter))
        };
        if !kept.iter().any(covered) {
            kept.retain(|one| {
                !others(one).is_some_and(|(other, at)| at <= qos && covers(&filter, &other))
            });
            kept.push((text, qos));
        }
    }
    kept
}
