//! Findings about the settings that the types cannot express.

use transload_adapter::Lint;

use crate::{
    client::ServerAddress,
    config::{ACK_WAIT_MIN, Consume, NatsConfig, NatsTarget},
    mapping::{check_subject, is_internal, overlaps, pattern_filters},
};

/// Everything that is wrong with an adapter's settings.
pub(crate) fn config(config: &NatsConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    urls(config, &mut lints);
    logins(config, &mut lints);
    bounds(config, &mut lints);
    if let Some(group) = &config.queue_group {
        name("queue_group", group, &mut lints);
    }
    if let Some(prefix) = &config.inbox_prefix {
        if prefix != "_INBOX" {
            filter("inbox_prefix", prefix, &mut lints);
        }
        if prefix.contains(['*', '>']) {
            lints.push(Lint::error("inbox_prefix", "`inbox_prefix` must not hold wildcards"));
        }
    }
    for (index, subscription) in config.subscribe.iter().flatten().enumerate() {
        filter(&format!("subscribe.{index}"), subscription.subject(), &mut lints);
        if let Some(group) = subscription.queue_group() {
            name(&format!("subscribe.{index}.queue_group"), group, &mut lints);
        }
    }
    for (index, consume) in config.consume.iter().enumerate() {
        consumer(index, consume, &mut lints);
    }
    lints
}

/// Everything that is wrong with a target.
pub(crate) fn target(target: &NatsTarget) -> Vec<Lint> {
    let mut lints = Vec::new();
    if let Some(subject) = &target.subject
        && let Err(error) = check_subject(&with_samples(subject))
    {
        lints.push(
            Lint::error("subject", error.to_string())
                .with_help("write the subject in NATS form, with `.` between its tokens"),
        );
    }
    if let Some(stream) = &target.stream {
        name("stream", stream, &mut lints);
    }
    for (key, given) in [("stream", target.stream.is_some()), ("ttl", target.ttl)] {
        if given && !target.jetstream {
            lints.push(
                Lint::error(key, format!("`{key}` is for streams only"))
                    .with_help("add `jetstream = true`"),
            );
        }
    }
    lints
}

/// Whether anything comes in for the pattern of a route.
pub(crate) fn source(config: &NatsConfig, pattern: &str) -> Vec<Lint> {
    let wanted = match pattern_filters(config.address_mapping, pattern) {
        Ok(filters) => filters,
        Err(error) => {
            return vec![
                Lint::error("", format!("no NATS subject can match: {error}"))
                    .with_help("see `address_mapping`"),
            ];
        }
    };
    if config.subscribe.is_none() && config.consume.is_empty() {
        return Vec::new();
    }
    let from_core = config.subscribe.iter().flatten().map(|one| vec![one.subject()]);
    let from_streams = config.consume.iter().map(|consume| match &*consume.subjects {
        [] => vec![">"],
        some => some.iter().map(String::as_str).collect(),
    });
    let mut coming = from_core.chain(from_streams).flatten();
    if coming.any(|subject| wanted.iter().any(|filter| overlaps(subject, filter))) {
        return Vec::new();
    }
    vec![
        Lint::warning("", "nothing that this adapter subscribes to or consumes matches")
            .with_help(format!("subscribe to `{}`", wanted.first().map_or(">", |first| first))),
    ]
}

fn urls(config: &NatsConfig, lints: &mut Vec<Lint>) {
    if config.url.list().is_empty() {
        lints.push(Lint::error("url", "there is no server to connect to"));
    }
    for url in config.url.list() {
        // The text is not repeated, since it may hold a password.
        let address = match url.expose().parse::<ServerAddress>() {
            Ok(address) => address,
            Err(error) => {
                lints.push(
                    Lint::error("url", error.to_string())
                        .with_help("write it as nats://host:4222 or tls://host:4222"),
                );
                continue;
            }
        };
        if address.password().is_some() {
            lints.push(
                Lint::warning("url", "the URL holds a password")
                    .with_help("use `username` and `password_file`"),
            );
        }
    }
}

fn logins(config: &NatsConfig, lints: &mut Vec<Lint>) {
    let ways = [
        ("credentials_file", config.credentials_file.is_some()),
        ("token", config.token.is_some()),
        ("token_file", config.token_file.is_some()),
        ("username", config.username.is_some()),
        ("nkey_file", config.nkey_file.is_some()),
    ];
    let mut given = ways.iter().filter(|(_, given)| *given).map(|(key, _)| *key);
    if let Some(first) = given.next() {
        for other in given {
            lints.push(Lint::error(other, format!("`{first}` already says how to log in")));
        }
    }
    if config.username.is_none() && (config.password.is_some() || config.password_file.is_some()) {
        lints.push(Lint::error("password", "a password without `username` has no effect"));
    }
    if config.password.is_some() && config.password_file.is_some() {
        lints.push(Lint::error("password_file", "`password` is given as well"));
    }
    lints.extend(config.tls.lint("tls"));
}

fn bounds(config: &NatsConfig, lints: &mut Vec<Lint>) {
    for (key, zero) in [
        ("buffer_messages", config.buffer_messages == 0),
        ("buffer_bytes", config.buffer_bytes.get() == 0),
        ("connect_timeout", config.connect_timeout.is_zero()),
        ("confirm_timeout", config.confirm_timeout.is_zero()),
        ("ping_interval", config.ping_interval.is_zero()),
    ] {
        if zero {
            lints.push(Lint::error(key, format!("`{key}` must be more than zero")));
        }
    }
}

