use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Adapter, Carriage, ConnectError, Context, Endpoints, Lint, ReplyPath, Secret,
    SourceCapabilities, TargetCapabilities, units::HumanDuration,
};

/// Settings of [`Broker`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the reading matters")]
pub(super) struct BrokerConfig {
    /// Where the broker is.
    url: String,
    /// The password.
    password: Option<Secret>,
    /// How long to wait.
    timeout: Option<HumanDuration>,
    /// Queues to consume.
    #[serde(default)]
    consume: Vec<Consume>,
    /// Whether it waits for acknowledgements.
    #[serde(default)]
    careless: bool,
    /// Further ways to log in.
    #[serde(default)]
    logins: Vec<Login>,
    /// What is said with each request.
    #[serde(default)]
    fields: BTreeMap<String, Secret>,
}

/// A way to log in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the reading matters")]
pub(super) struct Login {
    /// What is said.
    word: Secret,
}

/// A queue to consume.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the reading matters")]
pub(super) struct Consume {
    /// Its name.
    queue: String,
    /// How many.
    prefetch: Option<u16>,
}

/// A target of [`Broker`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BrokerTarget {
    /// The exchange.
    exchange: String,
    /// The routing key.
    routing_key: Option<String>,
    /// Publishes without a confirmation.
    #[serde(default)]
    unconfirmed: bool,
}

/// A client of a broker.
pub(super) struct Broker;

#[async_trait]
impl Adapter for Broker {
    const KIND: &'static str = "broker";
    const ROLE_KEY: &'static str = "url";
    const SUMMARY: &'static str = "a client of a broker";
    const TEMPLATED: &'static [&'static str] = &["routing_key"];
    type Config = BrokerConfig;
    type Target = BrokerTarget;

    fn lint(config: &BrokerConfig) -> Vec<Lint> {
        let mut lints = Vec::new();
        if !config.url.starts_with("broker://") {
            let message = format!("`{}` does not start with `broker://`", config.url);
            lints.push(Lint::error("url", message));
        }
        for (number, consume) in config.consume.iter().enumerate() {
            if consume.queue.is_empty() {
                lints.push(Lint::error(format!("consume.{number}.queue"), "the queue has no name"));
            }
        }
        lints
    }

    fn lint_target(_: &BrokerConfig, target: &BrokerTarget) -> Vec<Lint> {
        if target.exchange.len() > 255 {
            return vec![Lint::error("exchange", "the name is longer than 255 bytes")];
        }
        Vec::new()
    }

    fn lint_source(_: &BrokerConfig, pattern: &str) -> Vec<Lint> {
        if pattern.starts_with('$') {
            return vec![Lint::warning("", "nothing comes in under such an address")];
        }
        Vec::new()
    }

    fn describe(config: &BrokerConfig) -> String {
        config.url.clone()
    }

    fn describe_target(_: &BrokerConfig, target: &BrokerTarget) -> String {
        let key = target.routing_key.as_deref().unwrap_or("{address}");
        format!("exchange {}, key {key}", target.exchange)
    }

    fn source(config: &BrokerConfig) -> SourceCapabilities {
        SourceCapabilities {
            receives: true,
            acknowledges: !config.careless,
            refuses: false,
            replies: ReplyPath::None,
            brings: &Carriage::EVERYTHING,
        }
    }

    fn target(_: &BrokerConfig, target: &BrokerTarget) -> TargetCapabilities {
        TargetCapabilities {
            sends: true,
            confirms: !target.unconfirmed,
            replies: false,
            carries: &Carriage::EVERYTHING,
        }
    }

    async fn connect(
        _: Arc<BrokerConfig>,
        _: Context,
    ) -> Result<Endpoints<BrokerTarget>, ConnectError> {
        panic!("checking a configuration must not connect")
    }
}

/// Settings of [`Door`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the reading matters")]
pub(super) struct DoorConfig {
    /// Where to listen.
    listen: String,
    /// What to print.
    banner: Option<String>,
}

/// A target of [`Door`].
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DoorTarget {
    /// The topic.
    topic: Option<String>,
}

/// A listener.
pub(super) struct Door;

#[async_trait]
impl Adapter for Door {
    const KIND: &'static str = "door";
    const ROLE_KEY: &'static str = "listen";
    const SUMMARY: &'static str = "a listener that devices connect to";
    const TEMPLATED: &'static [&'static str] = &["topic"];
    type Config = DoorConfig;
    type Target = DoorTarget;

    fn lint(_: &DoorConfig) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_target(_: &DoorConfig, _: &DoorTarget) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_source(_: &DoorConfig, _: &str) -> Vec<Lint> {
        Vec::new()
    }

    fn describe(config: &DoorConfig) -> String {
        format!("listens on {}", config.listen)
    }

    fn describe_target(_: &DoorConfig, target: &DoorTarget) -> String {
        target.topic.clone().map_or_else(String::new, |topic| format!("topic {topic}"))
    }

    fn source(_: &DoorConfig) -> SourceCapabilities {
        SourceCapabilities {
            receives: true,
            acknowledges: true,
            refuses: true,
            replies: ReplyPath::None,
            brings: &Carriage::EVERYTHING,
        }
    }

    fn target(_: &DoorConfig, _: &DoorTarget) -> TargetCapabilities {
        TargetCapabilities {
            sends: true,
            confirms: false,
            replies: false,
            carries: &Carriage::EVERYTHING,
        }
    }

    async fn connect(
        _: Arc<DoorConfig>,
        _: Context,
    ) -> Result<Endpoints<DoorTarget>, ConnectError> {
        panic!("checking a configuration must not connect")
    }
}

/// Settings of [`Sink`], and its target.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {
    /// Selects the role.
    #[serde(default)]
    #[expect(dead_code, reason = "only the reading matters")]
    mute: bool,
}

/// The other role of `door`: neither takes in nor sends.
pub(super) struct Sink;

#[async_trait]
impl Adapter for Sink {
    const KIND: &'static str = "door";
    const ROLE_KEY: &'static str = "mute";
    const SUMMARY: &'static str = "nothing at all";
    const TEMPLATED: &'static [&'static str] = &[];
    type Config = Nothing;
    type Target = Nothing;

    fn lint(_: &Nothing) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_target(_: &Nothing, _: &Nothing) -> Vec<Lint> {
        Vec::new()
    }

    fn lint_source(_: &Nothing, _: &str) -> Vec<Lint> {
        Vec::new()
    }

    fn describe(_: &Nothing) -> String {
        "nowhere".to_owned()
    }

    fn describe_target(_: &Nothing, _: &Nothing) -> String {
        String::new()
    }

    fn source(_: &Nothing) -> SourceCapabilities {
        SourceCapabilities::default()
    }

    fn target(_: &Nothing, _: &Nothing) -> TargetCapabilities {
        TargetCapabilities::default()
    }

    async fn connect(_: Arc<Nothing>, _: Context) -> Result<Endpoints<Nothing>, ConnectError> {
        panic!("checking a configuration must not connect")
    }
}
