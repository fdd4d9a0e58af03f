//! The settings of `[adapters.NAME]` with `kind = "amqp"`, and of a route's `to`.

use std::{fmt, path::PathBuf, time::Duration};

use amq_protocol::uri::AMQPUri;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use transload_adapter::{
    Secret,
    units::{ByteSize, HumanDuration},
};
use transload_tls::ClientTls;
use url::{Host, Url};

use crate::{address::AddressMapping, flexible::OneOrMany};

/// A connection to an AMQP 0-9-1 broker such as RabbitMQ.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmqpConfig {
    /// Where the broker is: `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS, where the
    /// virtual host `/` is written `%2f`. Of several, the first that answers is taken, each time
    /// from the top.
    pub url: OneOrMany<ServerUrl>,
    /// The login, instead of the one in `url`.
    #[serde(default)]
    pub username: Option<String>,
    /// The password, instead of the one in `url`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the password, read at each connection; one line break at its end is left out.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How to log in: "plain" with user and password, or "external" as whom the client certificate
    /// says.
    #[serde(default)]
    pub auth: Auth,
    /// TLS where `url` is `amqps://`: whom to trust, and which certificate to show.
    #[serde(default)]
    pub tls: ClientTls,
    /// The name that the broker's certificate is for, and that it is asked for (SNI), where that is
    /// not the host in `url`.
    #[serde(default)]
    pub server_name: Option<String>,
    /// How the connections are named at the broker; by default `transload` and the adapter's name.
    #[serde(default)]
    pub connection_name: Option<String>,
    /// After how long without a sign of life the connection counts as lost, in whole seconds.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: HumanDuration,
    /// How long one broker of `url` may take to accept the connection and the login.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long the broker may take to confirm what was published. What it has not confirmed by
    /// then is published again later, so that it can arrive twice.
    #[serde(default = "default_confirm_timeout")]
    pub confirm_timeout: HumanDuration,
    /// How many unacknowledged messages the broker hands out to one consumer. Of these, at most
    /// 1,024 and 4 MiB, or a single larger one, wait here to be routed; then the connection is not
    /// read until there is room.
    #[serde(default = "default_prefetch")]
    pub prefetch: u16,
    /// How routing keys become addresses and back.
    #[serde(default)]
    pub address_mapping: AddressMapping,
    /// The largest payload taken in or sent. A larger one that comes in is rejected, so that the
    /// queue's dead-letter exchange gets it, if it has one.
    #[serde(default = "default_max_message")]
    pub max_message_bytes: ByteSize,
    /// The queues that messages come in from. They are consumed when a route is `from` this
    /// adapter.
    #[serde(default)]
    pub consume: Vec<Consume>,
}

/// How a client logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// With user and password.
    #[default]
    Plain,
    /// By the client certificate.
    External,
}

const fn default_heartbeat() -> HumanDuration {
    HumanDuration::from_secs(30)
}

const fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

const fn default_confirm_timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

const fn default_prefetch() -> u16 {
    512
}

const fn default_max_message() -> ByteSize {
    ByteSize::from_mib(16)
}

const fn yes() -> bool {
    true
}

impl AmqpConfig {
    /// The bound on a payload, in bytes.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.max_message_bytes.as_usize()
    }

    pub(crate) fn confirm_timeout(&self) -> Duration {
        self.confirm_timeout.get()
    }
}

/// A queue that messages come in from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// The name of the queue.
    pub queue: String,
    /// Whether to create the queue if it is not there: `true` for a durable one, or a table of its
    /// settings. Without it, a missing queue is an error at the broker, until someone creates it.
    #[serde(default)]
    pub declare: Declare,
    /// What to bind the queue to: one table or a list of tables.
    #[serde(default)]
    pub bind: OneOrMany<Bind>,
    /// `prefetch` for this queue.
    #[serde(default)]
    pub prefetch: Option<u16>,
    /// How this consumer is named at the broker; by default the adapter's name and a number.
    #[serde(default)]
    pub consumer_tag: Option<String>,
    /// Whether to be the queue's only consumer.
    #[serde(default)]
    pub exclusive: bool,
    /// Consumers with a higher priority get messages first, as long as they take them.
    #[serde(default)]
    pub priority: Option<i32>,
    /// What the address of a message is made of: `routing_key`, `queue` (its name), or any other
    /// text, which is then the address as it is written.
    #[serde(default)]
    pub address: AddressSource,
}

