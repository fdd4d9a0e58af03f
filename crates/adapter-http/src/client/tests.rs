mod oauth2;
mod tls;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::{Barrier, Notify},
};
use tokio_util::task::TaskTracker;
use transload_adapter::{
    Adapter, Context, Destination, Outbound, Replies, RequestError, SendError, Sent,
};
use transload_envelope::{Outgoing, Value};

use super::{ClientTarget, HttpClient};
use crate::testing::{context, outgoing, soon};

#[derive(Debug)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The foreign server: answers as the path says and remembers what it saw.
#[derive(Default)]
struct Server {
    seen: Mutex<Vec<Seen>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    let_go: Notify,
}

impl Server {
    fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }
}

async fn serve(State(server): State<Arc<Server>>, request: Request<Body>) -> Response<Body> {
    let under_way = server.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    server.most_under_way.fetch_max(under_way, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path().to_owned();
    let line = format!("{} {}", head.method, head.uri);
    server.seen.lock().unwrap().push(Seen { line, headers: head.headers, body });
    let answer = Response::builder();
    let answer = match path.rsplit('/').next().unwrap() {
        "wait" => {
            server.let_go.notified().await;
            answer.body(Body::empty())
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer.body(Body::empty())
        }
        "redirect" => answer.status(307).header("location", "/elsewhere").body(Body::empty()),
        "large" => answer.status(400).body(Body::from(vec![b'e'; 1 << 20])),
        "busy" => answer.status(503).header("retry-after", "7").body(Body::from("later")),
        last => {
            let status = last.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            answer.status(status.unwrap_or(StatusCode::OK)).body(Body::from("said so"))
        }
    };
    server.under_way.fetch_sub(1, Ordering::SeqCst);
    answer.unwrap()
}

struct Rig {
    server: Arc<Server>,
    outbound: Arc<dyn Outbound<ClientTarget>>,
    _tasks: TaskTracker,
}

async fn client(settings: &str) -> Arc<dyn Outbound<ClientTarget>> {
    client_in(settings, context(&[], 1)).await
}

async fn client_in(settings: &str, context: Context) -> Arc<dyn Outbound<ClientTarget>> {
    let config = toml::from_str(settings).unwrap();
    assert_eq!(HttpClient::lint(&config), []);
    let endpoints = HttpClient::connect(Arc::new(config), context).await.unwrap();
    assert!(endpoints.inbound.is_none());
    endpoints.outbound.unwrap()
}

impl Rig {
    async fn open(base: &str, settings: &str) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{base}", socket.local_addr().unwrap());
        let server = Arc::new(Server::default());
        let router = Router::new().fallback(serve).with_state(Arc::clone(&server));
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(socket, router).await });
        let outbound = client(&format!("url = \"{url}\"\n{settings}")).await;
        Self { server, outbound, _tasks: tasks }
    }

    async fn send(&self, target: &str, batch: &[Outgoing]) -> Vec<Result<Sent, SendError>> {
        send(&*self.outbound, "route/0", target, batch).await
    }
}

async fn send(
    outbound: &dyn Outbound<ClientTarget>,
    name: &str,
    target: &str,
    batch: &[Outgoing],
) -> Vec<Result<Sent, SendError>> {
    let target = toml::from_str(target).unwrap();
    let results = soon(outbound.send(Destination { name, target: &target }, batch)).await;
    assert_eq!(results.len(), batch.len());
    results
}

/// Outcomes in short.
fn short(results: &[Result<Sent, SendError>]) -> Vec<String> {
    let short = |result: &Result<Sent, SendError>| match result {
        Ok(sent) => format!("{sent:?}"),
        Err(SendError::Busy { after, .. }) => format!("Busy {after:?}"),
        Err(SendError::Failed { .. }) => "Failed".to_owned(),
        Err(SendError::Rejected { .. }) => "Rejected".to_owned(),
        Err(SendError::Disconnected(_)) => "Disconnected".to_owned(),
    };
    results.iter().map(short).collect()
}

fn reason(result: &Result<Sent, SendError>) -> String {
    match result {
        Err(
            SendError::Busy { reason, .. }
            | SendError::Failed { reason }
            | SendError::Rejected { reason },
        ) => reason.to_string(),
        Ok(_) | Err(SendError::Disconnected(_)) => panic!("{result:?}"),
    }
}

