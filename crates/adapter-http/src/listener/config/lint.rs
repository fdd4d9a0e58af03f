//! What can be wrong with the settings.

use std::{ops::RangeInclusive, time::Duration};

use http::HeaderName;
use tokio::sync::Semaphore;
use transload_adapter::{Lint, units::HumanDuration};
use transload_routing::Pattern;

use super::{ListenerConfig, ListenerTarget, PathSettings};
use crate::{
    listener::access::{FaultAt, Policies, network},
    mapping::check_address,
};

/// How large the head of a request may be, in bytes.
const HEAD_BYTES: RangeInclusive<u64> = 4 * 1024..=1024 * 1024;

pub(crate) fn lint(config: &ListenerConfig) -> Vec<Lint> {
    let mut lints = Vec::new();
    lint_access(config, &mut lints);
    let streams = &config.streams;
    for (path, number) in [
        ("max_connections", config.max_connections),
        ("max_connections_per_address", config.max_connections_per_address),
        ("streams.max_subscribers", streams.max_subscribers),
        ("streams.history_messages", streams.history_messages),
    ] {
        if number == 0 || number > Semaphore::MAX_PERMITS {
            let message = format!("the number must be from 1 to {}", Semaphore::MAX_PERMITS);
            lints.push(Lint::error(path, message));
        }
    }
    for (path, size) in [
        ("max_body_bytes", config.max_body_bytes),
        ("max_buffered_bytes", config.max_buffered_bytes),
        ("streams.history_bytes", streams.history_bytes),
    ] {
        if size.get() == 0 {
            lints.push(Lint::error(path, "the size must be at least one byte"));
        }
    }
    for (path, time) in [
        ("header_timeout", config.header_timeout),
        ("body_timeout", config.body_timeout),
        ("write_timeout", config.write_timeout),
        ("response_timeout", config.response_timeout),
        ("streams.keep_alive", streams.keep_alive),
    ] {
        if time.get() < Duration::from_millis(10) {
            lints.push(Lint::error(path, "the time must be at least 10ms"));
        }
    }
    if config.max_body_bytes > config.max_buffered_bytes {
        let message = "a body of `max_body_bytes` would not fit into `max_buffered_bytes`";
        lints.push(Lint::error("max_buffered_bytes", message));
    }
    let prefix = streams.prefix.trim_matches('/');
    if !prefix.is_empty() && check_address(prefix).is_err() {
        let message = "the prefix must be a path without wildcards, such as `/streams/`";
        lints.push(Lint::error("streams.prefix", message));
    }
    if !HEAD_BYTES.contains(&config.max_head_bytes.get()) {
        lints.push(Lint::error("max_head_bytes", "the size must be from 4KiB to 1MiB"));
    }
    lint_content_types("content_types", &config.content_types, &mut lints);
    lints
}

/// The sender must still be there when the reply comes, or when it is told that none has come.
pub(crate) fn lint_reply(config: &ListenerConfig, timeout: Duration) -> Vec<Lint> {
    let waits = config.response_timeout;
    if waits.get() > timeout {
        return Vec::new();
    }
    let timeout = HumanDuration::from(timeout);
    let message = format!(
        "a request waits for {waits} only (`response_timeout`), and for a reply up to {timeout} may \
         pass"
    );
    let help = "make `timeout` of the reply shorter, or `response_timeout` of the listener longer";
    vec![Lint::warning("", message).with_help(help)]
}

fn lint_content_types(path: &str, content_types: &[String], lints: &mut Vec<Lint>) {
    for (place, content_type) in content_types.iter().enumerate() {
        if content_type.split_once('/').is_none_or(|(kind, sub)| kind.is_empty() || sub.is_empty())
        {
            let message = "a content type has the form `application/json` or `text/*`";
            lints.push(Lint::error(format!("{path}.{place}"), message));
        }
    }
}

/// Who may use the listener.
fn lint_access(config: &ListenerConfig, lints: &mut Vec<Lint>) {
    let before = lints.len();
    if let Some(tls) = &config.tls {
        lints.extend(tls.lint("tls"));
    }
    lint_paths(config, lints);
    if lints.len() == before
        && let Err(FaultAt { path, fault }) = Policies::new(config, None)
    {
        lints.push(fault.lint(&path));
    }
    let asks = |path: &PathSettings| path.auth.is_some() || path.verify.is_some();
    let local = config.listen.ip().is_loopback();
    let asked = config.auth.is_some() || config.path.iter().any(asks);
    if !local && !asked && !config.is_open() {
        let message = "the listener has no authentication and would be reachable from outside";
        lints.push(Lint::error("listen", message).with_help(
            "add `auth`, or `verify` to its paths, or listen on 127.0.0.1, or say \
             `insecure_without_authentication = true` if that is meant",
        ));
    }
    let auths: Vec<_> = config
        .auth
        .iter()
        .chain(config.path.iter().filter_map(|path| path.auth.as_ref()))
        .collect();
    let secrets = auths.iter().any(|auth| !auth.basic.is_empty() || !auth.bearer.is_empty());
    if secrets && !local && config.tls.is_none() && config.trusted_proxies.is_empty() {
        let message = "passwords and tokens come without encryption";
        lints.push(
            Lint::warning("listen", message).with_help(
                "add `tls`, or name the proxy in front that has it in `trusted_proxies`",
            ),
        );
    }
    let certificates = auths.iter().any(|auth| !auth.client_certificates.is_empty());
    if certificates && config.tls.as_ref().is_none_or(|tls| tls.client_ca_file.is_none()) {
        let message = "no certificate of a client is asked for, so none is ever good";
        let path = if config.auth.is_some() { "auth" } else { "path" };
        lints.push(Lint::error(path, message).with_help("add `client_ca_file` to `tls`"));
    }
    for (place, proxy) in config.trusted_proxies.iter().enumerate() {
        if network(proxy).is_none() {
            let message = "this is neither an address nor a network such as `10.0.0.0/8`";
            lints.push(Lint::error(format!("trusted_proxies.{place}"), message));
        }
    }
    lint_cors(config, lints);
}

