//! The settings of a listener, and what can be wrong with them.

mod access;
mod lint;

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::units::{ByteSize, HumanDuration};
use transload_listen::TlsSettings;

pub use self::access::{
    AuthSettings, BasicUser, BearerToken, CorsSettings, IntakeMethod, PathSettings, Patterns,
    ProxyHeader, Rate, RateLimitSettings,
};
pub(crate) use self::lint::{lint, lint_reply, lint_source, lint_target};

/// An HTTP listener: `POST` and `PUT` to any path that a route wants become messages, and `GET` of
/// a stream path is a stream of server-sent events.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// The address and port to listen on, such as `127.0.0.1:8080`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,

    /// TLS, with HTTP/2 and HTTP/1.1; without it, the listener speaks them in the clear.
    #[serde(default)]
    pub tls: Option<TlsSettings>,

    /// Who may send messages and read streams, on all paths that do not say it themselves.
    #[serde(default)]
    pub auth: Option<AuthSettings>,

    /// Must be `true` to listen beyond this machine (beyond loopback) where nothing asks for
    /// credentials: anyone who reaches the address can then send messages and read the streams. On
    /// loopback this is so as long as nothing in the listener's settings asks for credentials.
    #[serde(default)]
    pub insecure_without_authentication: bool,

    /// What is different for some paths, as `[[adapters.NAME.path]]`.
    #[serde(default)]
    pub path: Vec<PathSettings>,

    /// How many connections may be open at once, event streams included. Further ones are closed.
    #[serde(default = "max_connections")]
    pub max_connections: usize,

    /// How many of them may come from one address: one IPv4 address or one IPv6 network of 64 bits.
    /// A proxy is one address, whoever its clients are.
    #[serde(default = "max_connections_per_address")]
    pub max_connections_per_address: usize,

    /// How many requests may come. One more is answered with 429 and `Retry-After`.
    #[serde(default)]
    pub rate_limit: Option<RateLimitSettings>,

    /// The addresses or networks of proxies whose word about their clients is taken, such as
    /// `10.0.0.0/8`. Rate limits and the attribute `client` go by it.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,

    /// The header in which they say it. It must be the one that they write, since they may pass on
    /// the other as their clients wrote it.
    #[serde(default)]
    pub proxy_header: ProxyHeader,

    /// Which pages of other origins may use the listener from a browser; none if it is left out.
    #[serde(default)]
    pub cors: Option<CorsSettings>,

    /// The origins that may send webhooks here by the handshake of CloudEvents (`OPTIONS` with
    /// `WebHook-Request-Origin`), such as `eventemitter.example.com`; `"*"` is every one.
    #[serde(default)]
    pub webhook_origins: Vec<String>,

    /// The largest head of a request, in bytes; a larger one is refused with 431.
    #[serde(default = "max_head_bytes")]
    pub max_head_bytes: ByteSize,

    /// The largest body of a request; a larger one is refused with 413.
    #[serde(default = "max_body_bytes")]
    pub max_body_bytes: ByteSize,

    /// How many bytes of bodies may be held at once, from their arrival until the gateway has
    /// settled their messages. Requests beyond that are answered with 503.
    #[serde(default = "max_buffered_bytes")]
    pub max_buffered_bytes: ByteSize,

    /// How long the head of a request may take to arrive, and how long a connection may be idle
    /// between requests; after that it is closed.
    #[serde(default = "header_timeout")]
    pub header_timeout: HumanDuration,

    /// How long the body of a request may take to arrive; after that it is refused with 408.
    #[serde(default = "body_timeout")]
    pub body_timeout: HumanDuration,

    /// How long a peer may take nothing of what is sent to it; after that its connection is closed.
    #[serde(default = "write_timeout")]
    pub write_timeout: HumanDuration,

    /// How long a request waits for the guarantee of its routes, or for their reply. After that, and
    /// before an eighth more of it has passed, it is answered with 504: the message is not known to be
    /// accepted, and may still be. The sender must send it again, with the same `Idempotency-Key` or
    /// `webhook-id`, by which duplicates can be told; if it sent none, the answer names the id that
    /// the gateway gave to the message.
    #[serde(default = "response_timeout")]
    pub response_timeout: HumanDuration,

    /// The content types that are taken, such as `application/json` or `text/*`; others are refused
    /// with 415. Everything is taken when the list is empty.
    #[serde(default)]
    pub content_types: Vec<String>,

    /// Whether bodies with `Content-Encoding: gzip` are taken in unpacked, up to `max_body_bytes`;
    /// other encodings are then refused with 415. Without it, bodies pass as they are, with their
    /// encoding. Signatures are of the bytes as they were sent.
    #[serde(default)]
    pub decode_gzip: bool,

    /// The event streams.
    #[serde(default)]
    pub streams: StreamSettings,
}

