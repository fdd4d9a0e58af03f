//! What a peer may send, for fuzzing: nothing here may panic, whatever the bytes are.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use transload_envelope::{Envelope, Origin};

use super::{
    access::Proxies,
    config::ProxyHeader,
    inflate::gunzip,
    verify::{Signed, Verified, Verifier, VerifySettings},
};
use crate::mapping;

/// What may come of a packed body, in bytes.
const UNPACKED_BYTES_MAX: usize = 1 << 16;

/// One checker for each scheme; the secret of Standard Webhooks is `key`.
static VERIFIERS: LazyLock<Vec<Verifier>> = LazyLock::new(|| {
    let schemes = ["github", "gitlab", "shopify", "slack", "standard-webhooks", "stripe"];
    let further = ["twitter", "zendesk", "hmac"];
    let settings = |scheme: &str| {
        let more = if scheme == "hmac" {
            r#", "header": "x-signature", "timestamp_header": "x-time", "content": "{header.x-time}.{body}""#
        } else {
            ""
        };
        format!(r#"{{"scheme": "{scheme}", "secret": "whsec_a2V5"{more}}}"#)
    };
    let verifier = |scheme: &str| {
        let settings: VerifySettings = serde_json::from_str(&settings(scheme)).ok()?;
        Verifier::new(&settings).ok()
    };
    schemes.into_iter().chain(further).filter_map(verifier).collect()
});

/// Handles a request as the listener does between hyper and the gateway: a line with path and query,
/// lines of header fields, an empty line, and the body.
///
/// # Panics
///
/// If a path that is taken does not lead back to itself, a scheme is missing, or a body comes to more
/// than it may.
pub fn request(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let body = body.get(2..).unwrap_or_default();
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (path, query) = line.split_once('?').unwrap_or((&line, ""));
    let fields = fields(lines);
    if let Ok(address) = mapping::read_path(path)
        && let Ok(encoded) = mapping::encode_path(&address)
    {
        let again = mapping::read_path(&encoded);
        assert_eq!(again.ok(), Some(address), "a path has changed");
    }
    carried(&fields, body);
    signed(&fields, query, body);
    let trusted = ["10.0.0.0/8".to_owned(), "::/0".to_owned()];
    for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
        let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let _ = Proxies::new(&trusted, header).client(peer, &fields);
    }
    unpacked(body);
}

fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// As a message, and on to another server.
fn carried(fields: &HeaderMap, body: &[u8]) {
    let mut envelope = Envelope::new(Origin::new("web", "http", "a"), body.to_vec());
    mapping::read_headers(fields, &mut envelope);
    let mut onward = HeaderMap::new();
    mapping::write_request_headers(&envelope, &mut onward);
    mapping::write_response_headers(&envelope, &mut HeaderMap::new());
    let _ = mapping::render(&envelope);
    let _ = mapping::read_retry_after(fields, SystemTime::now());
}

fn signed(fields: &HeaderMap, query: &str, body: &[u8]) {
    assert_eq!(VERIFIERS.len(), 9, "each scheme has its checker");
    for verifier in VERIFIERS.iter() {
        if let Ok(Verified::Message(delivery)) = verifier.verify(&Signed::new(fields, body)) {
            let _ = delivery.id.as_deref().and_then(mapping::usable_id);
        }
        let _ = verifier.query_challenge(query);
    }
}

fn unpacked(body: &[u8]) {
    let room = Arc::new(Semaphore::new(UNPACKED_BYTES_MAX));
    let mut unpacking = pin!(gunzip(body, UNPACKED_BYTES_MAX, &room));
    // It waits for nothing but its next turn.
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = unpacking.as_mut().poll(&mut context) {
            let kept = result.map_or(0, |(bytes, _held)| bytes.len());
            assert!(kept <= UNPACKED_BYTES_MAX, "{kept} bytes");
            return;
        }
    }
}