/// Whether and how a queue is created.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Declare {
    /// It must be there.
    #[default]
    No,
    /// It is created if it is not there.
    Yes(QueueDeclaration),
}

/// The settings of a queue that is created. One that is there must have the same.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDeclaration {
    /// Whether it survives a restart of the broker.
    #[serde(default = "yes")]
    pub durable: bool,
    /// Whether it belongs to this connection, and goes with it.
    #[serde(default)]
    pub exclusive: bool,
    /// Whether it goes with its last consumer.
    #[serde(default)]
    pub auto_delete: bool,
    /// The broker's own settings, such as `x-queue-type = "quorum"`.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

impl Default for QueueDeclaration {
    fn default() -> Self {
        Self { durable: true, exclusive: false, auto_delete: false, arguments: Map::new() }
    }
}

/// What a queue is bound to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The exchange, which must be there.
    pub exchange: String,
    /// The binding key; for a topic exchange `*` is one word, and `#` is any number of words.
    #[serde(default)]
    pub key: String,
    /// What a `headers` exchange compares.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// What the address of an incoming message is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AddressSource {
    /// Its routing key.
    #[default]
    RoutingKey,
    /// The name of its queue.
    Queue,
    /// This address, in canonical form.
    Fixed(String),
}

/// A route's target at the broker.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmqpTarget {
    /// The exchange to publish to; without it the default exchange, whose routing keys are names
    /// of queues.
    #[serde(default)]
    pub exchange: Option<String>,
    /// The routing key; without it the message's address, by `address_mapping`.
    #[serde(default)]
    pub routing_key: Option<String>,
    /// The queue to publish to, by way of the default exchange.
    #[serde(default)]
    pub queue: Option<String>,
    /// Whether a message that the exchange can route to no queue counts as not delivered. By
    /// default it does for the default exchange and for `queue`, and does not for other exchanges,
    /// where having no subscriber is in order.
    #[serde(default)]
    pub mandatory: Option<bool>,
    /// Whether the broker is to keep the message safe (delivery mode 2). By default it is, unless
    /// the message's source said that it need not.
    #[serde(default)]
    pub persistent: Option<bool>,
}

impl AmqpTarget {
    /// See [`AmqpTarget::mandatory`].
    pub(crate) fn is_mandatory(&self) -> bool {
        self.mandatory.unwrap_or(self.exchange.as_deref().is_none_or(str::is_empty))
    }
}

/// Where a broker is. The credentials in it are never shown.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ServerUrl(String);

/// The keys that the client reads from the part of a URL after `?`.
const QUERY_KEYS: [&str; 5] =
    ["frame_max", "channel_max", "heartbeat", "connection_timeout", "auth_mechanism"];

impl ServerUrl {
    /// Reads the URL. The error does not repeat it, since a password may be in it.
    pub(crate) fn parse(&self) -> Result<AMQPUri, String> {
        let url = Url::parse(&self.0).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(format!("the scheme is {}, not amqp or amqps", url.scheme()));
        }
        let host = url.host().ok_or("there is no host")?;
        let mut uri: AMQPUri = self.0.parse()?;
        if let Host::Ipv6(address) = host {
            // The client's own parser takes "localhost" for any IPv6 address.
            uri.authority.host = address.to_string();
        }
        if uri.vhost.len() > 255 {
            return Err("the virtual host has more than 255 bytes".to_owned());
        }
        Ok(uri)
    }

    /// The keys after `?` that nobody reads.
    pub(crate) fn unknown_query_keys(&self) -> Vec<String> {
        let Ok(url) = Url::parse(&self.0) else { return Vec::new() };
        let keys = url.query_pairs().map(|(key, _)| key.into_owned());
        keys.filter(|key| !QUERY_KEYS.contains(&key.as_str())).collect()
    }

    /// The place without credentials and options.
    pub(crate) fn public(&self) -> String {
        let Ok(uri) = self.parse() else { return "an unreadable URL".to_owned() };
        let host = if uri.authority.host.contains(':') {
            format!("[{}]", uri.authority.host)
        } else {
            uri.authority.host
        };
        let vhost = if uri.vhost == "/" { "%2f" } else { &uri.vhost };
        format!("{}://{host}:{}/{vhost}", uri.scheme, uri.authority.port)
    }
}

