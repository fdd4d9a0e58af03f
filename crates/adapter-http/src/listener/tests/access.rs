//! Who may send and read, and how much.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use transload_adapter::{Interest, updates};

use super::*;
use crate::testing::outgoing;

const AUTH: &str = "auth = { bearer = [{ name = 'ci', token = 'good' }], \
                    basic = [{ username = 'ann', password = 'pass' }] }\n";
const GOOD: &str = "Authorization: Bearer good\r\n";

fn attribute(envelope: &Envelope, name: &str) -> Option<String> {
    match envelope.origin.attribute(name) {
        Some(transload_envelope::Value::Text(text)) => Some(text.to_string()),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

/// The signature of GitHub, under the secret `secret`.
fn signature(body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let hex = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("X-Hub-Signature-256: sha256={hex}\r\n")
}

#[tokio::test]
async fn who_shows_no_good_credential_can_neither_send_nor_read_on_any_path() {
    let mut rig = Rig::open(AUTH).await;
    let basic = |text: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(text));
    let bad = [
        String::new(),
        "Authorization: Bearer bad\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        format!("{GOOD}{GOOD}"),
        basic("ann:other"),
        basic("ann"),
        "X-Forwarded-User: ann\r\n".to_owned(),
        "Cookie: token=good\r\n".to_owned(),
    ];
    for headers in &bad {
        for line in [
            "POST /hooks/a",
            "PUT /hooks/a?token=good",
            "PATCH /hooks/a",
            "DELETE /hooks/a",
            "POST /other",
            "GET /streams/a",
            "HEAD /streams/a",
            "GET /hooks/a",
            "GET /other",
        ] {
            let response = rig.request(line, headers, "").await;
            assert_eq!(status(&response), 401, "{line} {headers}");
            assert!(response.contains("www-authenticate: Basic"), "{response}");
            assert!(!response.contains("route"), "nothing is told: {response}");
        }
        let response = rig.request("OPTIONS /hooks/a", headers, "").await;
        assert_eq!(status(&response), 405, "a question tells nothing either");
    }
    for (headers, user) in [(GOOD.to_owned(), "ci"), (basic("ann:pass"), "ann")] {
        let mut stream = rig.connect().await;
        let text = request("POST /hooks/a", &headers, "x");
        stream.write_all(text.as_bytes()).await.unwrap();
        // The first that comes: none of those above came.
        let delivery = rig.delivery().await;
        assert_eq!(attribute(&delivery.envelope, "user").as_deref(), Some(user));
        assert!(delivery.envelope.headers.get("authorization").is_none());
        delivery.receipt.settle(Settlement::Accepted);
        assert_eq!(status(&read_to_end(&mut stream).await), 202);
    }
    let mut reader = rig.connect().await;
    let text = format!("GET /streams/a HTTP/1.1\r\nHost: t\r\n{GOOD}\r\n");
    reader.write_all(text.as_bytes()).await.unwrap();
    assert!(read_head(&mut reader).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rig.publish("/streams/a", outgoing("1", "a", "x")).await.unwrap(), Sent::Confirmed);
    assert_eq!(status(&rig.request("POST /other", GOOD, "x").await), 404);
    rig.ends().await;
}

#[tokio::test]
async fn only_signed_messages_come_through_and_nobody_reads_by_a_signature() {
    let path =
        "[[path]]\nmatch = 'hooks/github'\nverify = { scheme = 'github', secret = 'secret' }";
    let mut rig = Rig::open(path).await;
    let body = "{\"ref\": 1}";
    let good = signature(body);
    for headers in ["", "X-Hub-Signature-256: sha256=00\r\n", &format!("{good}{good}")] {
        let response = rig.request("POST /hooks/github", headers, body).await;
        assert_eq!(status(&response), 401);
        let (head, rest) = response.split_once("\r\n\r\n").unwrap();
        assert!(
            rest.is_empty() && head.contains("content-length: 0"),
            "nothing is told: {response}"
        );
    }
    assert_eq!(status(&rig.request("POST /hooks/github", &good, "{\"ref\": 2}").await), 401);
    // What the path does not cover is closed, and so are the streams.
    for line in ["POST /hooks/other", "GET /streams/a", "GET /hooks/github", "POST /hooks/github/"]
    {
        assert_eq!(status(&rig.request(line, &good, "").await), 403, "{line}");
    }
    let headers = format!(
        "{good}X-GitHub-Delivery: d-1\r\nX-GitHub-Event: push\r\nwebhook-id: forged\r\n\
         Transload-Type: forged\r\nX-Gitlab-Token: hush\r\n"
    );
    let mut stream = rig.connect().await;
    let text = request("POST /hooks/github", &headers, body);
    stream.write_all(text.as_bytes()).await.unwrap();
    let delivery = rig.delivery().await;
    let envelope = &delivery.envelope;
    assert_eq!(envelope.id.as_str(), "d-1");
    assert_eq!(envelope.properties().kind.as_deref(), Some("push"));
    assert!(envelope.headers.get("x-github-event").is_some(), "rules may read it");
    assert!(envelope.headers.get("x-gitlab-token").is_none(), "a secret is no part of a message");
    delivery.receipt.settle(Settlement::Accepted);
    assert_eq!(status(&read_to_end(&mut stream).await), 202);
    rig.ends().await;
}

#[tokio::test]
async fn who_shows_no_good_signature_is_not_told_what_is_taken() {
    let rig = Rig::open(
        "[[path]]\nmatch = '#'\nmethods = ['POST']\ncontent_types = ['application/json']\n\
         decode_gzip = true\nverify = { scheme = 'github', secret = 'secret' }",
    )
    .await;
    let (good, bad) = (signature("{}"), signature("[]"));
    let json = "Content-Type: application/json\r\n";
    for (line, fields, status_of_the_known) in [
        ("POST /other", json, 404),
        ("PUT /hooks/a", json, 405),
        ("POST /hooks/a", "Content-Type: text/plain\r\n", 415),
        ("POST /hooks/a", &format!("{json}Content-Encoding: br\r\n"), 415),
    ] {
        let stranger = rig.request(line, &format!("{fields}{bad}"), "{}").await;
        assert_eq!(status(&stranger), 401, "{line}");
        assert!(stranger.ends_with("\r\n\r\n"), "{stranger}");
        let known = rig.request(line, &format!("{fields}{good}"), "{}").await;
        assert_eq!(status(&known), status_of_the_known, "{line} {fields}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn providers_that_ask_are_answered_without_a_message() {
    let rig = Rig::open(
        "[[path]]\nmatch = 'hooks/twitter'\nverify = { scheme = 'twitter', secret = 'key' }\n\
         [[path]]\nmatch = 'hooks/events'\nwebhook_origins = ['sender.example']\n\
         verify = { scheme = 'github', secret = 'key' }",
    )
    .await;
    let response = rig.request("GET /hooks/twitter?crc_token=dG9rZW4", "", "").await;
    assert_eq!(status(&response), 200);
    assert!(response.contains("\"response_token\":\"sha256="), "{response}");
    assert_eq!(status(&rig.request("GET /hooks/twitter", "", "").await), 403);
    let ask = |origin: &str| format!("WebHook-Request-Origin: {origin}\r\n");
    let response = rig.request("OPTIONS /hooks/events", &ask("sender.example"), "").await;
    assert_eq!(status(&response), 200);
    for line in ["webhook-allowed-origin: sender.example\r\n", "webhook-allowed-rate: *\r\n"] {
        assert!(response.contains(line), "{response}");
    }
    let response = rig.request("OPTIONS /hooks/events", &ask("other.example"), "").await;
    assert_eq!(status(&response), 405);
    assert!(!response.contains("webhook-allowed"), "{response}");
    rig.ends().await;
}

#[tokio::test]
async fn methods_content_types_and_sizes_are_those_of_the_path() {
    let mut rig = Rig::open(
        "max_body_bytes = 100\n\
         [[path]]\nmatch = 'hooks/json'\nmethods = ['PATCH']\nmax_body_bytes = 4\n\
         content_types = ['application/json']",
    )
    .await;
    rig.settle_all(|_| Settlement::Accepted);
    let json = "Content-Type: application/json\r\n";
    let response = rig.request("POST /hooks/json", json, "{}").await;
    assert_eq!(status(&response), 405);
    assert!(response.contains("allow: PATCH\r\n"), "{response}");
    assert_eq!(status(&rig.request("PATCH /hooks/json", "", "{}").await), 415);
    assert_eq!(status(&rig.request("PATCH /hooks/json", json, "12345").await), 413);
    assert_eq!(status(&rig.request("PATCH /hooks/json", json, "1234").await), 202);
    assert_eq!(status(&rig.request("POST /hooks/other", "", "12345").await), 202);
    for response in [
        rig.request("POST /nowhere", "", "").await,
        rig.request("PATCH /hooks/json", "", "").await,
        rig.request("POST /%zz", "", "").await,
    ] {
        assert!(response.contains("content-type: application/problem+json"), "{response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn more_than_the_rate_is_told_when_to_come_again() {
    let mut rig = Rig::open(
        "trusted_proxies = ['127.0.0.0/8']\nrate_limit = { per_client = '3/h' }\n\
         [[path]]\nmatch = 'hooks/b'\nrate_limit = { total = '1/h' }",
    )
    .await;
    rig.settle_all(|envelope| {
        assert_eq!(attribute(envelope, "client").as_deref(), Some("203.0.113.7"));
        Settlement::Accepted
    });
    let from = |client: &str| format!("X-Forwarded-For: 198.51.100.1, {client}\r\n");
    for _ in 0..3 {
        let response = rig.request("POST /hooks/a", &from("203.0.113.7"), "x").await;
        assert_eq!(status(&response), 202);
    }
    for line in ["POST /hooks/a", "GET /streams/a", "POST /nowhere"] {
        let response = rig.request(line, &from("203.0.113.7"), "").await;
        assert_eq!(status(&response), 429, "{line}");
        let after = response.split("retry-after: ").nth(1).unwrap();
        let after: u64 = after.split("\r\n").next().unwrap().parse().unwrap();
        assert!((1_190..=1_200).contains(&after), "{after}");
    }
    assert_eq!(status(&rig.request("GET /nowhere", &from("203.0.113.8"), "").await), 404);
    assert_eq!(status(&rig.request("GET /hooks/b", &from("203.0.113.8"), "").await), 405);
    assert_eq!(status(&rig.request("GET /hooks/b", &from("203.0.113.9"), "").await), 429);
    rig.ends().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_only_where_they_are_named() {
    let mut rig = Rig::open("cors = { origins = ['https://app.example'] }").await;
    rig.settle_all(|_| Settlement::Accepted);
    let (app, evil) = ("Origin: https://app.example\r\n", "Origin: https://evil.example\r\n");
    let ask = "Access-Control-Request-Method: POST\r\n";
    let response = rig.request("OPTIONS /hooks/a", &format!("{app}{ask}"), "").await;
    assert_eq!(status(&response), 204);
    for line in [
        "access-control-allow-origin: https://app.example\r\n",
        "access-control-allow-methods: GET, HEAD, POST, PUT\r\n",
        "access-control-max-age: 600\r\n",
        "vary: origin\r\n",
    ] {
        assert!(response.contains(line), "{response}");
    }
    let response = rig.request("OPTIONS /hooks/a", &format!("{evil}{ask}"), "").await;
    assert!(!response.contains("allow-origin"), "{response}");
    let response = rig.request("POST /hooks/a", app, "x").await;
    assert_eq!(status(&response), 202);
    assert!(response.contains("access-control-allow-origin: https://app.example"), "{response}");
    for line in ["POST /hooks/a", "GET /streams/a"] {
        let response = rig.request(line, evil, "").await;
        assert_eq!(status(&response), 403, "{line}");
        assert!(!response.contains("allow-origin"), "{response}");
    }
    rig.ends().await;
}

#[tokio::test]
async fn packed_bodies_are_unpacked_where_that_is_asked_for() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut rig =
        Rig::open("max_body_bytes = '64KiB'\n[[path]]\nmatch = 'hooks/open'\ndecode_gzip = true")
            .await;
    let text = |path: &str, encoding: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
             Content-Encoding: {encoding}\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let packed = gzip(b"hello");
    for (path, payload, encoding) in
        [("/hooks/open", &b"hello"[..], None), ("/hooks/as-is", &packed, Some("gzip"))]
    {
        let mut stream = rig.connect().await;
        stream.write_all(&text(path, "gzip", &packed)).await.unwrap();
        let delivery = rig.delivery().await;
        assert_eq!(&delivery.envelope.payload[..], payload, "{path}");
        assert_eq!(delivery.envelope.properties().content_encoding.as_deref(), encoding);
        delivery.receipt.settle(Settlement::Accepted);
        assert_eq!(status(&read_to_end(&mut stream).await), 202);
    }
    let bomb = gzip(&vec![0; 2 << 20]);
    assert!(bomb.len() < 48 * 1024);
    assert_eq!(status(&rig.exchange(text("/hooks/open", "gzip", &bomb)).await), 413);
    assert_eq!(status(&rig.exchange(text("/hooks/open", "gzip", b"hello")).await), 400);
    let response = rig.exchange(text("/hooks/open", "br", b"hello")).await;
    assert_eq!(status(&response), 415);
    assert!(response.contains("accept-encoding: gzip\r\n"), "{response}");
    rig.ends().await;
}

#[tokio::test]
async fn changed_secrets_hold_without_ending_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let text = format!(
        "listen = '127.0.0.1:0'\nauth = {{ bearer = [{{ name = 'ci', token_file = '{}' }}] }}",
        file.display()
    );
    let (sender, receiver) = updates(Interest::default());
    let mut context = context(&["hooks/#"], 64);
    context.updates = receiver;
    let (endpoints, address) =
        open(Arc::new(toml::from_str(&text).unwrap()), context.clone()).await.unwrap();
    let (inbound, outbound) = (endpoints.inbound, endpoints.outbound.unwrap());
    let mut rig = Rig { address, inbound, outbound, context };
    rig.settle_all(|_| Settlement::Accepted);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let mut reader = rig.connect().await;
    let text = format!("GET /streams/a HTTP/1.1\r\nHost: t\r\n{}\r\n", bearer("first"));
    reader.write_all(text.as_bytes()).await.unwrap();
    read_head(&mut reader).await;

    // A file that cannot be used changes nothing.
    std::fs::write(&file, "").unwrap();
    sender.send(Arc::new(Interest { patterns: vec!["hooks/#".into(), "more/#".into()] }));
    soon(async {
        while status(&rig.request("POST /more/a", &bearer("first"), "x").await) != 202 {}
    })
    .await;
    std::fs::write(&file, "second\n").unwrap();
    sender.send(Arc::new(Interest { patterns: vec!["hooks/#".into()] }));
    soon(async {
        while status(&rig.request("POST /hooks/a", &bearer("second"), "x").await) != 202 {}
    })
    .await;
    assert_eq!(status(&rig.request("POST /hooks/a", &bearer("first"), "x").await), 401);
    let message = outgoing("1", "a", "still here");
    assert_eq!(rig.publish("/streams/a", message).await.unwrap(), Sent::Confirmed);
    read_until(&mut reader, "still here").await;
    rig.ends().await;
}
