//! Findings about the settings, those included that would panic the client library.

use transload_adapter::{Lint, units::HumanDuration};
use transload_routing::Pattern;
use transload_tls::ClientTls;
use url::Url;

use super::config::{ClientConfig, ClientTarget};
use crate::topic::{self, Filter};

/// The client library panics on a shorter keep-alive.
const KEEP_ALIVE_S_MIN: u64 = 5;
/// The smallest packet bound that lets ordinary packets through.
const PACKET_BYTES_MIN: u64 = 256;
/// The largest packet that the protocol can say (MQTT 5, section 2.1.4).
const PACKET_BYTES_MAX: u64 = 268_435_455 + 5;

const QOS_2: &str = "quality of service 2 is not offered to other brokers";
const QOS_2_HELP: &str = "use 1: the client library loses count of messages of quality of service \
                          2, and the message id keeps repetitions apart";

/// Everything that is wrong with an adapter's settings.
pub(super) fn config(config: &ClientConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    url(config, &mut lints);
    logins(config, &mut lints);
    if config.client_id.as_deref().is_some_and(|id| id.is_empty() || id.len() > 65_000) {
        lints.push(Lint::error("client_id", "the broker needs a name to keep a session by"));
    }
    qos("qos", Some(config.qos), &mut lints);
    for (index, subscription) in config.subscribe.iter().flatten().enumerate() {
        let path = format!("subscribe.{index}");
        if Filter::parse(subscription.filter()).is_none() {
            lints.push(
                Lint::error(&path, "this is not an MQTT topic filter")
                    .with_help("write it like `a/+/b`, `a/#` or `$share/GROUP/a/#`"),
            );
        }
        qos(&format!("{path}.qos"), subscription.qos(), &mut lints);
    }
    bounds(config, &mut lints);
    lints
}

/// Everything that is wrong with a target.
pub(super) fn target(target: &ClientTarget) -> Vec<Lint> {
    let mut lints = Vec::new();
    lints.extend(crate::request::lint(target.replies_by()));
    qos("qos", target.qos, &mut lints);
    if let Some(text) = target.topic.as_deref() {
        if !topic::is_valid_name(text) {
            lints.push(
                Lint::error("topic", "a topic to publish under is not empty and has no wildcards")
                    .with_help("captures such as `{device}` take their text from the match"),
            );
        } else if topic::is_reserved(text) {
            lints.push(Lint::error("topic", "topics that start with `$` are the broker's own"));
        }
    }
    lints
}

/// Whether anything comes in for the pattern of a route.
pub(super) fn source(config: &ClientConfig, pattern: &str) -> Vec<Lint> {
    let (Some(subscriptions), Ok(pattern)) = (&config.subscribe, Pattern::parse(pattern)) else {
        return Vec::new();
    };
    let mut filters = subscriptions.iter().filter_map(|one| Filter::parse(one.filter()));
    if filters.any(|filter| filter.pattern.overlaps(&pattern)) {
        return Vec::new();
    }
    vec![
        Lint::warning("", "nothing that this adapter subscribes to matches")
            .with_help(format!("add `{}` to `subscribe`", pattern.to_filter())),
    ]
}

fn url(config: &ClientConfig, lints: &mut Vec<Lint>) {
    // The text is not repeated, since it may hold a password.
    let parsed = Url::parse(config.url.expose()).ok().filter(|url| {
        matches!(url.scheme(), "mqtt" | "mqtts" | "ws" | "wss") && url.host_str().is_some()
    });
    let Some(url) = parsed else {
        lints.push(
            Lint::error("url", "this is not the URL of an MQTT broker")
                .with_help("write it as mqtt://host:1883, mqtts://, ws:// or wss://"),
        );
        return;
    };
    if matches!(url.scheme(), "mqtt" | "ws") && config.tls != ClientTls::default() {
        lints.push(
            Lint::error("url", "`tls` is of no use without TLS")
                .with_help("write it as mqtts:// or wss://"),
        );
    }
    if url.password().is_some() {
        lints.push(
            Lint::warning("url", "the URL holds a password")
                .with_help("use `username` and `password_file`"),
        );
    }
}

