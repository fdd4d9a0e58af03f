use async_trait::async_trait;
use tokio::task::JoinSet;
use transload_adapter::testing::conformance::{Fixture, conforms};
use transload_adapter_http::{HttpClient, HttpListener};
use transload_integration_tests::{HttpSink, curl, free_port, texts};

use super::{Arrived, choose_tls};

struct HttpServer {
    sink: HttpSink,
    before: Vec<String>,
}

#[async_trait]
impl Fixture for HttpServer {
    type Adapter = HttpClient;

    fn settings(&self) -> String {
        format!("url = \"{}\"", self.sink.url())
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    async fn publish(&mut self, _: &[String]) {
        panic!("an HTTP server publishes nothing");
    }

    async fn arrived(&mut self) -> Vec<String> {
        let now = texts(self.sink.requests().all());
        self.before.iter().cloned().chain(now).collect()
    }

    async fn cut(&mut self) {
        self.before.extend(texts(&self.sink.vanish()));
    }

    async fn restore(&mut self) {
        self.sink.appear(&[]).await;
    }
}

#[tokio::test]
async fn http_client() {
    choose_tls();
    conforms(&mut HttpServer { sink: HttpSink::start().await, before: Vec::new() }).await;
}

/// Senders that post again what was not accepted for now.
struct HttpSenders {
    port: u16,
    requests: JoinSet<()>,
    arrived: Arrived,
}

#[async_trait]
impl Fixture for HttpSenders {
    type Adapter = HttpListener;

    fn settings(&self) -> String {
        format!("listen = \"127.0.0.1:{}\"", self.port)
    }

    fn target(&self) -> String {
        "stream = \"/streams/out\"".to_owned()
    }

    fn address(&self) -> String {
        "out/x".to_owned()
    }

    async fn connected(&mut self) {
        let url = format!("http://127.0.0.1:{}/streams/out", self.port);
        self.arrived.replace(Some(curl::events(&url, None).await));
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts {
            let (url, text) = (format!("http://127.0.0.1:{}/in/x", self.port), text.clone());
            self.requests.spawn(async move {
                while curl::post(&url, &[], text.as_bytes()).await.status == 503 {}
            });
        }
    }

    async fn arrived(&mut self) -> Vec<String> {
        self.arrived.all()
    }

    async fn cut(&mut self) {}

    async fn restore(&mut self) {}

    fn receives_in_order(&self) -> bool {
        false
    }

    fn can_be_cut(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn http_listener() {
    choose_tls();
    let (requests, arrived) = (JoinSet::new(), Arrived::default());
    conforms(&mut HttpSenders { port: free_port(), requests, arrived }).await;
}