fn lint_cors(config: &ListenerConfig, lints: &mut Vec<Lint>) {
    let Some(cors) = &config.cors else { return };
    for (place, origin) in cors.origins.iter().enumerate() {
        let host = origin.split_once("://").map(|(_, host)| host);
        if origin != "*" && host.is_none_or(|host| host.is_empty() || host.contains('/')) {
            let message = "an origin has the form `https://app.example.com`, without a path";
            lints.push(Lint::error(format!("cors.origins.{place}"), message));
        }
    }
    for (place, header) in cors.headers.iter().enumerate() {
        if HeaderName::try_from(header).is_err() {
            let message = "this is not the name of a header field";
            lints.push(Lint::error(format!("cors.headers.{place}"), message));
        }
    }
}

fn lint_paths(config: &ListenerConfig, lints: &mut Vec<Lint>) {
    let mut earlier: Vec<Pattern> = Vec::new();
    for (place, path) in config.path.iter().enumerate() {
        let at = |key: &str| format!("path.{place}.{key}");
        if let Some(verify) = &path.verify {
            verify.lint(&at("verify"), lints);
        }
        if path.insecure_without_authentication && (path.verify.is_some() || path.auth.is_some()) {
            let message = "the path asks for credentials and says that it does not";
            lints.push(Lint::error(at("insecure_without_authentication"), message));
        }
        if let Some(size) = path.max_body_bytes
            && (size.get() == 0 || size > config.max_buffered_bytes)
        {
            let message = "the size must be at least one byte and fit into `max_buffered_bytes`";
            lints.push(Lint::error(at("max_body_bytes"), message));
        }
        if let Some(content_types) = &path.content_types {
            lint_content_types(&at("content_types"), content_types, lints);
        }
        if path.pattern.0.is_empty() {
            lints.push(Lint::error(at("match"), "there is no pattern"));
        }
        for pattern in &path.pattern.0 {
            match Pattern::parse(pattern) {
                Err(error) => lints.push(Lint::error(at("match"), error.to_string())),
                Ok(_) if pattern.starts_with('/') => {
                    let help = format!("write `{}`", pattern.trim_start_matches('/'));
                    let message =
                        "a pattern that begins with `/` matches only paths that begin with `//`";
                    lints.push(Lint::warning(at("match"), message).with_help(help));
                }
                Ok(pattern) if earlier.iter().any(|earlier| earlier.covers(&pattern)) => {
                    let message = "an earlier path takes all of these, so this one never counts";
                    let help = "write the narrower pattern first";
                    lints.push(Lint::warning(at("match"), message).with_help(help));
                }
                Ok(pattern) => earlier.push(pattern),
            }
        }
    }
}

pub(crate) fn lint_target(config: &ListenerConfig, target: &ListenerTarget) -> Vec<Lint> {
    let Some(stream) = &target.stream else { return Vec::new() };
    // Up to the first capture the path is known now, and the prefix must be known.
    let known = stream.split('{').next().unwrap_or(stream).trim_start_matches('/');
    let whole = known.len() == stream.trim_start_matches('/').len();
    let below = |address: &str| config.streams.contain(address);
    let prefix = config.streams.prefix.trim_matches('/');
    if !(below(known) || !whole && below(&format!("{known}x"))) {
        let help = format!("write a path below `/{prefix}/`, or change `streams.prefix`");
        let message = "no stream is there: the path is not below the prefix of the streams";
        return vec![Lint::error("stream", message).with_help(help)];
    }
    match check_address(if whole { known } else { prefix }) {
        Err(error) if whole => vec![Lint::error("stream", format!("nobody can read it: {error}"))],
        Ok(()) | Err(_) => Vec::new(),
    }
}

pub(crate) fn lint_source(config: &ListenerConfig, pattern: &str) -> Vec<Lint> {
    if let Some(relative) = pattern.strip_prefix('/') {
        let message = "a pattern that begins with `/` matches only paths that begin with `//`";
        return vec![Lint::warning("", message).with_help(format!("write `{relative}`"))];
    }
    let Ok(wanted) = Pattern::parse(pattern) else { return Vec::new() };
    let overlaps = |path: &PathSettings| {
        let patterns = path.pattern.0.iter().filter_map(|pattern| Pattern::parse(pattern).ok());
        patterns.into_iter().any(|pattern| pattern.overlaps(&wanted))
    };
    if config.auth.is_none() && !config.is_open() && !config.path.iter().any(overlaps) {
        let message = "nobody may send to these paths: no `path` of the listener has them, and the \
                       listener has no `auth`";
        let help = "add a `path` with `verify` or `auth`, or `auth` to the listener";
        return vec![Lint::error("", message).with_help(help)];
    }
    Vec::new()
}
