mod defaults;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{
    Lint,
    units::{ByteSize, HumanDuration},
};
use transload_listen::TlsSettings;
use transload_routing::Pattern;

use super::access::{self, Permission, lint_permissions};
use crate::request::RepliesBy;

/// A listener that MQTT devices connect to: a broker of its own, 3.1.1 and 5 on one port.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on for MQTT over TCP, such as "127.0.0.1:1883". Port 0 takes any
    /// free one.
    pub listen: SocketAddr,

    /// A second address for MQTT over WebSocket, at the path "/mqtt".
    #[serde(default)]
    pub websocket: Option<SocketAddr>,

    /// TLS on `listen` and `websocket`. With `client_ca_file`, clients prove with a certificate who
    /// they are.
    #[serde(default)]
    pub tls: Option<TlsSettings>,

    /// One more address for MQTT over TCP, without TLS where `listen` speaks it.
    #[serde(default)]
    pub plain: Option<SocketAddr>,

    /// What of a client's certificate is the name of its user.
    #[serde(default)]
    pub certificate_user: CertificateUser,

    /// Whether devices hear each other by their subscriptions, without any route. When false, what
    /// they publish goes to routes only.
    #[serde(default = "yes")]
    pub local: bool,

    /// Says in so many words that everybody who reaches the address may publish and subscribe:
    /// needed to listen beyond this machine without authentication.
    #[serde(default)]
    pub insecure_without_authentication: bool,

    /// A file of the users that may log in, one a line, as `transload hash-password NAME` makes it.
    /// With it, every client has to log in that shows no certificate. It is read again when it changes: connections of users
    /// that are gone from it end, all others stay.
    #[serde(default)]
    pub users_file: Option<PathBuf>,

    /// Whether clients that do not say who they are are let in although others log in, with a
    /// password or a certificate.
    #[serde(default)]
    pub anonymous: bool,

    /// Who may publish and subscribe to what. Without entries, everybody who is let in may do
    /// everything; with entries, what none allows is denied, and a client that none is for is not
    /// let in.
    #[serde(default)]
    pub permissions: Vec<Permission>,

    /// How many logins may wait for the check of their password; one more is told to come back.
    #[serde(default = "defaults::max_logins")]
    pub max_logins: usize,

    /// How many clients may be connected at once; one more is closed at once.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: usize,

    /// How many of them may come from one IPv4 address or one IPv6 network of 64 bits; without it,
    /// as many as in all.
    #[serde(default)]
    pub max_connections_per_address: Option<usize>,

    /// The largest MQTT packet that is taken, header and properties included.
    #[serde(default = "defaults::max_packet_bytes")]
    pub max_packet_bytes: ByteSize,

    /// How many messages of one client may wait for their acknowledgement. An MQTT 5 client is
    /// told; one of 3.1.1 that sends more is not read until there is room.
    #[serde(default = "defaults::receive_maximum")]
    pub receive_maximum: u16,

    /// How many messages may be on their way to one client without its acknowledgement. A client
    /// of MQTT 5 may ask for less.
    #[serde(default = "defaults::max_in_flight")]
    pub max_in_flight: u16,

    /// How long the session of a client that went away is kept, at most. Clients of MQTT 5 that
    /// ask for more are told; for those of 3.1.1 it is how long a session that is not clean lives.
    #[serde(default = "defaults::session_expiry_max")]
    pub session_expiry_max: HumanDuration,

    /// How many sessions are kept, those of connected clients included. A new client beyond that
    /// is refused.
    #[serde(default = "defaults::max_sessions")]
    pub max_sessions: usize,

    /// How many subscriptions one session may have.
    #[serde(default = "defaults::max_subscriptions")]
    pub max_subscriptions: usize,

    /// How many subscriptions all sessions together may have.
    #[serde(default = "defaults::max_subscriptions_in_all")]
    pub max_subscriptions_in_all: usize,

    /// How many retained messages are kept. One more is refused, and counted.
    #[serde(default = "defaults::max_retained")]
    pub max_retained: usize,

    /// How many bytes of retained messages are kept; the rest as for `max_retained`.
    #[serde(default = "defaults::max_retained_bytes")]
    pub max_retained_bytes: ByteSize,

    /// How many messages may wait for one session. When as many wait, newer ones are not queued
    /// for it, and counted.
    #[serde(default = "defaults::max_queued_messages")]
    pub max_queued_messages: usize,

    /// How many bytes of messages may wait for one session; the rest as for `max_queued_messages`.
    #[serde(default = "defaults::max_queued_bytes")]
    pub max_queued_bytes: ByteSize,

    /// How long a client that publishes with `QoS` 1 or 2 is held back, at most, for a subscriber
    /// that has fallen behind: one whose session ends with its connection, and for which 4 MiB
    /// wait, or half of what may wait. When it has not caught up by then, messages wait for it up
    /// to its bounds, and nobody is held back for it until it has. `0s` holds nobody back.
    #[serde(default = "defaults::slow_subscriber_wait")]
    pub slow_subscriber_wait: HumanDuration,

    /// How many bytes of messages may wait for all sessions together, in memory and on disk; the rest
    /// as for `max_queued_messages`.
    #[serde(default = "defaults::max_queued_bytes_in_all")]
    pub max_queued_bytes_in_all: ByteSize,

    /// The longest keep-alive that a client of MQTT 5 is granted; without it, each client's own
    /// holds, also none at all.
    #[serde(default)]
    pub keep_alive_max: Option<HumanDuration>,

    /// How long a client may take from its connection to its whole CONNECT packet.
    #[serde(default = "defaults::connect_timeout")]
    pub connect_timeout: HumanDuration,
}