impl ListenerConfig {
    /// Whether everybody may use the paths that say nothing about it.
    pub(super) fn is_open(&self) -> bool {
        let asks = |path: &PathSettings| path.auth.is_some() || path.verify.is_some();
        let shown = self.tls.as_ref().is_some_and(TlsSettings::knows_every_client);
        let asked = self.auth.is_some() || self.path.iter().any(asks);
        self.insecure_without_authentication || shown || !asked && self.listen.ip().is_loopback()
    }
}

/// Event streams: what routes send to this listener, for browsers and `curl` to read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSettings {
    /// The path below which the streams are. Each path below it is a stream, whether or not a
    /// message was ever sent to it.
    pub prefix: String,

    /// How many subscribers there may be at once; further ones are answered with 503.
    pub max_subscribers: usize,

    /// How many messages of each stream are kept, for subscribers that are slow or come back with
    /// `Last-Event-ID`. They are in memory and gone after a restart.
    pub history_messages: usize,

    /// How many bytes of messages all streams together keep; the oldest go first.
    pub history_bytes: ByteSize,

    /// How often an idle stream sends a comment, so that proxies do not take it for dead.
    pub keep_alive: HumanDuration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            prefix: "/streams/".to_owned(),
            max_subscribers: 1_000,
            history_messages: 1_000,
            history_bytes: ByteSize::from_mib(16),
            keep_alive: HumanDuration::from_secs(15),
        }
    }
}

impl StreamSettings {
    /// Whether streams live at this address.
    pub(crate) fn contain(&self, address: &str) -> bool {
        let prefix = self.prefix.trim_matches('/');
        let below = address.strip_prefix(prefix);
        below.is_some_and(|below| {
            prefix.is_empty() || below.strip_prefix('/').is_some_and(|below| !below.is_empty())
        })
    }
}

/// Sends the message to an event stream of this listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTarget {
    /// The path of the stream, such as `/streams/telemetry` or `/streams/{device}`; not
    /// percent-encoded. The message's address below the prefix of the streams if it is left out.
    #[serde(default)]
    pub stream: Option<String>,
}

const fn max_connections() -> usize {
    4_096
}

const fn max_connections_per_address() -> usize {
    1_024
}

const fn max_head_bytes() -> ByteSize {
    ByteSize::from_kib(32)
}

const fn write_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

const fn max_body_bytes() -> ByteSize {
    ByteSize::from_mib(16)
}

const fn max_buffered_bytes() -> ByteSize {
    ByteSize::from_mib(128)
}

const fn header_timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

const fn body_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

const fn response_timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

