#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ClientTls;
use crate::testing::{Authority, Signed};

fn settings(ca: Option<&Authority>, shows: Option<&Signed>) -> ClientTls {
    ClientTls {
        ca_file: ca.map(Authority::file),
        certificate_file: shows.map(|signed| signed.certificate_file.clone()),
        key_file: shows.map(|signed| signed.key_file.clone()),
    }
}

/// What a client with these settings and a server come to: the client's error, or whether the
/// server has let it in.
async fn meet(settings: &ClientTls, server: rustls::ServerConfig) -> Result<bool, String> {
    let config = settings.config(&[]).await.map_err(|error| error.to_string())?;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
    let accepting = async {
        let (accepted, _) = socket.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(server)).accept(accepted).await.is_ok()
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (connected, accepted) = tokio::join!(connector.connect(name, client), accepting);
    connected.map(|_| accepted).map_err(|error| error.to_string())
}

#[tokio::test]
async fn only_the_named_authority_is_trusted_and_the_certificate_is_shown() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let web = own.sign("web", &["localhost"]);
    let client = own.sign("client", &[]);
    let server = || Authority::server(&web, Some(&own));
    assert_eq!(meet(&settings(Some(&own), Some(&client)), server()).await, Ok(true));
    assert_eq!(meet(&settings(Some(&own), None), server()).await, Ok(false));
    let stranger = other.sign("client", &[]);
    assert_eq!(meet(&settings(Some(&own), Some(&stranger)), server()).await, Ok(false));
    let error = meet(&settings(Some(&other), Some(&client)), server()).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let elsewhere = own.sign("elsewhere", &["elsewhere.example"]);
    let server = Authority::server(&elsewhere, None);
    let error = meet(&settings(Some(&own), None), server).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn faults_are_found_at_their_keys_without_the_text_of_a_key() {
    let authority = Authority::new("own");
    let (good, other) = (authority.sign("good", &[]), authority.sign("other", &[]));
    let mixed = Signed { key_file: other.key_file.clone(), ..good.clone() };
    let swapped = Signed {
        certificate_file: good.key_file.clone(),
        key_file: good.certificate_file.clone(),
        ..good.clone()
    };
    let half = ClientTls { key_file: None, ..settings(None, Some(&good)) };
    let missing = ClientTls { ca_file: Some("/nowhere/ca.pem".into()), ..ClientTls::default() };
    let no_authority = ClientTls { ca_file: Some(good.key_file.clone()), ..ClientTls::default() };
    for (tls, key) in [
        (settings(Some(&authority), Some(&good)), None),
        (ClientTls::default(), None),
        (settings(None, Some(&mixed)), Some("tls.key_file")),
        (settings(None, Some(&swapped)), Some("tls.certificate_file")),
        (half, Some("tls.key_file")),
        (missing, Some("tls.ca_file")),
        (no_authority, Some("tls.ca_file")),
    ] {
        let lints = tls.lint("tls");
        assert_eq!(lints.first().map(|lint| &*lint.path), key, "{tls:?}: {lints:?}");
        let told = match (key, tls.config(&[]).await) {
            (Some(_), result) => result.map(drop).unwrap_err().to_string(),
            (None, _) => continue,
        };
        assert!(key.is_none_or(|key| told.contains(key)), "{told}");
        let secret = good.key.lines().nth(1).unwrap();
        assert!(!format!("{lints:?} {told}").contains(secret), "{told}");
    }
}

#[test]
fn unknown_keys_are_named() {
    let error = toml::from_str::<ClientTls>("ca = 'x'").unwrap_err().to_string();
    assert!(error.contains("ca_file"), "{error}");
}