impl Config {
    /// Whether clients are asked who they are.
    pub(super) fn asks(&self) -> bool {
        let by_certificate = |tls: &TlsSettings| tls.client_ca_file.is_some();
        self.users_file.is_some() || self.tls.as_ref().is_some_and(by_certificate)
    }
}

/// What of a certificate names a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateUser {
    /// The common name of the subject.
    #[default]
    CommonName,
    /// The first alternative name.
    AlternativeName,
    /// The whole subject, such as `O=Factory, CN=press-1`.
    Subject,
}

/// A target of a route: subscribers of the listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The topic to publish under; without it, the message's address. May hold `{captures}`.
    #[serde(default)]
    pub topic: Option<String>,

    /// Quality of service: 0, 1 or 2. Without it, 1, and 0 for messages whose source said that
    /// they need not be kept.
    #[serde(default)]
    #[schemars(range(max = 2))]
    pub qos: Option<u8>,

    /// Whether the message is kept for later subscribers of its topic. Without it, as the source
    /// said.
    #[serde(default)]
    pub retain: Option<bool>,

    /// The topic that replies come under, for routes with `reply` to devices of MQTT 3.1.1, such as
    /// `devices/{device}/replies/{correlation}`. `topic` may hold `{correlation}` too, so that the
    /// device knows it. Without it, a device of MQTT 5 is told a Response Topic.
    #[serde(default)]
    pub reply_topic: Option<String>,

    /// The member of a JSON reply by which it is known under a `reply_topic` without `{correlation}`, such
    /// as `payload.id`; the payload of the request must hold `{correlation}` where the device
    /// takes it from. Other messages under the topic are routed as always.
    #[serde(default)]
    pub reply_correlation: Option<String>,
}

impl Target {
    /// How replies to requests are known.
    pub(crate) fn replies_by(&self) -> RepliesBy<'_> {
        RepliesBy { topic: self.reply_topic.as_deref(), member: self.reply_correlation.as_deref() }
    }
}

fn yes() -> bool {
    true
}

/// The smallest packet bound that lets ordinary CONNECT packets in.
const PACKET_BYTES_MIN: u64 = 256;
/// The largest packet that the protocol can say (MQTT 5, section 2.1.4).
const PACKET_BYTES_MAX: u64 = 268_435_455 + 5;

pub(super) fn lint(config: &Config) -> Vec<Lint> {
    let mut lints = lint_addresses(config);
    lints.extend(lint_files(config));
    if config.anonymous && !config.asks() {
        lints.push(
            Lint::warning("anonymous", "nobody is asked who they are anyway")
                .with_help("name a `users_file` or a `tls.client_ca_file`, or leave the key out"),
        );
    }
    lints.extend(lint_permissions(&config.permissions, config.asks()));
    let bytes = config.max_packet_bytes.get();
    if !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&bytes) {
        lints.push(Lint::error("max_packet_bytes", "must be between 256 bytes and 256 MiB"));
    }
    for (key, is_zero) in [
        ("max_logins", config.max_logins == 0),
        ("max_connections", config.max_connections == 0),
        ("receive_maximum", config.receive_maximum == 0),
        ("max_in_flight", config.max_in_flight == 0),
        ("max_sessions", config.max_sessions == 0),
        ("max_subscriptions", config.max_subscriptions == 0),
        ("max_subscriptions_in_all", config.max_subscriptions_in_all == 0),
        ("max_queued_bytes_in_all", config.max_queued_bytes_in_all.get() == 0),
        ("max_queued_messages", config.max_queued_messages == 0),
        ("max_queued_bytes", config.max_queued_bytes.get() == 0),
        ("connect_timeout", config.connect_timeout.is_zero()),
    ] {
        if is_zero {
            lints.push(Lint::error(key, "must be more than 0, or nothing would ever work"));
        }
    }
    if config.keep_alive_max.is_some_and(|max| max.get().as_secs() == 0) {
        lints.push(
            Lint::error("keep_alive_max", "must be at least one second")
                .with_help("leave the key out to let clients choose"),
        );
    }
    lints
}

