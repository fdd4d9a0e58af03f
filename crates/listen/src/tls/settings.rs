use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use transload_adapter::{Lint, units::HumanDuration};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How many bytes of a file are read; no certificate comes near it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS of a listener. Files are relative to the working directory, and are read again when the
/// configuration is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The file with the listener's certificate in PEM, and behind it those of the authorities
    /// between it and the root.
    pub certificate_file: PathBuf,

    /// The file with the private key of the certificate in PEM.
    pub key_file: PathBuf,

    /// The file with the authorities in PEM that sign the certificates of clients. With it clients
    /// show a certificate; without it none is asked for.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,

    /// Whether a client without a certificate is let in, where `client_ca_file` is given:
    /// `"required"` turns it away, `"optional"` lets it in, to be known by other means. A certificate that is
    /// shown must be good in either case.
    #[serde(default)]
    pub client_certificate: ClientCertificate,

    /// The oldest version of TLS that is spoken.
    #[serde(default)]
    pub minimum_version: MinimumVersion,

    /// How long a handshake may take, from the connection to its end.
    #[serde(default = "handshake_timeout")]
    pub handshake_timeout: HumanDuration,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// Who shows none is turned away.
    #[default]
    Required,
    /// Who shows none is let in.
    Optional,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum MinimumVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

fn handshake_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

/// What is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}; {help}")]
pub struct TlsFault {
    /// The key at fault.
    pub key: &'static str,
    /// What is wrong with it, without its text.
    pub message: String,
    /// The cure.
    pub help: &'static str,
}

impl TlsSettings {
    /// Whether every client has shown a certificate when it is let in.
    pub fn knows_every_client(&self) -> bool {
        self.client_ca_file.is_some() && self.client_certificate == ClientCertificate::Required
    }

    /// The findings about the settings, which stand under `path`, and about the files that they
    /// name.
    pub fn lint(&self, path: &str) -> Vec<Lint> {
        let mut lints = Vec::new();
        match self.server_config(&[]) {
            Ok(_) => lints.extend(self.lint_validity(path)),
            Err(fault) => {
                let key = format!("{path}.{}", fault.key);
                lints.push(Lint::error(key, fault.message).with_help(fault.help));
            }
        }
        if self.client_ca_file.is_none() && self.client_certificate != ClientCertificate::default()
        {
            let message = "no certificate of a client is asked for without `client_ca_file`";
            let key = format!("{path}.client_certificate");
            lints.push(Lint::error(key, message).with_help("add `client_ca_file`"));
        }
        if self.handshake_timeout.get() < Duration::from_millis(10) {
            let key = format!("{path}.handshake_timeout");
            lints.push(Lint::error(key, "the time must be at least 10ms"));
        }
        lints
    }

    /// A certificate outside its time is no reason to refuse the start: those who read it may not
    /// look at the time, and a listener that is away helps nobody.
    fn lint_validity(&self, path: &str) -> Option<Lint> {
        let first =
            certificates("certificate_file", &self.certificate_file).ok()?.into_iter().next()?;
        let (_, certificate) = X509Certificate::from_der(&first).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let now = i64::try_from(now).ok()?;
        let validity = certificate.validity();
        let message = if now > validity.not_after.timestamp() {
            format!("the certificate has expired: it was good until {}", validity.not_after)
        } else if now < validity.not_before.timestamp() {
            format!("the certificate is not good before {}", validity.not_before)
        } else {
            return None;
        };
        let lint = Lint::warning(format!("{path}.certificate_file"), message);
        Some(lint.with_help("have it renewed, or set the clock of this machine"))
    }

    /// What rustls is to do; `alpn` are the protocols to choose from, the preferred one first.
    pub(super) fn server_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsFault> {
        let chain = certificates("certificate_file", &self.certificate_file)?;
        let key = read("key_file", &self.key_file)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            let help = "give the file with the block `-----BEGIN PRIVATE KEY-----`";
            fault("key_file", "there is no private key in PEM in it", help)
        })?;
        let provider = Arc::new(ring::default_provider());
        let versions = match self.minimum_version {
            MinimumVersion::Tls12 => &[&TLS13, &TLS12][..],
            MinimumVersion::Tls13 => &[&TLS13][..],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| fault("minimum_version", error, "choose another version"))?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(file) => builder.with_client_cert_verifier(self.verifier(file, provider)?),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| key_fault(&error))?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn verifier(
        &self,
        authorities: &Path,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
        let help = "give the certificates of the authorities that sign those of the clients";
        let mut roots = RootCertStore::empty();
        for authority in certificates("client_ca_file", authorities)? {
            roots.add(authority).map_err(|error| fault("client_ca_file", error, help))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match self.client_certificate {
            ClientCertificate::Required => builder,
            ClientCertificate::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| fault("client_ca_file", error, help))
    }
}

fn fault(key: &'static str, message: impl fmt::Display, help: &'static str) -> TlsFault {
    TlsFault { key, message: message.to_string(), help }
}

fn key_fault(error: &rustls::Error) -> TlsFault {
    if let rustls::Error::InconsistentKeys(_) = error {
        let message = "the private key does not belong to the certificate";
        return fault("key_file", message, "give the key that the certificate was made with");
    }
    if let rustls::Error::InvalidCertificate(_) = error {
        let help = "give the listener's own certificate first";
        return fault("certificate_file", format!("the certificate cannot be used: {error}"), help);
    }
    let help = "give a key for RSA, ECDSA P-256 or P-384, or Ed25519";
    fault("key_file", format!("the private key cannot be used: {error}"), help)
}

/// The certificates of a file in PEM, at least one.
fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let help = "give a file with blocks `-----BEGIN CERTIFICATE-----`";
    let text = read(key, file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(list) if list.is_empty() => {
            Err(fault(key, "there is no certificate in PEM in it", help))
        }
        Ok(list) => Ok(list),
        Err(error) => Err(fault(key, format!("a certificate cannot be read: {error}"), help)),
    }
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, TlsFault> {
    let unreadable = |reason: String| {
        let help = "paths are relative to the working directory of the gateway";
        fault(key, format!("cannot read `{}`: {reason}", file.display()), help)
    };
    let size = fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(file).map_err(|error| unreadable(error.to_string()))
}
