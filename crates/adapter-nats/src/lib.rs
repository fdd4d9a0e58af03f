//! The NATS adapter: core subjects and `JetStream`.
//!
//! Invariants:
//! - One connection, made once; when it is lost everything on it ends and the gateway makes another.
//! - A core message is at most once, as NATS has it: what a full buffer drops is counted. A message
//!   of a stream is acknowledged only when its receipt is settled.
//! - A publish to a stream is confirmed by the stream, under the message's own id
//!   (`Nats-Msg-Id`), so that a repetition is stored once. A publish to a core subject is confirmed
//!   when the server has read it, which says nothing about subscribers.
//! - Subjects of the server's own are never forwarded, in either direction.

mod carriage;
mod client;
mod config;
mod confirm;
mod connect;
mod error;
mod inbound;
mod link;
mod lint;
mod mapping;
mod outbound;
mod request;
#[cfg(feature = "testing")]
mod round_trip;

use std::sync::Arc;

use async_trait::async_trait;
use transload_adapter::{
    Adapter, ConnectError, Context, Endpoints, Lint, ReplyPath, SendError, SourceCapabilities,
    TargetCapabilities,
};
use transload_envelope::Outgoing;

#[cfg(feature = "testing")]
pub use self::round_trip::round_trip;
pub use self::{
    carriage::{CORE, STREAM},
    config::{
        Consume, DeliverPolicy, NatsConfig, NatsTarget, Subscription, SubscriptionSettings, Urls,
    },
    mapping::AddressMapping,
};
use self::{client::ServerAddress, outbound::NatsOutbound};

/// A client of a NATS server.
#[derive(Debug)]
pub struct NatsClient;

#[async_trait]
impl Adapter for NatsClient {
    const KIND: &'static str = "nats";
    const ROLE_KEY: &'static str = "url";
    const SUMMARY: &'static str = "a client of a NATS server";
    const TEMPLATED: &'static [&'static str] = &["subject"];
    type Config = NatsConfig;
    type Target = NatsTarget;

    fn lint(config: &NatsConfig) -> Vec<Lint> {
        lint::config(config)
    }

    fn lint_target(_: &NatsConfig, target: &NatsTarget) -> Vec<Lint> {
        lint::target(target)
    }

    fn lint_source(config: &NatsConfig, pattern: &str) -> Vec<Lint> {
        lint::source(config, pattern)
    }

    fn describe(config: &NatsConfig) -> String {
        let servers = config.url.list().iter().map(|url| {
            let address = url.expose().parse::<ServerAddress>();
            address.map_or_else(|_| "an unreadable URL".to_owned(), |address| address.to_string())
        });
        servers.collect::<Vec<_>>().join(", ")
    }

    fn describe_target(_: &NatsConfig, target: &NatsTarget) -> String {
        let subject = match &target.subject {
            Some(subject) => format!("subject {subject}"),
            None => "subject from the address".to_owned(),
        };
        match (&target.stream, target.jetstream) {
            (Some(stream), true) => format!("{subject}, stored by stream {stream}"),
            (None, true) => format!("{subject}, stored by a stream"),
            (_, false) => subject,
        }
    }

    fn source(config: &NatsConfig) -> SourceCapabilities {
        let core = config.subscribe.as_ref().is_some_and(|some| !some.is_empty());
        SourceCapabilities {
            receives: true,
            // A subscription that follows from the routes is a core one.
            acknowledges: !config.consume.is_empty() && !core,
            refuses: false,
            replies: ReplyPath::Message,
            brings: if config.consume.is_empty() { &carriage::CORE } else { &carriage::STREAM },
        }
    }

    fn target(_: &NatsConfig, target: &NatsTarget) -> TargetCapabilities {
        TargetCapabilities {
            sends: true,
            confirms: true,
            // The reply to a message for a stream is the stream's own.
            replies: !target.jetstream,
            carries: match (target.jetstream, target.ttl) {
                (false, _) => &carriage::CORE,
                (true, false) => &carriage::STREAM,
                (true, true) => &carriage::STREAM_TTL,
            },
        }
    }

    fn follows_address(_: &NatsConfig, target: &NatsTarget) -> bool {
        target.subject.is_none()
    }

    fn place(
        config: &NatsConfig,
        target: &NatsTarget,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        let subject = outbound::subject(target, message, config.address_mapping);
        let rejected = |error: mapping::SubjectError| error.to_string().into();
        let subject = subject.map_err(|error| SendError::Rejected { reason: rejected(error) })?;
        Ok(Some(("subject", subject)))
    }

    async fn connect(
        config: Arc<NatsConfig>,
        context: Context,
    ) -> Result<Endpoints<NatsTarget>, ConnectError> {
        let (client, link) = connect::connect(&config, &context).await?;
        let inbound = inbound::open(&config, &context, &client, &link).await?;
        // By then the server has refused what it does not permit.
        connect::settled(&config, &client, &link).await?;
        let outbound = NatsOutbound::new(&client, &link, &config, &context);
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
