//! What the types of the settings cannot say.

use amq_protocol::uri::AMQPScheme;
use transload_adapter::Lint;
use transload_tls::ClientTls;

use crate::{
    address::{can_match, matches},
    config::{AddressSource, AmqpConfig, AmqpTarget, Auth, Bind, Consume, Declare},
};

/// The exchange that every broker has with this name, and whose type is known thereby.
const TOPIC_EXCHANGE: &str = "amq.topic";

pub(crate) fn lint(config: &AmqpConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    lint_urls(config, &mut lints);
    lint_limits(config, &mut lints);
    for (number, consume) in config.consume.iter().enumerate() {
        lint_consume(&format!("consume.{number}"), consume, &mut lints);
    }
    lints
}

fn lint_urls(config: &AmqpConfig, lints: &mut Vec<Lint>) {
    if config.url.is_empty() {
        lints.push(Lint::error("url", "there is no URL to connect to"));
    }
    for (path, url) in config.url.with_paths("url") {
        match url.parse() {
            Err(fault) => lints.push(
                Lint::error(&path, format!("this is not an AMQP URL: {fault}"))
                    .with_help("write it as amqp://user:password@host:5672/%2f"),
            ),
            Ok(uri) if uri.vhost.is_empty() => lints.push(
                Lint::warning(&path, "the virtual host is empty, since the URL ends in a slash")
                    .with_help("leave the slash out, or write /%2f for the virtual host `/`"),
            ),
            Ok(_) => {}
        }
        for key in url.unknown_query_keys() {
            let message = format!("nobody reads {key} in the URL");
            lints.push(Lint::warning(&path, message));
        }
    }
    if config.password.is_some() && config.password_file.is_some() {
        lints.push(Lint::error("password_file", "the password is given in `password` too"));
    }
    lints.extend(config.tls.lint("tls"));
    if config.auth == Auth::External && !config.tls.shows_certificate() {
        lints.push(
            Lint::error("auth", "to log in by a certificate, there must be one")
                .with_help("give `tls.certificate_file` and `tls.key_file`"),
        );
    }
    let has_files = config.tls != ClientTls::default() || config.server_name.is_some();
    for (number, url) in config.url.iter().enumerate() {
        let plain = url.parse().is_ok_and(|uri| uri.scheme == AMQPScheme::AMQP);
        if has_files && plain {
            let path = if config.url.len() == 1 { "url".into() } else { format!("url.{number}") };
            lints.push(
                Lint::error(path, "`tls` and `server_name` are of no use without TLS")
                    .with_help("write it as amqps://"),
            );
        }
    }
}

fn lint_limits(config: &AmqpConfig, lints: &mut Vec<Lint>) {
    if config.prefetch == 0 {
        lints.push(no_prefetch("prefetch"));
    }
    let heartbeat = config.heartbeat.get();
    if heartbeat.is_zero() {
        lints.push(
            Lint::warning("heartbeat", "without a heartbeat a broker that vanished goes unnoticed")
                .with_help("\"30s\" is a good value"),
        );
    } else if heartbeat.subsec_nanos() != 0 || heartbeat.as_secs() > u16::MAX.into() {
        lints.push(Lint::error("heartbeat", "AMQP counts it in whole seconds, 65535 at most"));
    }
    let timeouts = [
        ("connect_timeout", config.connect_timeout.is_zero()),
        ("confirm_timeout", config.confirm_timeout.is_zero()),
        ("max_message_bytes", config.max_message_bytes.get() == 0),
    ];
    for (path, zero) in timeouts {
        if zero {
            lints.push(Lint::error(path, "nothing would ever get through"));
        }
    }
}

fn no_prefetch(path: impl Into<String>) -> Lint {
    Lint::error(path, "0 stands for no limit, and all of the queue would be held in memory")
        .with_help("a few hundred is a good value")
}