#[tokio::test]
async fn a_request_carries_the_whole_message() {
    let settings = "bearer_token = \"hush\"\nheaders = { x-fixed = \"1\" }";
    let rig = Rig::open("/base/?key=1", settings).await;
    let mut message = outgoing("m-1", "devices/d 7/état", [0, 255, 13, 10]);
    message.envelope.properties_mut().content_type = Some("application/x".into());
    message.envelope.headers.push("X-A", "1");
    message.envelope.headers.push("x-a", "2");
    message.envelope.headers.push("Authorization", "theirs");
    message.envelope.headers.push("X-Fixed", "theirs");
    assert_eq!(short(&rig.send("", &[message]).await), ["Confirmed"]);
    let seen = rig.server.seen.lock().unwrap().remove(0);
    assert_eq!(seen.line, "POST /base/devices/d%207/%C3%A9tat?key=1");
    assert_eq!(&seen.body[..], [0, 255, 13, 10]);
    for (name, expected) in [
        ("content-type", &["application/x"][..]),
        ("x-a", &["1", "2"]),
        ("x-fixed", &["1"]),
        ("authorization", &["Bearer hush"]),
        ("webhook-id", &["m-1"]),
        ("idempotency-key", &["m-1"]),
        ("user-agent", &[concat!("transload/", env!("CARGO_PKG_VERSION"))]),
    ] {
        let values: Vec<_> = seen.headers.get_all(name).iter().collect();
        assert_eq!(values, expected, "{name}");
    }
}

#[tokio::test]
async fn a_capture_changes_one_level_of_the_path_and_nothing_else() {
    let rig = Rig::open("/base", "").await;
    for (path, expected) in [
        ("/a/b", "PUT /base/a/b"),
        ("a/x?y=1#z", "PUT /base/a/x%3Fy=1%23z"),
        ("//evil.example/x", "PUT /base//evil.example/x"),
        ("http://evil.example/x", "PUT /base/http://evil.example/x"),
        ("a\\..\\b", "PUT /base/a%5C..%5Cb"),
        ("a/%2e%2e/b", "PUT /base/a/%252e%252e/b"),
        ("a/\r\nHost: evil/", "PUT /base/a/%0D%0AHost:%20evil/"),
        ("@evil.example", "PUT /base/@evil.example"),
    ] {
        let mut message = outgoing("1", "a", "");
        message.arguments.push("path", path);
        let results = rig.send("path = \"a/{x}\"\nmethod = \"PUT\"", &[message]).await;
        assert_eq!(short(&results), ["Confirmed"], "{path}");
        assert_eq!(rig.server.lines().last().unwrap(), expected);
    }
    let count = rig.server.lines().len();
    for path in ["a/../b", "..", "a/."] {
        let mut message = outgoing("1", "a", "");
        message.arguments.push("path", path);
        assert_eq!(short(&rig.send("path = \"a/{x}\"", &[message]).await), ["Rejected"], "{path}");
    }
    assert_eq!(rig.server.lines().len(), count, "nothing was sent");
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let rig = Rig::open("", "").await;
    for (address, expected, says) in [
        ("204", "Confirmed", ""),
        ("busy", "Busy Some(7s)", "503 Service Unavailable: later"),
        ("429", "Busy None", "429"),
        ("500", "Failed", "500 Internal Server Error: said so"),
        ("404", "Rejected", "404 Not Found: said so"),
        ("redirect", "Rejected", "redirects are not followed: /elsewhere"),
    ] {
        let results = rig.send("", &[outgoing("1", address, "")]).await;
        assert_eq!(short(&results), [expected], "{address}");
        if !says.is_empty() {
            assert!(reason(&results[0]).contains(says), "{}", reason(&results[0]));
        }
    }
    let large = reason(&rig.send("", &[outgoing("1", "large", "")]).await[0]);
    assert!(large.len() < 1_200 && large.ends_with("eee"), "{} bytes", large.len());
    assert!(!rig.server.lines().iter().any(|line| line.contains("elsewhere")));
}

#[tokio::test]
async fn order_is_kept_when_a_message_has_to_be_sent_again() {
    let rig = Rig::open("", "").await;
    let batch = ["1", "404", "2", "busy", "3", "4"].map(|address| outgoing("m", address, ""));
    let results = rig.send("", &batch).await;
    let expected =
        ["Confirmed", "Rejected", "Confirmed", "Busy Some(7s)", "Busy Some(7s)", "Busy Some(7s)"];
    assert_eq!(short(&results), expected);
    assert_eq!(rig.server.lines(), ["POST /1", "POST /404", "POST /2", "POST /busy"]);
    let batch = ["500", "5"].map(|address| outgoing("m", address, ""));
    assert_eq!(short(&rig.send("", &batch).await), ["Failed", "Busy None"]);
}

