//! The client and a server that says what it is told to.

use std::sync::Mutex;

use nkeys::KeyPair;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::Instant,
};
use transload_adapter::{NoObserver, Secret};
use transload_tls::ClientTls;

use super::*;

const INFO: &str =
    "INFO {\"version\":\"2.10.4\",\"headers\":true,\"nonce\":\"n0\",\"max_payload\":1000}\r\n";
const PING_EVERY: Duration = Duration::from_secs(10);
/// So little is in flight that both sides have to wait for each other.
const DUPLEX_BYTES: usize = 64;

struct Peer(DuplexStream);

impl Peer {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to the end of this text, and returns what came before it.
    async fn hear(&mut self, until: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(until.as_bytes()) {
            heard.push(self.0.read_u8().await.unwrap());
        }
        heard.truncate(heard.len() - until.len());
        String::from_utf8(heard).unwrap()
    }

    async fn let_in(&mut self) -> serde_json::Value {
        self.say(INFO).await;
        let connect = self.hear("\r\nPING\r\n").await;
        self.say("PONG\r\n").await;
        serde_json::from_str(connect.strip_prefix("CONNECT ").unwrap()).unwrap()
    }
}

fn login(identity: Identity) -> Login {
    let (name, tls) = ("me".to_owned(), ClientTls::default());
    Login { name, identity, tls, inbox_prefix: "_INBOX".into() }
}

fn nats() -> ServerAddress {
    "nats://h".parse().unwrap()
}

struct Rig {
    client: Client,
    link: Arc<Link>,
    tasks: TaskTracker,
    peer: Peer,
}

async fn rig() -> Rig {
    let (near, far) = duplex(DUPLEX_BYTES);
    let (mut peer, link, tasks) = (Peer(far), Link::new(Arc::new(NoObserver)), TaskTracker::new());
    let (login, at) = (login(Identity::Nobody), nats());
    let begun = Client::begin(Box::new(near), &at, login, PING_EVERY, &link, &tasks);
    let (client, _) = tokio::join!(begun, peer.let_in());
    Rig { client: client.unwrap(), link, tasks, peer }
}

fn message(subject: &str) -> Frames {
    let mut frames = Frames::default();
    frames.publish(subject, Reply::Nowhere, &Bytes::from_static(b"hi"));
    frames
}

/// Keeps subjects and payloads, and an entry for its end.
struct Kept(Arc<Mutex<Vec<String>>>);

impl Sink for Kept {
    fn take(&mut self, message: Message<'_>) {
        let payload = String::from_utf8_lossy(message.payload);
        self.0.lock().unwrap().push(format!("{}={payload}", message.subject));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("end".to_owned());
    }
}

#[tokio::test]
async fn each_identity_is_shown_as_the_server_wants_it() {
    let key = || Box::new(KeyPair::from_seed(SEED).unwrap());
    for (identity, keys) in [
        (Identity::Nobody, &[][..]),
        (Identity::Token(Secret::new("t")), &["auth_token"]),
        (Identity::User { name: "u".to_owned(), password: Secret::new("p") }, &["user", "pass"]),
        (Identity::Key { key: key(), jwt: None }, &["nkey", "sig"]),
        (Identity::Key { key: key(), jwt: Some(Secret::new("j")) }, &["jwt", "sig"]),
    ] {
        let (near, far) = duplex(DUPLEX_BYTES);
        let mut peer = Peer(far);
        let (login, at) = (login(identity), nats());
        let (begun, connect) =
            tokio::join!(login::login(Box::new(near), &at, login), peer.let_in());
        let (_, server) = begun.unwrap();
        assert_eq!((server.version(), server.message_bytes_max()), ((2, 10), 1000));
        for name in ["auth_token", "user", "pass", "nkey", "jwt", "sig"] {
            assert_eq!(connect.get(name).is_some(), keys.contains(&name), "{keys:?} {name}");
        }
        assert_eq!(connect["no_responders"], true);
        if let Some(signature) = connect.get("sig").and_then(|text| text.as_str()) {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            key().verify(b"n0", &signature).unwrap();
        }
    }
}

const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

#[tokio::test]
async fn a_server_that_does_not_let_us_in_says_why() {
    for (said, refused, words) in [
        ("-ERR 'maximum connections exceeded'\r\n", true, "maximum connections"),
        ("INFO {\"headers\":false}\r\n", true, "no headers"),
        ("INFO [\r\n", false, "cannot be read"),
        ("HTTP/1.1 400 Bad Request\r\n", false, "HTTP/1.1 400"),
        ("PING\r\n", false, "who it is"),
        ("", false, "closed the connection"),
    ] {
        let (near, mut far) = duplex(1024);
        far.write_all(said.as_bytes()).await.unwrap();
        drop(far);
        let at = nats();
        let error = login::login(Box::new(near), &at, login(Identity::Nobody)).await.err().unwrap();
        let text = match &error {
            ConnectError::Refused { reason } => reason.to_string(),
            ConnectError::Unreachable(source) => source.to_string(),
            ConnectError::Unusable { reason } => format!("unusable: {reason}"),
        };
        assert_eq!(matches!(error, ConnectError::Refused { .. }), refused, "{said}: {text}");
        assert!(text.contains(words), "{said}: {text}");
    }
}

#[tokio::test]
async fn a_wrong_login_is_a_refusal() {
    let (near, far) = duplex(1024);
    let mut peer = Peer(far);
    let serving = async {
        peer.say(INFO).await;
        peer.hear("PING\r\n").await;
        peer.say("-ERR 'Authorization Violation'\r\n").await;
    };
    let (at, login) = (nats(), login(Identity::Nobody));
    let (begun, ()) = tokio::join!(login::login(Box::new(near), &at, login), serving);
    let Err(ConnectError::Refused { reason }) = begun.map(drop) else { panic!("let in") };
    assert_eq!(reason, "Authorization Violation");
}

