use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transload_tls::testing::{Authority, Signed};

use super::*;
use crate::{Bound, Connection, Places, Refused, Serve, Settings};

/// The files of a listener.
struct Files(tempfile::TempDir);

impl Files {
    fn new(signed: &Signed) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("certificate.pem", &signed.certificate);
        files.write("key.pem", &signed.key);
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn settings(&self, more: &str) -> TlsSettings {
        let folder = self.0.path().display();
        let text = format!(
            "certificate_file = '{folder}/certificate.pem'\nkey_file = '{folder}/key.pem'\n{more}"
        );
        toml::from_str(&text.replace("FOLDER", &folder.to_string())).unwrap()
    }
}

const CLIENT_CA: &str = "client_ca_file = 'FOLDER/clients.pem'\n";

/// A listener that answers each byte with the same, and notes who came.
struct Rig {
    address: SocketAddr,
    server: Arc<Server>,
    tls: Tls,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Server {
    came: Mutex<Vec<Option<String>>>,
    refused: Mutex<Vec<String>>,
}

impl Serve for Server {
    async fn serve(self: Arc<Self>, mut connection: Connection) {
        let name = connection.identity.as_ref().map(|identity| identity.name().to_owned());
        self.came.lock().unwrap().push(name);
        let mut byte = [0];
        while matches!(connection.stream.read(&mut byte).await, Ok(1)) {
            connection.stream.write_all(&byte).await.unwrap();
            connection.stream.flush().await.unwrap();
        }
    }

    fn refused(&self, _: SocketAddr, why: &Refused) {
        self.refused.lock().unwrap().push(format!("{why:?}"));
    }
}

impl Rig {
    async fn open(settings: &TlsSettings) -> Self {
        let tls = Tls::new(settings, &[b"h2", b"http/1.1"]).unwrap();
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, server) = (bound.address(), Arc::new(Server::default()));
        let settings = Settings {
            places: Places::new(8, 8),
            tls: Some(tls.clone()),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (tasks, stop) = (settings.tasks.clone(), settings.stop.clone());
        tasks.spawn(crate::serve(bound, settings, Arc::clone(&server)));
        Self { address, server, tls, tasks, stop }
    }

    /// A client that trusts the authority and shows a certificate; none if it does not get through.
    async fn connect(
        &self,
        authority: &Authority,
        shows: Option<&Signed>,
    ) -> Option<TlsStream<TcpStream>> {
        let mut config = authority.client(shows);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        echoes(&mut stream).await.then_some(stream)
    }

    fn came(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.server.came.lock().unwrap())
    }

    async fn ends(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.unwrap();
    }
}

async fn echoes(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.write_all(b"x").await.is_ok() && matches!(stream.read(&mut [0; 1]).await, Ok(1))
}