/// Checks who can reach which address.
fn lint_addresses(config: &Config) -> Vec<Lint> {
    let mut lints = Vec::new();
    let mut taken = Vec::new();
    let tls = config.tls.is_some();
    for (key, address, encrypted) in [
        ("listen", Some(config.listen), tls),
        ("websocket", config.websocket, tls),
        ("plain", config.plain, false),
    ] {
        let Some(address) = address else { continue };
        if address.port() != 0 && taken.contains(&address) {
            lints.push(Lint::error(key, "the address is taken by another key of this adapter"));
        }
        taken.push(address);
        if is_loopback(address.ip()) || config.insecure_without_authentication {
            continue;
        }
        if !config.asks() || config.anonymous {
            let what = "reachable from other machines, and anyone may publish";
            lints.push(Lint::error(key, format!("{address} is {what}")).with_help(
                "listen on 127.0.0.1, name a `users_file` without `anonymous`, or write \
                 `insecure_without_authentication = true` where the network itself keeps \
                 strangers out",
            ));
        } else if !encrypted {
            lints.push(
                Lint::warning(key, format!("passwords and messages go to {address} unencrypted"))
                    .with_help("add `tls`, and keep `plain` addresses on 127.0.0.1"),
            );
        }
    }
    lints
}

/// Checks the files that the settings name.
fn lint_files(config: &Config) -> Vec<Lint> {
    let mut lints: Vec<_> = config.tls.iter().flat_map(|tls| tls.lint("tls")).collect();
    if let Some(file) = &config.users_file
        && let Err(fault) = access::check_users(file)
    {
        lints.push(
            Lint::error("users_file", fault.to_string())
                .with_help("`transload hash-password NAME` makes a line of it"),
        );
    }
    lints
}

pub(super) fn lint_target(target: &Target) -> Vec<Lint> {
    let mut lints = Vec::new();
    lints.extend(crate::request::lint(target.replies_by()));
    if target.qos.is_some_and(|qos| qos > 2) {
        lints.push(Lint::error("qos", "the quality of service is 0, 1 or 2"));
    }
    if let Some(topic) = target.topic.as_deref() {
        if !crate::topic::is_valid_name(topic) {
            lints.push(
                Lint::error("topic", "a topic to publish under is not empty and has no wildcards")
                    .with_help("captures such as `{device}` take their text from the match"),
            );
        } else if crate::topic::is_reserved(topic) {
            lints.push(Lint::error("topic", "topics that start with `$` are the listener's own"));
        }
    }
    lints
}

pub(super) fn lint_source(pattern: &str) -> Vec<Lint> {
    match Pattern::parse(pattern) {
        Ok(_) if crate::topic::is_reserved(pattern) => vec![Lint::warning(
            "",
            "clients cannot publish under topics that start with `$`, so nothing will match",
        )],
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use transload_adapter::Severity;

    use super::*;

    fn config(more: &str) -> Config {
        toml::from_str(&format!("listen = \"127.0.0.1:0\"\n{more}")).unwrap()
    }

    #[test]
    fn findings_name_their_key() {
        for (text, key) in [
            ("", None),
            ("websocket = \"[::1]:0\"", None),
            ("websocket = \"0.0.0.0:9001\"", Some("websocket")),
            ("websocket = \"0.0.0.0:9001\"\ninsecure_without_authentication = true", None),
            ("plain = \"0.0.0.0:9001\"", Some("plain")),
            ("plain = \"127.0.0.1:9\"\nwebsocket = \"127.0.0.1:9\"", Some("plain")),
            ("users_file = \"/no/such/file\"", Some("users_file")),
            (
                "tls = { certificate_file = \"/no\", key_file = \"/no\" }",
                Some("tls.certificate_file"),
            ),
            ("anonymous = true", Some("anonymous")),
            ("permissions = [{ publish = [\"a/#/b\"] }]", Some("permissions.0.publish.0")),
            ("receive_maximum = 0", Some("receive_maximum")),
            ("max_packet_bytes = \"1GiB\"", Some("max_packet_bytes")),
            ("keep_alive_max = \"10ms\"", Some("keep_alive_max")),
        ] {
            let found = lint(&config(text));
            assert_eq!(found.first().map(|lint| &*lint.path), key, "{text}");
        }
    }

    #[test]
    fn open_addresses_need_users_or_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, "").unwrap();
        let users = format!("users_file = {users:?}\nwebsocket = \"0.0.0.0:9001\"\n");
        for (more, severity) in [("", Severity::Warning), ("anonymous = true", Severity::Error)] {
            let found = lint(&config(&format!("{users}{more}")));
            let found: Vec<_> = found.iter().map(|lint| (&*lint.path, lint.severity)).collect();
            assert_eq!(found, [("websocket", severity)], "{more}");
        }
    }

    #[test]
    fn targets_are_checked() {
        for (text, key) in [
            ("", None),
            ("topic = \"a/{b}\"\nqos = 2", None),
            ("qos = 3", Some("qos")),
            ("topic = \"a/#\"", Some("topic")),
            ("topic = \"$SYS/a\"", Some("topic")),
        ] {
            let target: Target = toml::from_str(text).unwrap();
            assert_eq!(lint_target(&target).first().map(|lint| &*lint.path), key, "{text}");
        }
        assert!(toml::from_str::<Target>("topics = \"a\"").is_err());
    }
}
