//! Tokens of an authorization server.

use std::collections::VecDeque;

use axum::routing::post;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

/// An authorization server, and an API that takes its tokens.
#[derive(Default)]
struct Site {
    /// What the next requests for a token are answered; then each gets the next number for an hour.
    answers: Mutex<VecDeque<(u16, &'static str)>>,
    asked: Mutex<Vec<(HeaderMap, String)>>,
    /// The only token that is good; empty for any.
    good: Mutex<String>,
    seen: Mutex<Vec<String>>,
}

async fn token(State(site): State<Arc<Site>>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let number = {
        let mut asked = site.asked.lock().unwrap();
        asked.push((head.headers, String::from_utf8(body.to_vec()).unwrap()));
        asked.len()
    };
    // So that requests that come together would overlap.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (status, text) = match site.answers.lock().unwrap().pop_front() {
        Some((status, text)) => (status, text.to_owned()),
        None => (200, format!(r#"{{"access_token":"t{number}","expires_in":3600}}"#)),
    };
    Response::builder().status(status).body(Body::from(text)).unwrap()
}

async fn api(State(site): State<Arc<Site>>, headers: HeaderMap) -> StatusCode {
    let shown = headers["authorization"].to_str().unwrap().to_owned();
    let good = site.good.lock().unwrap().clone();
    let is_good = good.is_empty() || shown == good;
    site.seen.lock().unwrap().push(shown);
    if is_good { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}

struct Rig {
    site: Arc<Site>,
    outbound: Arc<dyn Outbound<ClientTarget>>,
    _tasks: TaskTracker,
}

impl Rig {
    async fn open(more: &str) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let site = Arc::new(Site::default());
        let router =
            Router::new().route("/token", post(token)).fallback(api).with_state(Arc::clone(&site));
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(socket, router).await });
        let settings = format!(
            "url = 'http://{address}/api'\n[oauth2]\ntoken_url = 'http://{address}/token'\n\
             client_id = 'the gateway'\nclient_secret = 'hush:hush'\n{more}"
        );
        Self { site, outbound: client(&settings).await, _tasks: tasks }
    }

    async fn send(&self, messages: usize) -> Vec<Result<Sent, SendError>> {
        let batch = vec![outgoing("m", "a", ""); messages];
        send(&*self.outbound, "r", "concurrency = 8", &batch).await
    }

    fn asked(&self) -> usize {
        self.site.asked.lock().unwrap().len()
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.site.seen.lock().unwrap())
    }

    fn answer(&self, answers: &[(u16, &'static str)]) {
        self.site.answers.lock().unwrap().extend(answers);
    }
}

#[tokio::test]
async fn one_token_serves_all_messages_until_it_ends() {
    let rig = Rig::open("scopes = ['a', 'b']\nparameters = { audience = 'x y' }").await;
    assert_eq!(short(&rig.send(8).await), ["Confirmed"; 8]);
    assert_eq!(short(&rig.send(8).await), ["Confirmed"; 8]);
    assert_eq!(rig.seen(), ["Bearer t1"; 16]);
    let (headers, body) = rig.site.asked.lock().unwrap().remove(0);
    assert_eq!(rig.asked(), 0, "one request");
    assert_eq!(body, "grant_type=client_credentials&scope=a+b&audience=x+y");
    let basic = format!("Basic {}", STANDARD.encode("the+gateway:hush%3Ahush"));
    assert_eq!(headers["authorization"], basic);
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn a_token_that_has_ended_is_replaced() {
    let rig = Rig::open("credentials_in = 'body'").await;
    rig.answer(&[(200, r#"{"access_token":"short","expires_in":0}"#)]);
    for _ in 0..2 {
        assert_eq!(short(&rig.send(1).await), ["Confirmed"]);
    }
    assert_eq!(rig.seen(), ["Bearer short", "Bearer t2"]);
    let (headers, body) = rig.site.asked.lock().unwrap().remove(0);
    assert!(!headers.contains_key("authorization"));
    assert!(body.ends_with("&client_id=the+gateway&client_secret=hush%3Ahush"), "{body}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let rig = Rig::open("").await;
    assert_eq!(short(&rig.send(1).await), ["Confirmed"]);
    *rig.site.good.lock().unwrap() = "Bearer t2".to_owned();
    assert_eq!(short(&rig.send(8).await), ["Confirmed"; 8]);
    assert_eq!(rig.asked(), 2, "one more for all eight");
    // A server that refuses each token is not helped by more of them.
    *rig.site.good.lock().unwrap() = "another".to_owned();
    rig.seen();
    for _ in 0..3 {
        assert_eq!(short(&rig.send(1).await), ["Rejected"]);
    }
    assert_eq!(rig.asked(), 3);
    assert_eq!(rig.seen(), ["Bearer t2", "Bearer t3", "Bearer t3", "Bearer t3"]);
}

#[tokio::test]
async fn messages_wait_while_there_is_no_token() {
    let rig = Rig::open("").await;
    let down = r#"{"error":"invalid_client","error_description":"no hush:hush here"}"#;
    rig.answer(&[(503, ""), (401, down)]);
    let results = rig.send(8).await;
    assert!(results.iter().all(|result| matches!(result, Err(SendError::Busy { .. }))));
    assert_eq!(short(&results)[0], "Busy Some(1s)");
    assert!(reason(&results[0]).contains("answered 503"), "{results:?}");
    assert_eq!(rig.asked(), 1, "the others did not ask again");
    // When the pause is over it is asked again, and says something else.
    let refused = soon(async {
        loop {
            let result = rig.send(1).await.remove(0);
            if rig.asked() == 2 {
                break result;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(short(std::slice::from_ref(&refused)), ["Busy Some(2s)"]);
    assert!(reason(&refused).contains("401 Unauthorized: invalid_client no *** here"));
    assert_eq!(rig.seen(), [""; 0], "nothing was sent without a token");
    soon(async {
        while short(&rig.send(1).await) != ["Confirmed"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(rig.seen(), ["Bearer t3"]);
}
