//! A listener that faces the Internet, seen by curl: TLS, HTTP/2, signatures, certificates, and what
//! one gateway signs for another.

use std::path::Path;

use transload_integration_tests::{
    Transload,
    curl::{self, Answer},
    free_port,
};
use transload_tls::testing::Authority;

/// From GitHub's documents.
const BODY: &[u8] = b"Hello, World!";
const SECRET: &str = "It's a Secret to Everybody";
const SIGNATURE: &str = "X-Hub-Signature-256: \
                         sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn configuration(folder: &Path, outer: u16, inner: u16) -> String {
    let folder = folder.display();
    format!(
        r#"
[adapters.web]
kind = "http"
listen = "127.0.0.1:{outer}"
deduplicate = {{ window = "1h" }}
[adapters.web.tls]
certificate_file = "{folder}/web.pem"
key_file = "{folder}/web.key"
client_ca_file = "{folder}/ca.pem"
client_certificate = "optional"
[adapters.web.auth]
bearer = [{{ name = "ci", token = "good" }}]
client_certificates = ["press-1"]
[[adapters.web.path]]
match = "hooks/github"
verify = {{ scheme = "github", secret = "{SECRET}" }}

[adapters.out]
kind = "http"
url = "http://127.0.0.1:{inner}"
sign = {{ secrets = ["whsec_b2xkIHNlY3JldA==", "whsec_bmV3IHNlY3JldA=="] }}

[adapters.inner]
kind = "http"
listen = "127.0.0.1:{inner}"
[[adapters.inner.path]]
match = "signed/#"
verify = {{ scheme = "standard-webhooks", secret = "whsec_bmV3IHNlY3JldA==" }}

[[route]]
name = "out"
from = "web"
match = ["hooks/#", "other/#"]
to = {{ adapter = "out", path = "/signed/{{property.kind|none}}" }}

[[route]]
name = "in"
from = "inner"
match = "signed/#"
to = {{ adapter = "web", stream = "/streams/signed" }}
"#
    )
}

#[tokio::test]
async fn signed_messages_come_through_once_and_nothing_else_does() {
    let authority = Authority::new("root");
    authority.sign("web", &["localhost"]);
    authority.sign("press-1", &["press-1.example"]);
    let folder = authority.folder();
    let (outer, inner) = (free_port(), free_port());
    let gateway = Transload::start(&configuration(folder, outer, inner)).await;
    let root = folder.join("ca.pem").display().to_string();
    let tls = ["--http2", "--cacert", &root];
    let url = |path: &str| format!("https://localhost:{outer}{path}");
    let hook = url("/hooks/github");
    let post = async |headers: &[&str], body: &[u8]| -> Answer {
        curl::request_with(&tls, "POST", &hook, headers, body).await
    };

    let refused = post(&[], BODY).await;
    assert_eq!((refused.status, &*refused.body), (401, ""));
    assert!(refused.head.starts_with("HTTP/2 401"), "{}", refused.head);
    assert_eq!(post(&[SIGNATURE], b"Hello, World?").await.status, 401);
    let mut stranger = tls.to_vec();
    stranger.extend(["--user", "ci:good"]);
    let streams = url("/streams/signed");
    for path in ["/streams/signed", "/other/a", "/nowhere"] {
        for method in ["GET", "POST"] {
            let answer = curl::request_with(&stranger, method, &url(path), &[], b"").await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }

    // A reader with a certificate, and one with a token, over HTTP/2 and HTTP/1.1.
    let (certificate, key) = (folder.join("press-1.pem"), folder.join("press-1.key"));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let shows = ["--http2", "--cacert", &root, "--cert", &certificate, "--key", &key];
    let mut by_certificate = curl::events_with(&shows, &streams, None).await;
    let token = ["--http1.1", "--cacert", &root, "--header", "Authorization: Bearer good"];
    let mut by_token = curl::events_with(&token, &streams, None).await;

    let first = ["X-GitHub-Delivery: d-1", "X-GitHub-Event: push", SIGNATURE];
    for attempt in ["first", "replayed", "replayed again"] {
        assert_eq!(post(&first, BODY).await.status, 202, "{attempt}");
    }
    let second = ["X-GitHub-Delivery: d-2", "X-GitHub-Event: ping", SIGNATURE];
    assert_eq!(post(&second, BODY).await.status, 202);
    for reader in [&mut by_certificate, &mut by_token] {
        let received = reader.take(2).await;
        let events: Vec<_> = received.iter().map(|event| event.address.as_str()).collect();
        assert_eq!(events, ["signed/push", "signed/ping"], "once, in order");
        assert!(received.iter().all(|event| event.payload == BODY));
    }

    // The inner listener takes only what the outer one has signed.
    let forged = format!("http://127.0.0.1:{inner}/signed/push");
    assert_eq!(curl::post(&forged, &[SIGNATURE], BODY).await.status, 401);
    let denied = gateway.metric("transload_adapter_events_total", "access_denied").await;
    assert!(denied.is_some_and(|denied| denied >= 9.0), "{denied:?}");
}
