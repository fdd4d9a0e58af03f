//! The settings of `kind = "nats"`, and what is wrong with them.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Secret,
    units::{ByteSize, HumanDuration},
};
use transload_tls::ClientTls;

use crate::mapping::AddressMapping;

/// `[adapters.NAME]` with `kind = "nats"`: a connection to a NATS server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// Where the server is: `nats://host:4222` or `tls://host:4222`, or a list of such, which are
    /// tried in turn. May hold `user:password@`; never shown with it.
    pub url: Urls,
    /// A `.creds` file with a JWT and an nkey seed.
    pub credentials_file: Option<PathBuf>,
    /// A token to log in with.
    pub token: Option<Secret>,
    /// A file whose first line is the token.
    pub token_file: Option<PathBuf>,
    /// A user name to log in with.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A file whose first line is the seed of an nkey.
    pub nkey_file: Option<PathBuf>,
    /// TLS: whom to trust, and which certificate to show. With it, or with `tls://`, a server without
    /// TLS is not connected to.
    #[serde(default)]
    pub tls: ClientTls,
    /// How the levels of an address become the tokens of a subject.
    #[serde(default)]
    pub address_mapping: AddressMapping,
    /// Core subjects to take messages from. Without this and `consume`, they follow from the
    /// patterns of the routes.
    pub subscribe: Option<Vec<Subscription>>,
    /// The queue group of all subscriptions that name none of their own: of several gateways with
    /// the same group, one gets each message.
    pub queue_group: Option<String>,
    /// `JetStream` consumers to take messages from.
    #[serde(default)]
    pub consume: Vec<Consume>,
    /// The first part of the subjects on which replies come, for servers whose permissions ask for
    /// one; `_INBOX` by default.
    pub inbox_prefix: Option<String>,
    /// How many core messages may wait in the gateway; what comes on top of them is dropped and
    /// counted, since NATS does not wait.
    #[serde(default = "buffer_messages")]
    pub buffer_messages: usize,
    /// How many bytes of memory the core messages may take that wait in the gateway.
    #[serde(default = "buffer_bytes")]
    pub buffer_bytes: ByteSize,
    /// How long a server may take to answer when a connection is made.
    #[serde(default = "five_seconds")]
    pub connect_timeout: HumanDuration,
    /// How long a server may take to confirm a message.
    #[serde(default = "five_seconds")]
    pub confirm_timeout: HumanDuration,
    /// How often a silent server is asked whether it is there; after two questions without an
    /// answer the connection counts as lost.
    #[serde(default = "ping_interval")]
    pub ping_interval: HumanDuration,
}

/// One URL or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Urls {
    /// One server.
    One(Secret),
    /// Several servers of one cluster, or a server and its stand-ins.
    Many(Vec<Secret>),
}

impl Urls {
    /// The URLs, which may hold passwords.
    pub fn list(&self) -> &[Secret] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Many(urls) => urls,
        }
    }
}

/// A core subject to take messages from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Subscription {
    /// The subject in NATS form, such as `orders.*.created` or `orders.>`.
    Subject(String),
    /// A subject with settings of its own.
    Settings(SubscriptionSettings),
}

/// A core subject with settings of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSettings {
    /// The subject in NATS form, such as `orders.*.created` or `orders.>`.
    pub subject: String,
    /// Of all subscribers with the same group, one gets each message.
    pub queue_group: Option<String>,
}

impl Subscription {
    /// The subject.
    pub fn subject(&self) -> &str {
        match self {
            Self::Subject(subject) => subject,
            Self::Settings(settings) => &settings.subject,
        }
    }

    /// The queue group of its own.
    pub fn queue_group(&self) -> Option<&str> {
        match self {
            Self::Subject(_) => None,
            Self::Settings(settings) => settings.queue_group.as_deref(),
        }
    }
}

/// A durable pull consumer of a `JetStream` stream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// The stream; it must be there.
    pub stream: String,
    /// The name of the durable consumer. Gateways that use the same one share its messages.
    pub durable: String,
    /// Only messages with these subjects, in NATS form; all of the stream by default.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Whether the consumer is made, or given these settings, when the gateway connects. Otherwise
    /// it must be there, and its own settings count.
    #[serde(default)]
    pub create: bool,
    /// How long the server waits for an acknowledgement before it delivers a message again. The
    /// gateway asks for more time for a message that it still holds.
    #[serde(default = "ack_wait")]
    pub ack_wait: HumanDuration,
    /// How many messages may be unacknowledged at the server.
    #[serde(default = "max_ack_pending")]
    pub max_ack_pending: u32,
    /// Where in the stream a consumer starts that is made anew.
    #[serde(default)]
    pub deliver_policy: DeliverPolicy,
    /// How many messages are asked for at once.
    #[serde(default = "batch")]
    pub batch: u16,
}

/// Where in its stream a new consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliverPolicy {
    /// At the first message that the stream still has.
    #[default]
    All,
    /// At the last message.
    Last,
    /// At the last message of each subject.
    LastPerSubject,
    /// Behind the last message.
    New,
}

/// `to` of a route whose target is a NATS adapter.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsTarget {
    /// The subject in NATS form, such as `devices.{device}.telemetry`; by default it follows from
    /// the message's address.
    pub subject: Option<String>,
    /// Whether a `JetStream` stream must confirm that it has stored the message.
    #[serde(default)]
    pub jetstream: bool,
    /// The stream that must be the one to store the message; needs `jetstream = true`.
    pub stream: Option<String>,
    /// Whether the server is to delete a message that has expired (`Nats-TTL`); needs a stream that
    /// allows it, on nats-server 2.11 or later.
    #[serde(default)]
    pub ttl: bool,
}

fn buffer_messages() -> usize {
    65_536
}

fn buffer_bytes() -> ByteSize {
    ByteSize::from_mib(8)
}

fn five_seconds() -> HumanDuration {
    HumanDuration::from_secs(5)
}

fn ping_interval() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn ack_wait() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn max_ack_pending() -> u32 {
    4_096
}

fn batch() -> u16 {
    256
}

/// The shortest `ack_wait` within which asking for more time works.
pub(crate) const ACK_WAIT_MIN: Duration = Duration::from_secs(1);
