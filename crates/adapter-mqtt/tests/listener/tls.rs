//! TLS, and users by their certificates.

use std::sync::Arc;

use bytes::BytesMut;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Login, Packet};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};
use transload_adapter::Event;

use crate::common::{Listener, Raw, V5, soon, start, until, v5_connect};

/// An authority, and files of what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// A certificate and its key, in files of this name.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        std::fs::write(self.folder.path().join(format!("{name}.pem")), &pem).unwrap();
        std::fs::write(self.folder.path().join(format!("{name}.key")), key.serialize_pem())
            .unwrap();
        (pem, key.serialize_pem())
    }

    fn settings(&self, more: &str) -> String {
        let folder = self.folder.path().display();
        format!("[tls]\ncertificate_file = '{folder}/server.pem'\nkey_file = '{folder}/server.key'\n{more}")
            .replace("FOLDER", &folder.to_string())
    }

    async fn open(&self, listener: &Listener, client: Option<&(String, String)>) -> Tls {
        let mut roots = RootCertStore::empty();
        let ca = std::fs::read(self.folder.path().join("ca.pem")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let tcp = TcpStream::connect(listener.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Tls(soon("a handshake", connector.connect(name, tcp)).await.unwrap())
    }
}

struct Tls(TlsStream<TcpStream>);

impl Tls {
    /// What CONNECT as this user is answered; `None` when the connection ends without an answer.
    async fn connect(&mut self, client_id: &str, login: Option<Login>) -> Option<u8> {
        let mut bytes = BytesMut::new();
        Packet::Connect(v5_connect(client_id), None, login).write(&mut bytes, None).unwrap();
        self.0.write_all(&bytes).await.ok()?;
        self.0.flush().await.ok()?;
        let mut answer = [0; 4];
        soon("an answer", self.0.read_exact(&mut answer)).await.ok()?;
        Some(answer[3])
    }
}

fn login(name: &str) -> Login {
    Login { username: name.into(), password: "x".into() }
}

/// Only `press-1` is let in, under its own name.
const OWN_NAME: &str = "client_ca_file = 'FOLDER/ca.pem'\n\
    [[permissions]]\nusers = [\"press-1\"]\nclient_ids = [\"{user}\"]\n";

#[tokio::test]
async fn a_certificate_says_who_a_client_is() {
    let authority = Authority::new();
    authority.sign("server");
    let (press, other) = (authority.sign("press-1"), authority.sign("press-2"));
    let stranger = Authority::new().sign("press-1");
    let listener = start(&authority.settings(OWN_NAME)).await;
    for (certificate, client_id, login, code) in [
        (Some(&press), "press-1", None, Some(0)),
        (Some(&press), "press-1", Some(login("press-1")), Some(0)),
        (Some(&press), "press-1", Some(login("press-2")), Some(0x86)),
        (Some(&press), "press-2", None, Some(0x87)),
        (Some(&other), "press-1", None, Some(0x87)),
        (Some(&stranger), "press-1", None, None),
        (None, "press-1", None, None),
    ] {
        let shown = format!("{client_id} {login:?} {code:?}");
        let mut client = authority.open(&listener, certificate).await;
        assert_eq!(client.connect(client_id, login).await, code, "{shown}");
    }
    until("the handshakes are counted", || listener.count(Event::ConnectionRefused) == 5).await;
}

#[tokio::test]
async fn without_a_certificate_a_client_is_nobody() {
    let authority = Authority::new();
    authority.sign("server");
    let press = authority.sign("press-1");
    let optional = "client_ca_file = 'FOLDER/ca.pem'\nclient_certificate = \"optional\"\n";
    let listener = start(&authority.settings(optional)).await;
    for (certificate, code) in [(Some(&press), 0), (None, 0x87)] {
        let mut client = authority.open(&listener, certificate).await;
        assert_eq!(client.connect("c", None).await, Some(code));
    }
    let listener = start(&format!("anonymous = true\n{}", authority.settings(optional))).await;
    let mut client = authority.open(&listener, None).await;
    assert_eq!(client.connect("c", None).await, Some(0));
}

#[tokio::test]
async fn a_plain_address_stands_beside_and_what_is_no_tls_is_closed() {
    let authority = Authority::new();
    authority.sign("server");
    let listener = start(&format!("plain = \"127.0.0.1:0\"\n{}", authority.settings(""))).await;
    let mut encrypted = authority.open(&listener, None).await;
    assert_eq!(encrypted.connect("a", None).await, Some(0));
    let mut plain = V5::open(listener.plain.unwrap()).await;
    let connack = plain.connect(v5_connect("b")).await;
    assert_eq!(connack.code, ConnectReturnCode::Success);
    let mut wrong = Raw::open(listener.address).await;
    let mut connect = BytesMut::new();
    Packet::Connect(v5_connect("c"), None, None).write(&mut connect, None).unwrap();
    wrong.write(&connect).await;
    let said = wrong.closed().await;
    assert!(!said.starts_with(&[0x20]), "{said:x?}");
}

#[tokio::test]
async fn the_handshake_of_a_peer_that_says_nothing_ends_and_the_bound_of_its_address_holds() {
    let authority = Authority::new();
    authority.sign("server");
    let settings = authority.settings("handshake_timeout = \"200ms\"\n");
    let listener = start(&format!("max_connections_per_address = 2\n{settings}")).await;
    let mut silent = [Raw::open(listener.address).await, Raw::open(listener.address).await];
    let mut third = Raw::open(listener.address).await;
    assert_eq!(third.closed().await, b"");
    for silent in &mut silent {
        assert_eq!(silent.closed().await, b"");
    }
    let mut client = authority.open(&listener, None).await;
    assert_eq!(client.connect("c", None).await, Some(0));
}