/// Whether a request of this content type is taken.
pub(crate) fn takes(content_types: &[String], content_type: Option<&str>) -> bool {
    if content_types.is_empty() {
        return true;
    }
    let Some(given) = content_type.and_then(|whole| whole.split(';').next()).map(str::trim) else {
        return false;
    };
    let matches = |wanted: &String| {
        let ranges = (wanted.split_once('/'), given.split_once('/'));
        let (Some((kind, sub)), Some((given_kind, given_sub))) = ranges else { return false };
        (kind == "*" || kind.eq_ignore_ascii_case(given_kind))
            && (sub == "*" || sub.eq_ignore_ascii_case(given_sub))
    };
    content_types.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use transload_adapter::Lint;

    use super::*;

    fn config(text: &str) -> ListenerConfig {
        toml::from_str(text).unwrap()
    }

    fn paths(lints: &[Lint]) -> Vec<&str> {
        lints.iter().map(|lint| &*lint.path).collect()
    }

    #[test]
    fn the_address_is_all_that_is_needed() {
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            let config = config(&format!("listen = \"{address}\""));
            assert_eq!(lint(&config), [], "{address}");
            assert!(config.max_body_bytes.get() > 1 << 20, "a body of 1 MiB passes");
        }
        assert!(toml::from_str::<ListenerConfig>("listen = \"127.0.0.1:1\"\nlisen = 1").is_err());
    }

    #[test]
    fn listening_to_the_world_must_be_asked_for() {
        for address in ["0.0.0.0:80", "[::]:80", "192.168.1.1:80"] {
            let text = format!("listen = \"{address}\"");
            assert_eq!(paths(&lint(&config(&text))), ["listen"]);
            let text = format!("{text}\ninsecure_without_authentication = true");
            assert_eq!(lint(&config(&text)), []);
        }
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let config = config(
            "listen = \"127.0.0.1:1\"\nmax_connections = 0\nmax_body_bytes = \"1GiB\"\n\
             body_timeout = \"0s\"\ncontent_types = [\"text/*\", \"json\"]\n\
             [streams]\nprefix = \"/+/\"\nhistory_bytes = 0",
        );
        let expected = [
            "max_connections",
            "streams.history_bytes",
            "body_timeout",
            "max_buffered_bytes",
            "streams.prefix",
            "content_types.1",
        ];
        assert_eq!(paths(&lint(&config)), expected);
    }

    #[test]
    fn a_request_must_wait_longer_than_for_its_reply() {
        let plain = config("listen = \"127.0.0.1:1\"");
        let second = std::time::Duration::from_secs(1);
        assert_eq!(lint_reply(&plain, 29 * second), []);
        for timeout in [30 * second, 60 * second] {
            let found = lint_reply(&plain, timeout);
            assert!(found[0].message.contains("waits for 30s only"), "{found:?}");
            assert_eq!(found[0].severity, transload_adapter::Severity::Warning);
        }
        let patient = config("listen = \"127.0.0.1:1\"\nresponse_timeout = \"2m\"");
        assert_eq!(lint_reply(&patient, 60 * second), []);
    }

    #[test]
    fn targets_lie_below_the_prefix() {
        let config = config("listen = \"127.0.0.1:1\"");
        for (stream, accepted) in [
            ("/streams/telemetry", true),
            ("streams/telemetry", true),
            ("/streams/{device}", true),
            ("/streams/x-{device}/y", true),
            ("/streams", false),
            ("/streams/", false),
            ("/streams{device}", false),
            ("/{device}", false),
            ("/events/x", false),
            ("/streams/a#b", false),
            ("/streams/../x", false),
        ] {
            let target = ListenerTarget { stream: Some(stream.to_owned()) };
            assert_eq!(lint_target(&config, &target).is_empty(), accepted, "{stream}");
        }
        assert_eq!(lint_target(&config, &ListenerTarget { stream: None }), []);
    }

    #[test]
    fn content_types_are_compared_without_parameters() {
        let list = ["application/json".to_owned(), "text/*".to_owned()];
        for (given, taken) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("text/plain"), true),
            (Some("application/xml"), false),
            (Some("json"), false),
            (None, false),
        ] {
            assert_eq!(takes(&list, given), taken, "{given:?}");
        }
        assert!(takes(&[], None));
    }
}