fn lint_consume(path: &str, consume: &Consume, lints: &mut Vec<Lint>) {
    let queue = format!("{path}.queue");
    if consume.queue.is_empty() {
        lints.push(
            Lint::error(&queue, "the queue has no name")
                .with_help("name it, so that what waits in it is found again after a restart"),
        );
    }
    too_long(&queue, &consume.queue, lints);
    if consume.prefetch == Some(0) {
        lints.push(no_prefetch(format!("{path}.prefetch")));
    }
    if let Some(tag) = &consume.consumer_tag {
        too_long(&format!("{path}.consumer_tag"), tag, lints);
    }
    if consume.address == AddressSource::Fixed(String::new()) {
        lints.push(Lint::error(format!("{path}.address"), "the address is empty"));
    }
    if let Declare::Yes(settings) = &consume.declare {
        if consume.queue.starts_with("amq.") {
            lints
                .push(Lint::error(&queue, "the broker keeps names that begin with amq. to itself"));
        }
        let gone = "what waits in the queue is lost with the connection";
        if settings.exclusive {
            lints.push(Lint::warning(format!("{path}.declare.exclusive"), gone));
        } else if settings.auto_delete {
            lints.push(Lint::warning(format!("{path}.declare.auto_delete"), gone));
        }
    }
    for (path, bind) in consume.bind.with_paths(&format!("{path}.bind")) {
        lint_bind(&path, bind, lints);
    }
}

fn lint_bind(path: &str, bind: &Bind, lints: &mut Vec<Lint>) {
    let exchange = format!("{path}.exchange");
    if bind.exchange.is_empty() {
        lints.push(
            Lint::error(&exchange, "queues cannot be bound to the default exchange")
                .with_help("name an exchange, such as amq.topic"),
        );
    }
    too_long(&exchange, &bind.exchange, lints);
    too_long(&format!("{path}.key"), &bind.key, lints);
    if bind.exchange == TOPIC_EXCHANGE && bind.key.split('.').any(|word| word == "+") {
        lints.push(
            Lint::warning(format!("{path}.key"), "a topic exchange takes + as an ordinary word")
                .with_help("the wildcard for one word is *"),
        );
    }
}

fn too_long(path: &str, text: &str, lints: &mut Vec<Lint>) {
    if text.len() > 255 {
        lints.push(Lint::error(
            path,
            format!("this has {} bytes, and AMQP takes 255 at most", text.len()),
        ));
    }
}

pub(crate) fn lint_target(target: &AmqpTarget) -> Vec<Lint> {
    let mut lints = Vec::new();
    if target.queue.is_some() {
        let others = [("exchange", &target.exchange), ("routing_key", &target.routing_key)];
        for (path, other) in others {
            if other.is_some() {
                lints.push(
                    Lint::error(path, format!("`queue` is given, and leaves no room for `{path}`"))
                        .with_help("leave out one of the two"),
                );
            }
        }
    }
    if target.queue.as_deref() == Some("") {
        lints.push(Lint::error("queue", "the queue has no name"));
    }
    let texts = [
        ("exchange", &target.exchange),
        ("routing_key", &target.routing_key),
        ("queue", &target.queue),
    ];
    for (path, text) in texts {
        match text {
            // What a template comes to is checked for each message.
            Some(text) if !text.contains('{') => too_long(path, text, &mut lints),
            Some(_) | None => {}
        }
    }
    if target.queue.is_none() && target.exchange.is_none() && target.routing_key.is_none() {
        lints.push(
            Lint::warning("", "each message goes to the queue that is named like its address")
                .with_help("name an `exchange` or a `queue`"),
        );
    }
    lints
}

pub(crate) fn lint_source(config: &AmqpConfig, pattern: &str) -> Vec<Lint> {
    if config.consume.is_empty() {
        return vec![
            Lint::error("", "nothing comes in, since the adapter consumes no queue")
                .with_help("add [[adapters.NAME.consume]] with the name of a queue"),
        ];
    }
    if config.consume.iter().any(|consume| may_bring(config, consume, pattern)) {
        return Vec::new();
    }
    vec![
        Lint::warning(
            "",
            format!("no queue that the adapter consumes brings messages to {pattern}"),
        )
        .with_help("add a binding to `bind` of one of its queues, or change the pattern"),
    ]
}

