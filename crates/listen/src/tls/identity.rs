use std::{io, net::IpAddr};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{AttributeTypeAndValue, FromDer as _, X509Certificate},
};

/// How many names of one certificate are looked at; the rest is left out.
const NAMES_MAX: usize = 64;

/// Who a client is by its certificate, which one of the listener's authorities has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The whole subject, such as `O=Factory, CN=press-1`.
    pub subject: String,
    /// The subject's common name, where it has exactly one.
    pub common_name: Option<String>,
    /// The subject's alternative names: DNS names, mail addresses, URIs and IP addresses.
    pub alternative_names: Vec<String>,
}

impl ClientIdentity {
    /// Reads a certificate.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> io::Result<Self> {
        let broken = |_| io::Error::new(io::ErrorKind::InvalidData, "a certificate without sense");
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(broken)?;
        let subject = certificate.subject();
        let mut common_names = subject.iter_common_name().map(AttributeTypeAndValue::as_str);
        let common_name = match (common_names.next(), common_names.next()) {
            (Some(Ok(name)), None) => Some(name.to_owned()),
            _ => None,
        };
        let alternative = match certificate.subject_alternative_name() {
            Ok(Some(names)) => &*names.value.general_names,
            Ok(None) | Err(_) => &[],
        };
        let alternative_names =
            alternative.iter().filter_map(text_of).take(NAMES_MAX).collect::<Vec<_>>();
        Ok(Self { subject: subject.to_string(), common_name, alternative_names })
    }

    /// Whether one of its names is this one: the common name, an alternative name, or the whole
    /// subject.
    pub fn is_named(&self, name: &str) -> bool {
        self.subject == name
            || self.common_name.as_deref() == Some(name)
            || self.alternative_names.iter().any(|alternative| alternative == name)
    }

    /// The one name to call it by: the common name, else the first alternative name, else the whole
    /// subject.
    pub fn name(&self) -> &str {
        self.common_name
            .as_deref()
            .or(self.alternative_names.first().map(String::as_str))
            .unwrap_or(&self.subject)
    }
}

fn text_of(name: &GeneralName<'_>) -> Option<String> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "other kinds of names have no common form as text"
    )]
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let any = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            any.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
