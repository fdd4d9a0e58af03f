//! TLS of a connection that the gateway opens.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::{ConnectError, Lint};

use crate::{TlsFault, certificates, private_key};

/// Whom a connection trusts, and the certificate that it shows. Files are relative to the working
/// directory, and are read again for each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// The file with the certificate authorities in PEM to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,

    /// The file with this client's certificate in PEM, and behind it those of the authorities between
    /// it and the root.
    pub certificate_file: Option<PathBuf>,

    /// The file with the private key of the certificate in PEM.
    pub key_file: Option<PathBuf>,
}

impl ClientTls {
    /// Whether a certificate is shown.
    pub fn shows_certificate(&self) -> bool {
        self.certificate_file.is_some()
    }

    /// The findings about the settings, which stand under `path`, and about the files that they name.
    /// The system's certificates are not looked at: they need not be there where the settings are
    /// checked.
    pub fn lint(&self, path: &str) -> Vec<Lint> {
        let roots = match &self.ca_file {
            Some(_) => self.roots().map(drop),
            None => Ok(()),
        };
        let identity = self.identified(RootCertStore::empty()).map(drop);
        let faults = [roots, identity].into_iter().filter_map(Result::err);
        let lint = |fault: TlsFault| {
            Lint::error(format!("{path}.{}", fault.key), fault.message).with_help(fault.help)
        };
        faults.map(lint).collect()
    }

    /// What rustls is to do; `alpn` are the protocols to ask for, the preferred one first. Reads the
    /// files, so it takes a thread of its own.
    ///
    /// A fault of a file is a refusal and no reason to give up: its cure is a new file, and whoever
    /// writes a certificate and its key may be between the two.
    pub async fn config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, ConnectError> {
        let settings = self.clone();
        let refused = |reason: String| ConnectError::Refused { reason: reason.into() };
        let read = move || settings.roots().and_then(|roots| settings.identified(roots));
        let mut config = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(config)) => config,
            Ok(Err(TlsFault { key, message, help })) => {
                return Err(refused(format!("tls.{key}: {message}; {help}")));
            }
            Err(error) => return Err(refused(format!("tls: {error}"))),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TlsFault> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca_file {
            let help = "give the certificates of the authorities that sign those of the peer";
            for authority in certificates("ca_file", file)? {
                roots.add(authority).map_err(|error| TlsFault::new("ca_file", error, help))?;
            }
            return Ok(roots);
        }
        // Some of a system's certificates are often unreadable, which is no reason to trust none.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let message = "the system has no certificate authorities to trust";
            return Err(TlsFault::new("ca_file", message, "install them, or give this file"));
        }
        Ok(roots)
    }

    fn identified(&self, roots: RootCertStore) -> Result<ClientConfig, TlsFault> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFault::new("ca_file", error, "build the gateway with TLS 1.3"))?
            .with_root_certificates(roots);
        match (&self.certificate_file, &self.key_file) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(_), None) => Err(half("key_file")),
            (None, Some(_)) => Err(half("certificate_file")),
            (Some(certificate), Some(key)) => {
                let chain = certificates("certificate_file", certificate)?;
                let key = private_key("key_file", key)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| TlsFault::of_pair(&error))
            }
        }
    }
}

fn half(missing: &'static str) -> TlsFault {
    let message = "`certificate_file` and `key_file` belong together";
    TlsFault::new(missing, message, "give both, or none")
}
