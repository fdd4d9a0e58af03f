use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use transload_adapter::{Lint, units::HumanDuration};
use transload_tls::{TlsFault, certificates, private_key};
use x509_parser::prelude::{FromDer as _, X509Certificate};

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
        let key = private_key("key_file", &self.key_file)?;
        let provider = Arc::new(ring::default_provider());
        let versions = match self.minimum_version {
            MinimumVersion::Tls12 => &[&TLS13, &TLS12][..],
            MinimumVersion::Tls13 => &[&TLS13][..],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsFault::new("minimum_version", error, "choose another version"))?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(file) => builder.with_client_cert_verifier(self.verifier(file, provider)?),
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| TlsFault::of_pair(&error))?;
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
            roots.add(authority).map_err(|error| TlsFault::new("client_ca_file", error, help))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match self.client_certificate {
            ClientCertificate::Required => builder,
            ClientCertificate::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| TlsFault::new("client_ca_file", error, help))
    }
}