fn consumer(index: usize, consume: &Consume, lints: &mut Vec<Lint>) {
    let path = |key: &str| format!("consume.{index}.{key}");
    name(&path("stream"), &consume.stream, lints);
    name(&path("durable"), &consume.durable, lints);
    for (place, subject) in consume.subjects.iter().enumerate() {
        filter(&path(&format!("subjects.{place}")), subject, lints);
    }
    if consume.ack_wait.get() < ACK_WAIT_MIN {
        lints.push(Lint::error(path("ack_wait"), "`ack_wait` must be one second or more"));
    }
    for (key, zero) in
        [("max_ack_pending", consume.max_ack_pending == 0), ("batch", consume.batch == 0)]
    {
        if zero {
            lints.push(Lint::error(path(key), format!("`{key}` must be more than zero")));
        }
    }
}

/// A name of a stream, a consumer or a queue group.
fn name(path: &str, name: &str, lints: &mut Vec<Lint>) {
    let bad =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    if name.is_empty() || name.contains(bad) {
        lints.push(
            Lint::error(path, "this is not a name that NATS takes")
                .with_help("use letters, digits, `-` and `_`"),
        );
    }
}

/// A subject that may hold wildcards.
fn filter(path: &str, subject: &str, lints: &mut Vec<Lint>) {
    let tokens: Vec<_> = subject.split('.').collect();
    let last = tokens.len().saturating_sub(1);
    let malformed = tokens.iter().any(|token| token.is_empty())
        || tokens.iter().enumerate().any(|(place, token)| *token == ">" && place != last)
        || subject.contains(|c: char| c.is_whitespace() || c.is_control());
    if malformed {
        lints.push(
            Lint::error(path, "this is not a NATS subject")
                .with_help("write it like `orders.*.created` or `orders.>`"),
        );
    } else if is_internal(subject, None) {
        lints.push(Lint::error(path, "subjects of the NATS server itself are never forwarded"));
    }
}

/// A template with each capture replaced by a text that a subject may hold.
fn with_samples(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        text.push('x');
        rest = after.split_once('}').map_or("", |(_, behind)| behind);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> NatsConfig {
        let text = if more.starts_with("url") {
            more.to_owned()
        } else {
            format!("url = 'nats://h'\n{more}")
        };
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn findings_name_their_key() {
        for (text, key) in [
            ("", None),
            ("url = ['nats://a', 'tls://b:4443']", None),
            ("url = []", Some("url")),
            ("url = 'http://h'", Some("url")),
            ("url = 'ws://h'", Some("url")),
            ("url = 'nats://ann:secret@h'", Some("url")),
            ("username = 'a'\ntoken = 'b'", Some("username")),
            ("password = 'x'", Some("password")),
            ("tls = { ca_file = '/nowhere' }", Some("tls.ca_file")),
            ("queue_group = 'a b'", Some("queue_group")),
            ("inbox_prefix = '_INBOX'", None),
            ("inbox_prefix = 'a.*'", Some("inbox_prefix")),
            ("buffer_messages = 0", Some("buffer_messages")),
            ("subscribe = ['a.>', { subject = 'b', queue_group = 'g' }]", None),
            ("subscribe = ['a', 'a..b']", Some("subscribe.1")),
            ("subscribe = ['$JS.API.>']", Some("subscribe.0")),
            ("consume = [{ stream = 'S', durable = 'd.e' }]", Some("consume.0.durable")),
            (
                "consume = [{ stream = 'S', durable = 'd', ack_wait = '10ms' }]",
                Some("consume.0.ack_wait"),
            ),
        ] {
            let found = config(&read(text));
            assert_eq!(found.first().map(|lint| &*lint.path), key, "{text}");
        }
    }

    #[test]
    fn targets_are_checked() {
        for (text, key) in [
            ("", None),
            ("subject = 'devices.{device}.telemetry'\njetstream = true\nstream = 'S'", None),
            ("subject = 'devices/{device}'", None),
            ("subject = 'a..{b}'", Some("subject")),
            ("subject = 'a.>'", Some("subject")),
            ("subject = '$JS.API.{x}'", Some("subject")),
            ("stream = 'S'", Some("stream")),
            ("ttl = true", Some("ttl")),
        ] {
            let found = target(&toml::from_str(text).unwrap());
            assert_eq!(found.first().map(|lint| &*lint.path), key, "{text}");
        }
        assert!(toml::from_str::<NatsTarget>("subjects = 'a'").is_err());
    }

    #[test]
    fn a_route_that_nothing_comes_in_for_is_noticed() {
        let settings = read("subscribe = ['a.>']");
        assert!(source(&settings, "a/{x}").is_empty());
        assert_eq!(source(&settings, "b/{x}").len(), 1);
        assert!(source(&read(""), "b/{x}").is_empty());
        assert_eq!(source(&read(""), "b c/{x}").len(), 1);
        let everything = read("consume = [{ stream = 'S', durable = 'd' }]");
        assert!(source(&everything, "b/{x}").is_empty());
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = read("url = 'nats://ann:topsecret@h'\ntoken = 'topsecret'");
        assert!(!format!("{settings:?} {:?}", config(&settings)).contains("topsecret"));
    }
}