impl From<&str> for ServerUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        for (url, shown) in [
            ("amqp://guest:geheim@127.0.0.1:5672/%2f", "amqp://127.0.0.1:5672/%2f"),
            (
                "amqps://u:geheim@mq.example.com/prod?heartbeat=5",
                "amqps://mq.example.com:5671/prod",
            ),
            ("amqp://u:geheim@[::1]:1234", "amqp://[::1]:1234/%2f"),
            ("http://u:geheim@x", "an unreadable URL"),
            ("geheim", "an unreadable URL"),
        ] {
            let url = ServerUrl::from(url);
            assert_eq!(url.public(), shown);
            assert_eq!(format!("{url:?}"), shown);
            if let Err(error) = url.parse() {
                assert!(!error.contains("geheim"), "{error}");
            }
        }
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_localhost() {
        let uri = ServerUrl::from("amqp://[2001:db8::1]/%2f").parse().unwrap();
        assert_eq!(uri.authority.host, "2001:db8::1");
        assert_eq!(uri.vhost, "/");
    }

    #[test]
    fn the_smallest_and_the_fullest_file_are_read() {
        let config: AmqpConfig = toml::from_str("url = 'amqp://127.0.0.1'").unwrap();
        assert_eq!((config.prefetch, config.consume.len()), (512, 0));
        let config: AmqpConfig = toml::from_str(
            r#"
            url = ["amqp://a", "amqps://b"]
            username = "u"
            password = "p"
            connection_name = "n"
            heartbeat = "10s"
            prefetch = 16
            address_mapping = "nats"
            max_message_bytes = "1MiB"
            [[consume]]
            queue = "q"
            declare = { durable = true, arguments = { x-queue-type = "quorum", x-max-length = 5 } }
            bind = [{ exchange = "amq.topic", key = "a.*" }, { exchange = "amq.fanout" }]
            prefetch = 1
            consumer_tag = "c"
            exclusive = true
            priority = 3
            address = "queue"
            [[consume]]
            queue = "r"
            declare = true
            bind = { exchange = "amq.topic", key = "b" }
            address = "fixed/address"
            "#,
        )
        .unwrap();
        let [first, second] = &config.consume[..] else { panic!("two queues") };
        assert_eq!(first.bind.len(), 2);
        assert_eq!(first.address, AddressSource::Queue);
        assert_eq!(second.declare, Declare::Yes(QueueDeclaration::default()));
        assert_eq!(second.address, AddressSource::Fixed("fixed/address".to_owned()));
        assert!(!format!("{config:?}").contains("\"p\""));
    }

    #[test]
    fn unknown_keys_are_named_wherever_they_are() {
        for (text, fault) in [
            ("ulr = 'x'", "ulr"),
            ("url = 'amqp://a'\n[[consume]]\nqueue = 'q'\nbind = { exchage = 'x' }", "exchage"),
            ("url = 'amqp://a'\n[[consume]]\nqueue = 'q'\nbind = [{ exchage = 'x' }]", "exchage"),
            ("url = 'amqp://a'\n[[consume]]\nqueue = 'q'\ndeclare = { durabel = true }", "durabel"),
            ("url = 5", "a text or a list of texts"),
        ] {
            let error = toml::from_str::<AmqpConfig>(text).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        let error = toml::from_str::<AmqpTarget>("exchange = 'x'\nkey = 'y'").unwrap_err();
        assert!(error.to_string().contains("key"));
    }

    #[test]
    fn mandatory_follows_the_kind_of_target() {
        for (target, mandatory) in [
            ("queue = 'q'", true),
            ("routing_key = 'q'", true),
            ("exchange = ''", true),
            ("exchange = 'amq.topic'", false),
            ("exchange = 'amq.topic'\nmandatory = true", true),
            ("queue = 'q'\nmandatory = false", false),
        ] {
            let target: AmqpTarget = toml::from_str(target).unwrap();
            assert_eq!(target.is_mandatory(), mandatory, "{target:?}");
        }
    }
}
