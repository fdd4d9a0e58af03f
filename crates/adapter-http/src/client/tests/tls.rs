//! TLS with own authorities and certificates, names that differ, and addresses that are blocked.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio_rustls::TlsAcceptor;
use transload_adapter::{Interest, updates};
use transload_tls::testing::{Authority, Signed};

use super::*;

/// A server that shows a certificate, and lets in only clients of `clients`, if it is given.
struct TlsServer {
    port: u16,
    server: Arc<Server>,
    _tasks: TaskTracker,
}

impl TlsServer {
    async fn open(shows: &Signed, clients: Option<&Authority>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut config = Authority::server(shows, clients);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = Arc::new(Server::default());
        let router = Router::new().fallback(serve).with_state(Arc::clone(&server));
        let tasks = TaskTracker::new();
        let own = tasks.clone();
        tasks.spawn(async move {
            while let Ok((tcp, _)) = socket.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                own.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = TowerToHyperService::new(router);
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { port, server, _tasks: tasks }
    }

    fn settings(&self, host: &str, more: &str, tls: &str) -> String {
        format!("url = \"https://{host}:{}\"\n{more}\n[tls]\n{tls}", self.port)
    }
}

fn trusts(authority: &Authority) -> String {
    format!("ca_file = '{}'\n", authority.file().display())
}

async fn once(settings: &str) -> Result<Sent, SendError> {
    let outbound = client(settings).await;
    send(&*outbound, "r", "", &[outgoing("m", "a", "")]).await.remove(0)
}

#[tokio::test]
async fn only_the_own_authority_is_trusted_and_the_client_shows_its_certificate() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let shown = own.sign("gateway", &[]);
    let web = TlsServer::open(&own.sign("web", &["localhost"]), Some(&own)).await;
    let identified = trusts(&own) + &shown.settings();
    let sent = once(&web.settings("localhost", "", &identified)).await;
    assert!(matches!(sent, Ok(Sent::Confirmed)), "{sent:?}");
    assert_eq!(web.server.lines(), [format!("POST https://localhost:{}/a", web.port)], "HTTP/2");

    let unknown = once(&web.settings("localhost", "", &(trusts(&other) + &shown.settings()))).await;
    assert_eq!(short(&[unknown]), ["Busy None"]);
    let nameless = once(&web.settings("127.0.0.1", "", &identified)).await;
    assert!(reason(&nameless).contains("not valid for name"), "{nameless:?}");
    // Under TLS 1.3 a client hears only behind the handshake that it is not let in.
    let stranger = once(&web.settings("localhost", "", &trusts(&own))).await;
    assert!(reason(&stranger).contains("CertificateRequired"), "{stranger:?}");
    assert_eq!(web.server.lines().len(), 1, "nobody else came through");
}

#[tokio::test]
async fn an_unknown_authority_is_told() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let web = TlsServer::open(&own.sign("web", &["localhost"]), None).await;
    let sent = once(&web.settings("localhost", "", &trusts(&other))).await;
    assert_eq!(short(std::slice::from_ref(&sent)), ["Busy None"]);
    assert!(reason(&sent).contains("UnknownIssuer"), "{sent:?}");
}

#[tokio::test]
async fn another_name_can_be_asked_for() {
    let own = Authority::new("own");
    let web = TlsServer::open(&own.sign("web", &["api.internal"]), None).await;
    let named = "server_name = \"api.internal\"";
    for host in ["127.0.0.1", "localhost"] {
        let sent = once(&web.settings(host, named, &trusts(&own))).await;
        assert!(matches!(sent, Ok(Sent::Confirmed)), "{sent:?}");
    }
    let seen = web.server.lines();
    assert_eq!(seen[0], format!("POST https://api.internal:{}/a", web.port));
    let other = "server_name = \"other.internal\"";
    let sent = once(&web.settings("127.0.0.1", other, &trusts(&own))).await;
    assert!(reason(&sent).contains("not valid for name"), "{sent:?}");
}

#[tokio::test]
async fn private_addresses_are_not_connected_to_whatever_the_name() {
    let own = Authority::new("own");
    let web = TlsServer::open(&own.sign("web", &["localhost", "api.internal"]), None).await;
    let blocked = "block_private_addresses = true";
    // The second name stands for an address, which no name server is asked for.
    let named = format!("{blocked}\nserver_name = \"api.internal\"");
    for more in [blocked, &*named] {
        let sent = once(&web.settings("localhost", more, &trusts(&own))).await;
        assert_eq!(short(std::slice::from_ref(&sent)), ["Busy None"]);
        assert!(reason(&sent).contains("localhost is at "), "{sent:?}");
        assert!(reason(&sent).contains("block_private_addresses"), "{sent:?}");
    }
    assert_eq!(web.server.lines(), [""; 0]);
    let literal = format!("url = \"https://127.0.0.1:{}\"\n{blocked}", web.port);
    let config = toml::from_str(&literal).unwrap();
    assert_eq!(HttpClient::lint(&config).len(), 1);
    let error = HttpClient::connect(Arc::new(config), context(&[], 1)).await.err().unwrap();
    assert!(error.to_string().contains("127.0.0.1 is private"), "{error}");
}

#[tokio::test]
async fn files_are_read_again_with_the_configuration() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let web = TlsServer::open(&new.sign("web", &["localhost"]), None).await;
    let file = |name: &str| old.folder().join(name);
    let secrets = ["one", "two"].map(|key| format!("whsec_{}", BASE64.encode(key)));
    std::fs::write(file("secret"), &secrets[0]).unwrap();
    std::fs::write(file("token"), "before").unwrap();
    let more = format!(
        "bearer_token_file = '{}'\nsign = {{ secret_file = '{}' }}",
        file("token").display(),
        file("secret").display()
    );
    let (sender, receiver) = updates(Interest::default());
    let mut context = context(&[], 1);
    context.updates = receiver;
    let tasks = context.tasks.clone();
    let outbound = client_in(&web.settings("localhost", &more, &trusts(&old)), context).await;
    let message = [outgoing("m", "a", "")];
    assert_eq!(short(&send(&*outbound, "r", "", &message).await), ["Busy None"]);

    // Half of a change holds nothing up: what was read before stays.
    std::fs::write(old.file(), "not PEM").unwrap();
    sender.send(Arc::new(Interest::default()));
    assert_eq!(short(&send(&*outbound, "r", "", &message).await), ["Busy None"]);

    std::fs::write(old.file(), new.pem()).unwrap();
    std::fs::write(file("token"), "behind").unwrap();
    std::fs::write(file("secret"), &secrets[1]).unwrap();
    sender.send(Arc::new(Interest::default()));
    soon(async {
        while short(&send(&*outbound, "r", "", &message).await) != ["Confirmed"] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let seen = web.server.seen.lock().unwrap().remove(0);
    assert_eq!(seen.headers["authorization"], "Bearer behind");
    let time = seen.headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    let signed = crate::listener::sign_standard_webhook(&[&secrets[1]], "m", time, b"").unwrap();
    assert_eq!(seen.headers["webhook-signature"], signed);

    drop(outbound);
    tasks.close();
    soon(tasks.wait()).await;
}
