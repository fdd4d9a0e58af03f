//! Authorities, certificates and peers for the tests of all crates.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;

/// An authority, with a folder for its certificate and for what it signs.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

/// A certificate and its key, as texts and in files.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate in PEM.
    pub certificate: String,
    /// The key in PEM.
    pub key: String,
    /// Where the certificate is.
    pub certificate_file: PathBuf,
    /// Where the key is.
    pub key_file: PathBuf,
}

impl Authority {
    /// An authority of its own; two of one name know nothing of each other.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Self { issuer: Issuer::new(params, key), pem, folder }
    }

    /// The folder, which goes with this value.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file with the authority's certificate.
    pub fn file(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// A certificate for `O=Factory, CN=name` with these names or addresses and `urn:device:name`, in
    /// the files `name.pem` and `name.key`.
    pub fn sign(&self, name: &str, alternative: &[&str]) -> Signed {
        let alternative = alternative.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(alternative).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Factory");
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = format!("urn:device:{name}").try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let certificate_file = self.folder().join(format!("{name}.pem"));
        let key_file = self.folder().join(format!("{name}.key"));
        let key = key.serialize_pem();
        fs::write(&certificate_file, &certificate).unwrap();
        fs::write(&key_file, &key).unwrap();
        Signed { certificate, key, certificate_file, key_file }
    }

    /// A client that trusts this authority and shows a certificate.
    pub fn client(&self, shows: Option<&Signed>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        match shows {
            None => builder.with_no_client_auth(),
            Some(signed) => {
                let (chain, key) = signed.pair();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    /// A server that shows this certificate, and lets in only clients of the authority `clients`,
    /// if it is given.
    pub fn server(shows: &Signed, clients: Option<&Self>) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (chain, key) = shows.pair();
        builder.with_single_cert(chain, key).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

impl Signed {
    fn pair(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }

    /// The keys `certificate_file` and `key_file` of a configuration.
    pub fn settings(&self) -> String {
        format!(
            "certificate_file = '{}'\nkey_file = '{}'\n",
            self.certificate_file.display(),
            self.key_file.display()
        )
    }
}