#[tokio::test]
async fn nothing_is_told_to_a_server_without_the_tls_that_is_wanted() {
    let (near, far) = duplex(1024);
    let mut peer = Peer(far);
    let at = "tls://h".parse().unwrap();
    let serving = async { peer.say(INFO).await };
    let (begun, ()) =
        tokio::join!(login::login(Box::new(near), &at, login(Identity::Nobody)), serving);
    let Err(ConnectError::Refused { reason }) = begun.map(drop) else { panic!("let in") };
    assert!(reason.contains("offers no TLS"), "{reason}");
    let mut heard = Vec::new();
    peer.0.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"");
}

#[tokio::test]
async fn what_the_server_refuses_is_known_when_it_has_read_it() {
    let Rig { client, link, mut peer, .. } = rig().await;
    client.write(message("a")).await.unwrap();
    let read = client.prove(message("b")).await.unwrap();
    assert_eq!(peer.hear("PING\r\n").await, "PUB a 2\r\nhi\r\nPUB b 2\r\nhi\r\n");
    peer.say("PING\r\n-ERR 'Permissions Violation for Publish to \"b\"'\r\nPONG\r\n").await;
    read.await.unwrap();
    assert!(link.is_denied("b") && !link.is_denied("a") && !link.is_lost());
    assert_eq!(peer.hear("PONG\r\n").await, "");
}

#[tokio::test]
async fn a_drained_subscription_ends_behind_what_was_sent_for_it() {
    let Rig { client, mut peer, .. } = rig().await;
    let kept = Arc::<Mutex<Vec<String>>>::default();
    let sink = || Box::new(Kept(Arc::clone(&kept)));
    let first = client.subscribe("a.*", None, sink()).await.unwrap();
    client.subscribe("b", Some("g"), sink()).await.unwrap();
    let drained = client.drain(vec![first]).await.unwrap();
    assert_eq!(peer.hear("PING\r\n").await, "SUB a.* 0\r\nSUB b g 1\r\nUNSUB 0\r\n");
    let long = "x".repeat(300);
    peer.say(&format!("MSG a.1 0 300\r\n{long}\r\nMSG b 1 r 1\r\n1\r\nMSG a.2 7 0\r\n\r\n")).await;
    peer.say("PONG\r\nMSG a.3 0 0\r\n\r\nMSG b 1 1\r\n2\r\nPING\r\n").await;
    drained.await.unwrap();
    peer.hear("PONG\r\n").await;
    assert_eq!(*kept.lock().unwrap(), [&*format!("a.1={long}"), "b=1", "end", "b=2"]);
}

#[tokio::test]
async fn a_request_has_its_answer_or_nobody() {
    let Rig { client, mut peer, .. } = rig().await;
    for (answer, wanted) in [
        ("MSG {} 0 2\r\nok\r\n", Some("ok")),
        ("HMSG {} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", None),
    ] {
        let serving = async {
            peer.hear("PUB q ").await;
            let inbox = peer.hear(" 2\r\nhi\r\n").await;
            peer.say(&answer.replace("{}", &inbox)).await;
        };
        let payload = Bytes::from_static(b"hi");
        let asking = client.request("q", &payload, Duration::from_secs(5));
        let (answered, ()) = tokio::join!(asking, serving);
        assert_eq!(answered.unwrap().as_deref(), wanted.map(str::as_bytes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_asked_twice_and_then_lost() {
    let Rig { client, link, mut peer, .. } = rig().await;
    let start = Instant::now();
    peer.hear("PING\r\n").await;
    assert_eq!(start.elapsed(), PING_EVERY);
    peer.say("PONG\r\n").await;
    for _ in 0..2 {
        assert_eq!(peer.hear("PING\r\n").await, "");
    }
    link.lost().await;
    assert_eq!(link.reason().to_string(), "the server does not answer");
    assert!(start.elapsed() < PING_EVERY * 5);
    assert!(matches!(client.prove(Frames::default()).await.map(drop), Err(Gone)));
}

#[tokio::test]
async fn the_end_of_the_connection_is_told_to_all_who_wait() {
    let Rig { client, link, mut peer, tasks } = rig().await;
    let read = client.prove(message("a")).await.unwrap();
    peer.hear("PING\r\n").await;
    peer.say("-ERR 'Slow Consumer'\r\n").await;
    drop(peer);
    assert!(read.await.is_err());
    assert_eq!(link.reason().to_string(), "the broker has closed the connection: Slow Consumer");
    assert_eq!(client.write(message("a")).await, Err(Gone));
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn an_error_of_long_ago_is_not_why_the_connection_ends() {
    let Rig { link, mut peer, client, .. } = rig().await;
    peer.say("-ERR 'Invalid Subject'\r\n").await;
    let read = client.prove(message("a")).await.unwrap();
    peer.hear("PING\r\n").await;
    peer.say("PONG\r\n").await;
    read.await.unwrap();
    drop(peer);
    link.lost().await;
    assert_eq!(link.reason().to_string(), "the broker has closed the connection");
}

#[tokio::test]
async fn what_was_handed_over_leaves_before_the_connection_is_closed() {
    let Rig { client, link, mut peer, tasks } = rig().await;
    for _ in 0..40 {
        client.write(message("a")).await.unwrap();
        if link.is_lost() {
            break;
        }
    }
    drop(client);
    let mut heard = String::new();
    peer.0.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "PUB a 2\r\nhi\r\n".repeat(40));
    tasks.close();
    tasks.wait().await;
    assert!(link.is_lost());
}