/// False only where it is certain, as far as the file says what the queue is bound to.
fn may_bring(config: &AmqpConfig, consume: &Consume, pattern: &str) -> bool {
    let mapping = config.address_mapping;
    match &consume.address {
        AddressSource::Fixed(address) => matches(pattern, address),
        AddressSource::Queue => matches(pattern, &mapping.to_address(&consume.queue)),
        AddressSource::RoutingKey => {
            consume.bind.is_empty()
                || consume.bind.iter().any(|bind| {
                    bind.exchange != TOPIC_EXCHANGE || can_match(pattern, &bind.key, mapping)
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use transload_adapter::Severity::{self, Error, Warning};

    use super::*;

    fn found(lints: &[Lint]) -> Vec<(Severity, &str)> {
        lints.iter().map(|lint| (lint.severity, lint.path.as_str())).collect()
    }

    #[test]
    fn the_default_file_is_without_findings() {
        let config: AmqpConfig = toml::from_str(
            r#"
            url = "amqp://guest:guest@127.0.0.1:5672/%2f"
            [[consume]]
            queue = "transload.commands"
            declare = true
            bind = [{ exchange = "amq.topic", key = "commands.*" }]
            "#,
        )
        .unwrap();
        assert_eq!(lint(&config), []);
        assert_eq!(lint_source(&config, "commands/{id}"), []);
        assert_eq!(found(&lint_source(&config, "events/{id}")), [(Warning, "")]);
    }

    #[test]
    fn everything_is_found_at_once_and_at_its_place() {
        let config: AmqpConfig = toml::from_str(&format!(
            r#"
            url = ["amqp://a/", "http://b", "amqp://c?cacertfile=x"]
            password = "p"
            password_file = "f"
            prefetch = 0
            heartbeat = "1s500ms"
            connect_timeout = "0s"
            confirm_timeout = "0s"
            max_message_bytes = "0B"
            [[consume]]
            queue = ""
            prefetch = 0
            bind = {{ exchange = "", key = "{long}" }}
            consumer_tag = "{long}"
            address = ""
            [[consume]]
            queue = "amq.mine"
            declare = {{ exclusive = true }}
            bind = [{{ exchange = "amq.topic", key = "a.+" }}]
            [[consume]]
            queue = "q"
            declare = {{ auto_delete = true }}
            "#,
            long = "x".repeat(256)
        ))
        .unwrap();
        assert_eq!(
            found(&lint(&config)),
            [
                (Warning, "url.0"),
                (Error, "url.1"),
                (Warning, "url.2"),
                (Error, "password_file"),
                (Error, "prefetch"),
                (Error, "heartbeat"),
                (Error, "connect_timeout"),
                (Error, "confirm_timeout"),
                (Error, "max_message_bytes"),
                (Error, "consume.0.queue"),
                (Error, "consume.0.prefetch"),
                (Error, "consume.0.consumer_tag"),
                (Error, "consume.0.address"),
                (Error, "consume.0.bind.exchange"),
                (Error, "consume.0.bind.key"),
                (Error, "consume.1.queue"),
                (Warning, "consume.1.declare.exclusive"),
                (Warning, "consume.1.bind.0.key"),
                (Warning, "consume.2.declare.auto_delete"),
            ]
        );
    }

    #[test]
    fn targets_that_contradict_themselves_are_found() {
        for (target, expected) in [
            ("queue = 'q'", vec![]),
            ("exchange = 'amq.topic'", vec![]),
            ("exchange = ''\nrouting_key = 'a.{b}'", vec![]),
            (
                "queue = 'q'\nexchange = 'x'\nrouting_key = 'k'",
                vec![(Error, "exchange"), (Error, "routing_key")],
            ),
            ("queue = ''", vec![(Error, "queue")]),
            ("persistent = true", vec![(Warning, "")]),
        ] {
            let target: AmqpTarget = toml::from_str(target).unwrap();
            assert_eq!(found(&lint_target(&target)), expected, "{target:?}");
        }
        let routing_key = Some("x".repeat(256));
        let target = AmqpTarget { routing_key, ..AmqpTarget::default() };
        assert_eq!(found(&lint_target(&target)), [(Error, "routing_key")]);
    }

    #[test]
    fn sources_that_bring_nothing_are_found() {
        let config = |consume: &str| -> AmqpConfig {
            toml::from_str(&format!("url = 'amqp://a'\n{consume}")).unwrap()
        };
        for (consume, pattern, expected) in [
            ("", "#", vec![(Error, "")]),
            ("[[consume]]\nqueue = 'q'", "a/b", vec![]),
            ("[[consume]]\nqueue = 'q'\naddress = 'a/b'", "a/+", vec![]),
            ("[[consume]]\nqueue = 'q'\naddress = 'a/b'", "b/+", vec![(Warning, "")]),
            ("[[consume]]\nqueue = 'q.r'\naddress = 'queue'", "q/{x}", vec![]),
            ("[[consume]]\nqueue = 'q.r'\naddress = 'queue'", "x/{x}", vec![(Warning, "")]),
            ("[[consume]]\nqueue = 'q'\nbind = { exchange = 'other', key = 'x' }", "a", vec![]),
        ] {
            assert_eq!(found(&lint_source(&config(consume), pattern)), expected, "{consume}");
        }
    }
}