#[tokio::test]
async fn clients_are_served_and_the_protocol_is_agreed_on() {
    let authority = Authority::new("root");
    let files = Files::new(&authority.sign("web", &["localhost"]));
    let rig = Rig::open(&files.settings("")).await;
    let stream = rig.connect(&authority, None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(rig.came(), [None]);
    assert!(rig.connect(&Authority::new("root"), None).await.is_none(), "another authority");
    drop(stream);
    rig.ends().await;
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let (authority, clients) = (Authority::new("root"), Authority::new("devices"));
    let files = Files::new(&authority.sign("web", &["localhost"]));
    files.write("clients.pem", clients.pem());
    let known = clients.sign("press-1", &["press-1.example"]);
    let forged = Authority::new("devices").sign("press-1", &[]);

    let rig = Rig::open(&files.settings(CLIENT_CA)).await;
    let stream = rig.connect(&authority, Some(&known)).await;
    assert_eq!(rig.came(), [Some("press-1".to_owned())]);
    assert!(rig.connect(&authority, Some(&forged)).await.is_none());
    assert!(rig.connect(&authority, None).await.is_none());
    assert_eq!(rig.came(), [], "nobody else came through");
    assert_eq!(rig.server.refused.lock().unwrap().len(), 2);
    drop(stream);
    rig.ends().await;

    let optional = format!("{CLIENT_CA}client_certificate = \"optional\"");
    let rig = Rig::open(&files.settings(&optional)).await;
    let streams =
        [rig.connect(&authority, Some(&known)).await, rig.connect(&authority, None).await];
    assert!(streams.iter().all(Option::is_some));
    assert_eq!(rig.came(), [Some("press-1".to_owned()), None]);
    assert!(rig.connect(&authority, Some(&forged)).await.is_none());
    drop(streams);
    rig.ends().await;
}

#[test]
fn the_names_of_a_certificate_are_read() {
    let Signed { certificate, .. } =
        Authority::new("root").sign("press-1", &["press-1.example", "192.0.2.7"]);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let identity = ClientIdentity::read(&certificate).unwrap();
    assert_eq!(identity.subject, "O=Factory, CN=press-1");
    assert_eq!(identity.name(), "press-1");
    let names = ["press-1.example", "192.0.2.7", "urn:device:press-1"];
    assert_eq!(identity.alternative_names, names);
    for name in ["press-1", "O=Factory, CN=press-1", "192.0.2.7"] {
        assert!(identity.is_named(name), "{name}");
    }
    assert!(!identity.is_named("press"));
}

#[tokio::test]
async fn new_certificates_hold_for_new_handshakes_and_old_connections_stay() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = Files::new(&old.sign("web", &["localhost"]));
    let rig = Rig::open(&files.settings("")).await;
    let mut before = rig.connect(&old, None).await.unwrap();
    let Signed { certificate, key, .. } = new.sign("web", &["localhost"]);
    files.write("certificate.pem", &certificate);
    assert_eq!(rig.tls.reload().unwrap_err().key, "key_file", "half of a pair");
    assert!(rig.connect(&old, None).await.is_some(), "a fault changes nothing");
    files.write("key.pem", &key);
    rig.tls.reload().unwrap();
    assert!(rig.connect(&old, None).await.is_none());
    assert!(rig.connect(&new, None).await.is_some());
    assert!(echoes(&mut before).await, "the old connection stays");
    drop(before);
    rig.ends().await;
}

#[tokio::test]
async fn a_slow_handshake_is_given_up_and_holds_up_nobody() {
    let authority = Authority::new("root");
    let files = Files::new(&authority.sign("web", &["localhost"]));
    let rig = Rig::open(&files.settings("handshake_timeout = \"200ms\"")).await;
    let mut silent = TcpStream::connect(rig.address).await.unwrap();
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    assert!(rig.connect(&authority, None).await.is_some());
    for stream in [&mut silent, &mut slow] {
        let end = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await;
        assert!(!matches!(end.unwrap(), Ok(1..)));
    }
    let refused = rig.server.refused.lock().unwrap().clone();
    assert_eq!(refused.len(), 2, "{refused:?}");
    rig.ends().await;
}

#[test]
fn faults_are_found_at_their_keys() {
    let authority = Authority::new("root");
    let good = authority.sign("web", &["localhost"]);
    let other = authority.sign("web", &["localhost"]);
    let pair = |certificate: &str, key: &str| Signed {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        ..good.clone()
    };
    let swapped = pair(&good.key, &good.certificate);
    let mixed = pair(&good.certificate, &other.key);
    for (certificate, more, key) in [
        (&good, "", None),
        (&good, "minimum_version = \"1.3\"", None),
        (&mixed, "", Some("tls.key_file")),
        (&swapped, "", Some("tls.certificate_file")),
        (&pair(&good.certificate, ""), "", Some("tls.key_file")),
        (&pair("", &good.key), "", Some("tls.certificate_file")),
        (&good, CLIENT_CA, Some("tls.client_ca_file")),
        (&good, "client_certificate = \"optional\"", Some("tls.client_certificate")),
        (&good, "handshake_timeout = \"0s\"", Some("tls.handshake_timeout")),
    ] {
        let lints = Files::new(certificate).settings(more).lint("tls");
        let found = lints.first().map(|lint| &*lint.path);
        assert_eq!(found, key, "{more}: {lints:?}");
        let shown = format!("{lints:?}");
        assert!(!shown.contains(good.key.lines().nth(1).unwrap()), "the key is not shown");
    }
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let key = KeyPair::generate().unwrap();
    let signed = Signed {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
        certificate_file: "certificate.pem".into(),
        key_file: "key.pem".into(),
    };
    let lints = Files::new(&signed).settings("").lint("tls");
    assert_eq!(lints.len(), 1, "{lints:?}");
    assert_eq!(lints[0].severity, transload_adapter::Severity::Warning);
    assert!(lints[0].message.contains("has expired"), "{lints:?}");
}