#[tokio::test]
async fn overlapping_batches_of_one_target_keep_their_order() {
    let rig = Rig::open("", "").await;
    let first: Vec<_> = (0..3).map(|n| outgoing("m", &format!("{n}/slow"), "")).collect();
    let second = [outgoing("m", "3/slow", "")];
    let (first, second) = tokio::join!(rig.send("", &first), rig.send("", &second));
    assert_eq!(short(&first), ["Confirmed"; 3]);
    assert_eq!(short(&second), ["Confirmed"]);
    let expected = ["POST /0/slow", "POST /1/slow", "POST /2/slow", "POST /3/slow"];
    assert_eq!(rig.server.lines(), expected);
    assert_eq!(rig.server.most_under_way.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn concurrency_is_as_asked_and_bounded_for_all_targets_together() {
    for (max_in_flight, concurrency, expected) in [(64, 3, 3), (2, 3, 2)] {
        let rig = Rig::open("", &format!("max_in_flight = {max_in_flight}")).await;
        let batch: Vec<_> = (0..12).map(|n| outgoing("m", &format!("{n}/slow"), "")).collect();
        let results = rig.send(&format!("concurrency = {concurrency}"), &batch).await;
        assert_eq!(short(&results), ["Confirmed"; 12]);
        assert_eq!(rig.server.most_under_way.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_target_that_is_gone_is_not_asked_again_unless_its_path_depends_on_the_message() {
    let rig = Rig::open("", "").await;
    let message = || [outgoing("m", "a", "")];
    for _ in 0..2 {
        assert_eq!(short(&rig.send("path = \"410\"", &message()).await), ["Rejected"]);
    }
    assert_eq!(rig.server.lines(), ["POST /410"]);
    for _ in 0..2 {
        let mut message = message();
        message[0].arguments.push("path", "x/410");
        let target = "path = \"{x}/410\"";
        let results = send(&*rig.outbound, "route/1", target, &message).await;
        assert_eq!(short(&results), ["Rejected"]);
    }
    assert_eq!(rig.server.lines().len(), 3);
}

#[tokio::test]
async fn a_server_that_is_away_is_busy_and_one_that_breaks_off_has_failed() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url =
        format!("url = \"http://{}/?key=hush\"\ntimeout = \"200ms\"", socket.local_addr().unwrap());
    let outbound = client(&url).await;
    let message = [outgoing("m", "a", "")];
    // It accepts and closes, then it does not answer, then it is away.
    let closing = async {
        let (mut stream, _) = socket.accept().await.unwrap();
        stream.read_exact(&mut [0; 16]).await.unwrap();
    };
    let (broken, ()) = tokio::join!(send(&*outbound, "r", "", &message), closing);
    assert_eq!(short(&broken), ["Failed"]);
    let silent = send(&*outbound, "r", "", &message).await;
    assert_eq!(short(&silent), ["Failed"]);
    assert!(!reason(&silent[0]).contains("hush"), "{}", reason(&silent[0]));
    drop(socket);
    let away = send(&*outbound, "r", "", &message).await;
    assert_eq!(short(&away), ["Busy None"]);
    assert!(reason(&away[0]).to_lowercase().contains("refused"), "{}", reason(&away[0]));
}

#[tokio::test]
async fn closing_waits_for_what_is_under_way() {
    let rig = Rig::open("", "").await;
    let message = [outgoing("m", "wait", "")];
    let started = Barrier::new(2);
    let closing = async {
        started.wait().await;
        while rig.server.under_way.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let close = rig.outbound.close();
        tokio::pin!(close);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut close).await;
        assert!(early.is_err(), "closed before the answer");
        rig.server.let_go.notify_one();
        close.await;
    };
    let sending = async {
        started.wait().await;
        rig.send("", &message).await
    };
    let (results, ()) = tokio::join!(sending, closing);
    assert_eq!(short(&results), ["Confirmed"]);
    assert_eq!(short(&rig.send("", &message).await), ["Busy None"]);
}

#[tokio::test]
async fn the_response_is_the_reply_whatever_its_status() {
    let rig = Rig::open("/base", "max_reply_bytes = \"1KiB\"").await;
    let target: ClientTarget = toml::from_str("").unwrap();
    let to = Destination { name: "r/web", target: &target };
    let ask = async |path: &str| {
        let end = tokio::time::Instant::now() + Duration::from_secs(5);
        let (replies, mut received) = Replies::new(1, end);
        let result = rig.outbound.request(to, &outgoing("1", path, "?"), &replies).await;
        result.map(|()| received.try_recv().unwrap())
    };
    for (path, status) in [("a", 200), ("404", 404), ("503", 503), ("redirect", 307)] {
        let reply = ask(path).await.unwrap();
        assert_eq!(reply.headers.get("status"), Some(&Value::Int(status)), "{path}");
        assert_eq!(reply.payload.is_empty(), path == "redirect", "{path}");
    }
    let error = ask("large").await.unwrap_err();
    assert!(matches!(error, RequestError::Rejected { .. }), "{error}");
    assert_eq!(rig.server.lines()[0], "POST /base/a");
}
