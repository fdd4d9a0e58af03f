//! Reading certificates and keys.

use std::{fmt, fs, path::Path};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// How many bytes of a file are read; no certificate comes near it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with the settings of TLS.
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

impl TlsFault {
    /// Says what is wrong with a key.
    pub fn new(key: &'static str, message: impl fmt::Display, help: &'static str) -> Self {
        Self { key, message: message.to_string(), help }
    }

    /// A certificate and a key that rustls cannot use as a pair.
    pub fn of_pair(error: &rustls::Error) -> Self {
        if let rustls::Error::InconsistentKeys(_) = error {
            let message = "the private key does not belong to the certificate";
            return Self::new(
                "key_file",
                message,
                "give the key that the certificate was made with",
            );
        }
        if let rustls::Error::InvalidCertificate(_) = error {
            let help = "give the own certificate first, those of its authorities behind it";
            let message = format!("the certificate cannot be used: {error}");
            return Self::new("certificate_file", message, help);
        }
        let help = "give a key for RSA, ECDSA P-256 or P-384, or Ed25519";
        Self::new("key_file", format!("the private key cannot be used: {error}"), help)
    }
}

/// The certificates of a file in PEM, at least one. `key` is the setting that names the file.
pub fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let help = "give a file with blocks `-----BEGIN CERTIFICATE-----`";
    let text = read(key, file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(list) if list.is_empty() => {
            Err(TlsFault::new(key, "there is no certificate in PEM in it", help))
        }
        Ok(list) => Ok(list),
        Err(error) => {
            Err(TlsFault::new(key, format!("a certificate cannot be read: {error}"), help))
        }
    }
}

/// The private key in a file in PEM. `key` is the setting that names the file.
pub fn private_key(key: &'static str, file: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let text = read(key, file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let help = "give the file with the block `-----BEGIN PRIVATE KEY-----`";
        TlsFault::new(key, "there is no private key in PEM in it", help)
    })
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, TlsFault> {
    let unreadable = |reason: String| {
        let help = "paths are relative to the working directory of the gateway";
        TlsFault::new(key, format!("cannot read `{}`: {reason}", file.display()), help)
    };
    let size = fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(file).map_err(|error| unreadable(error.to_string()))
}
