//! TLS, and users by their certificates.

use std::sync::Arc;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Login, Packet};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use transload_adapter::Event;
use transload_tls::testing::{Authority, Signed};

use crate::common::{Listener, Raw, V5, soon, start, until, v5_connect};

fn settings(authority: &Authority, more: &str) -> String {
    let server = authority.sign("server", &["localhost"]);
    let folder = authority.folder().display().to_string();
    format!("[tls]\n{}{more}", server.settings()).replace("FOLDER", &folder)
}

async fn open(authority: &Authority, listener: &Listener, client: Option<&Signed>) -> Tls {
    let tcp = TcpStream::connect(listener.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(authority.client(client)));
    Tls(soon("a handshake", connector.connect(name, tcp)).await.unwrap())
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
    let authority = Authority::new("root");
    let (press, other) = (authority.sign("press-1", &[]), authority.sign("press-2", &[]));
    let stranger = Authority::new("root").sign("press-1", &[]);
    let listener = start(&settings(&authority, OWN_NAME)).await;
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
        let mut client = open(&authority, &listener, certificate).await;
        assert_eq!(client.connect(client_id, login).await, code, "{shown}");
    }
    until("the handshakes are counted", || listener.count(Event::ConnectionRefused) == 5).await;
}

#[tokio::test]
async fn without_a_certificate_a_client_is_nobody() {
    let authority = Authority::new("root");
    let press = authority.sign("press-1", &[]);
    let optional = "client_ca_file = 'FOLDER/ca.pem'\nclient_certificate = \"optional\"\n";
    let listener = start(&settings(&authority, optional)).await;
    for (certificate, code) in [(Some(&press), 0), (None, 0x87)] {
        let mut client = open(&authority, &listener, certificate).await;
        assert_eq!(client.connect("c", None).await, Some(code));
    }
    let listener = start(&format!("anonymous = true\n{}", settings(&authority, optional))).await;
    let mut client = open(&authority, &listener, None).await;
    assert_eq!(client.connect("c", None).await, Some(0));
}

#[tokio::test]
async fn a_plain_address_stands_beside_and_what_is_no_tls_is_closed() {
    let authority = Authority::new("root");
    let listener = start(&format!("plain = \"127.0.0.1:0\"\n{}", settings(&authority, ""))).await;
    let mut encrypted = open(&authority, &listener, None).await;
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
    let authority = Authority::new("root");
    let tls = settings(&authority, "handshake_timeout = \"200ms\"\n");
    let listener = start(&format!("max_connections_per_address = 2\n{tls}")).await;
    let mut silent = [Raw::open(listener.address).await, Raw::open(listener.address).await];
    let mut third = Raw::open(listener.address).await;
    assert_eq!(third.closed().await, b"");
    for silent in &mut silent {
        assert_eq!(silent.closed().await, b"");
    }
    let mut client = open(&authority, &listener, None).await;
    assert_eq!(client.connect("c", None).await, Some(0));
}