fn logins(config: &ClientConfig, lints: &mut Vec<Lint>) {
    if config.username.is_none() && (config.password.is_some() || config.password_file.is_some()) {
        lints.push(Lint::error("password", "a password without `username` has no effect"));
    }
    if config.password.is_some() && config.password_file.is_some() {
        lints.push(Lint::error("password_file", "`password` is given as well"));
    }
    lints.extend(config.tls.lint("tls"));
}

fn qos(path: &str, given: Option<u8>, lints: &mut Vec<Lint>) {
    match given {
        None | Some(0 | 1) => {}
        Some(2) => lints.push(Lint::error(path, QOS_2).with_help(QOS_2_HELP)),
        Some(_) => lints.push(Lint::error(path, "the quality of service is 0 or 1")),
    }
}

fn bounds(config: &ClientConfig, lints: &mut Vec<Lint>) {
    let seconds = |duration: HumanDuration| duration.get().as_secs();
    if !(KEEP_ALIVE_S_MIN..=u64::from(u16::MAX)).contains(&seconds(config.keep_alive)) {
        lints.push(Lint::error("keep_alive", "must be between 5 s and 18 hours"));
    }
    let bytes = config.max_packet_bytes.get();
    if !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&bytes) {
        lints.push(Lint::error("max_packet_bytes", "must be between 256 bytes and 256 MiB"));
    }
    for (key, too_little) in [
        ("max_inflight", config.max_inflight == 0),
        ("buffer_bytes", config.buffer_bytes.get() == 0),
        ("connect_timeout", seconds(config.connect_timeout) == 0),
        ("confirm_timeout", seconds(config.confirm_timeout) == 0),
    ] {
        if too_little {
            lints.push(Lint::error(key, "must be more than 0 (time-outs: at least a second)"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> ClientConfig {
        let text = if more.starts_with("url") {
            more.to_owned()
        } else {
            format!("url = 'mqtt://h'\n{more}")
        };
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn findings_name_their_key() {
        for (text, key) in [
            ("", None),
            ("url = 'wss://h/mqtt'", None),
            ("url = 'http://h'", Some("url")),
            ("url = 'h:1883'", Some("url")),
            ("tls = { ca_file = '/nowhere' }", Some("url")),
            ("url = 'mqtts://h'\ntls = { ca_file = '/nowhere' }", Some("tls.ca_file")),
            ("url = 'mqtt://a:b@h'", Some("url")),
            ("qos = 2", Some("qos")),
            ("keep_alive = '4s'", Some("keep_alive")),
            ("keep_alive = '20h'", Some("keep_alive")),
            ("max_inflight = 0", Some("max_inflight")),
            ("buffer_bytes = '0B'", Some("buffer_bytes")),
            ("client_id = ''", Some("client_id")),
            ("max_packet_bytes = '10B'", Some("max_packet_bytes")),
            ("password = 'x'", Some("password")),
            ("subscribe = ['a/#', '$share/g/a/+']", None),
            ("subscribe = ['a/#/b']", Some("subscribe.0")),
            ("subscribe = [{ filter = 'a', qos = 2 }]", Some("subscribe.0.qos")),
        ] {
            let found = config(&read(text));
            assert_eq!(found.first().map(|lint| &*lint.path), key, "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = read("url = 'mqtt://ann:topsecret@h'\nusername = 'a'\npassword = 'topsecret'");
        assert!(!format!("{config:?} {:?}", super::config(&config)).contains("topsecret"));
    }

    #[test]
    fn a_route_that_nothing_comes_in_for_is_noticed() {
        let settings = read("subscribe = ['$share/g/a/#']");
        assert!(source(&settings, "a/{x}").is_empty());
        assert_eq!(source(&settings, "b/{x}").len(), 1);
        assert!(source(&read(""), "b/{x}").is_empty());
    }
}
