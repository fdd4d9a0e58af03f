use std::{fs, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq as _};
use transload_adapter::Secret;
use transload_envelope::Text;
use transload_listen::ClientIdentity;

use crate::listener::{config::AuthSettings, verify::Fault};

/// Whether a request comes from somebody who may send it.
///
/// What is compared are digests, each with each, so that the time that this takes tells nothing
/// about any secret.
#[derive(Debug)]
pub(in crate::listener) struct Authenticator {
    basic: Vec<Credential>,
    bearer: Vec<Credential>,
    certificates: Vec<String>,
}

struct Credential {
    name: Text,
    digest: [u8; 32],
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is known of the other end of a connection.
#[derive(Clone, Debug)]
pub(in crate::listener) struct Peer {
    pub(in crate::listener) address: std::net::SocketAddr,
    pub(in crate::listener) identity: Option<Arc<ClientIdentity>>,
    /// The address, and its IP address, as each message of the connection has them.
    pub(in crate::listener) written: [Text; 2],
}

impl Peer {
    pub(in crate::listener) fn new(
        address: std::net::SocketAddr,
        identity: Option<Arc<ClientIdentity>>,
    ) -> Self {
        let written = [address.to_string().into(), address.ip().to_string().into()];
        Self { address, identity, written }
    }
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::listener) struct User(pub(in crate::listener) Text);

impl Authenticator {
    /// Reads the secrets of the settings.
    pub(in crate::listener) fn new(settings: &AuthSettings) -> Result<Self, Fault> {
        let mut basic = Vec::new();
        for user in &settings.basic {
            let password = secret("basic", user.password.as_ref(), user.password_file.as_deref())?;
            if user.username.contains(':') || user.username.is_empty() {
                return Err(Fault::new("basic", "a user's name is not empty and has no `:` in it"));
            }
            let credential = format!("{}:{password}", user.username);
            basic.push(Credential::new(&user.username, &credential));
        }
        let mut bearer = Vec::new();
        for token in &settings.bearer {
            let secret = secret("bearer", token.token.as_ref(), token.token_file.as_deref())?;
            bearer.push(Credential::new(&token.name, &secret));
        }
        let certificates = settings.client_certificates.clone();
        if basic.is_empty() && bearer.is_empty() && certificates.is_empty() {
            let message = "nobody is named, so nobody could send anything";
            let help = "add `basic`, `bearer` or `client_certificates`";
            return Err(Fault::new("", message).with_help(help));
        }
        Ok(Self { basic, bearer, certificates })
    }

    /// Who sends the request; none if it shows nothing that is good.
    pub(in crate::listener) fn user(&self, peer: &Peer, fields: &HeaderMap) -> Option<User> {
        self.by_certificate(peer).or_else(|| self.by_credential(fields))
    }

    fn by_certificate(&self, peer: &Peer) -> Option<User> {
        let identity = peer.identity.as_ref()?;
        let known = |name: &String| name == "*" || identity.is_named(name);
        let name = identity.name();
        self.certificates.iter().any(known).then(|| User(name.into()))
    }

    fn by_credential(&self, fields: &HeaderMap) -> Option<User> {
        let mut values = fields.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (scheme, given) = value.to_str().ok()?.split_once(' ')?;
        let given = given.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            find(&self.bearer, given.as_bytes())
        } else if scheme.eq_ignore_ascii_case("basic") {
            find(&self.basic, &STANDARD.decode(given).ok()?)
        } else {
            None
        }
    }

    /// What a request without good credentials is told (RFC 9110, section 11.6.1).
    pub(in crate::listener) fn challenge(&self) -> &'static str {
        match (self.basic.is_empty(), self.bearer.is_empty()) {
            (false, false) => {
                "Basic realm=\"transload\", charset=\"UTF-8\", Bearer realm=\"transload\""
            }
            (false, true) => "Basic realm=\"transload\", charset=\"UTF-8\"",
            (true, false) => "Bearer realm=\"transload\"",
            // There is no scheme for certificates; some value is required.
            (true, true) => "Mutual realm=\"transload\"",
        }
    }
}

fn find(known: &[Credential], given: &[u8]) -> Option<User> {
    let given = sha256(given);
    let mut user = None;
    for credential in known {
        let same: Choice = credential.digest.ct_eq(&given);
        if bool::from(same) {
            user = Some(User(credential.name.clone()));
        }
    }
    user
}

impl Credential {
    fn new(name: &str, secret: &str) -> Self {
        Self { name: name.into(), digest: sha256(secret.as_bytes()) }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest_bytes = [0; 32];
    for (to, from) in digest_bytes.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    digest_bytes
}

/// A secret from the settings or from the first line of a file.
fn secret(key: &'static str, given: Option<&Secret>, file: Option<&Path>) -> Result<String, Fault> {
    let text = match (given, file) {
        (Some(secret), None) => secret.expose().to_owned(),
        (None, Some(file)) => {
            let text = fs::read_to_string(file).map_err(|error| {
                let message = format!("cannot read `{}`: {error}", file.display());
                Fault::new(key, message)
                    .with_help("paths are relative to the working directory of the gateway")
            })?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, None) => return Err(Fault::new(key, "somebody has no secret")),
        (Some(_), Some(_)) => return Err(Fault::new(key, "a secret is given twice")),
    };
    if text.is_empty() { Err(Fault::new(key, "a secret is empty")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn authenticator(text: &str) -> Authenticator {
        Authenticator::new(&toml::from_str(text).unwrap()).unwrap()
    }

    fn peer() -> Peer {
        Peer::new("192.0.2.1:1".parse().unwrap(), None)
    }

    fn certified() -> Peer {
        let identity = ClientIdentity {
            subject: "O=Factory, CN=press-1".into(),
            common_name: Some("press-1".into()),
            alternative_names: vec!["press-1.example".into()],
        };
        Peer { identity: Some(Arc::new(identity)), ..peer() }
    }

    fn user(authenticator: &Authenticator, values: &[&str]) -> Option<String> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        authenticator.user(&peer(), &fields).map(|user| user.0.to_string())
    }

    #[test]
    fn each_good_credential_is_taken_and_nothing_else() {
        let authenticator = authenticator(
            "basic = [{ username = 'ann', password = 'a:b' }, { username = 'bob', password = 'c' }]\n\
             bearer = [{ name = 'ci', token = 'tok-1' }, { name = 'old', token = 'tok-2' }]",
        );
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (values, expected) in [
            (vec!["Bearer tok-1".to_owned()], Some("ci")),
            (vec!["bearer  tok-2".to_owned()], Some("old")),
            (vec![basic("ann:a:b")], Some("ann")),
            (vec![basic("bob:c")], Some("bob")),
            (vec![], None),
            (vec!["Bearer tok-3".to_owned()], None),
            (vec!["Bearer tok-".to_owned()], None),
            (vec!["Bearer".to_owned()], None),
            (vec!["Bearer ".to_owned()], None),
            (vec!["Digest tok-1".to_owned()], None),
            (vec!["tok-1".to_owned()], None),
            (vec![basic("tok-1")], None),
            (vec!["Basic tok-1".to_owned()], None),
            (vec![basic("ann:c")], None),
            (vec![basic("ann:")], None),
            (vec![basic(":")], None),
            (vec!["Basic !!!".to_owned()], None),
            (vec!["Bearer tok-1".to_owned(), "Bearer tok-1".to_owned()], None),
            (vec!["Bearer x".to_owned(), "Bearer tok-1".to_owned()], None),
        ] {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(user(&authenticator, &values).as_deref(), expected, "{values:?}");
        }
        assert!(!format!("{authenticator:?}").contains("tok"), "{authenticator:?}");
    }

    #[test]
    fn certificates_are_known_by_their_names() {
        let fields = HeaderMap::new();
        for (names, known) in [
            ("['press-1']", true),
            ("['*']", true),
            ("['press-2', 'O=Factory, CN=press-1']", true),
            ("['press']", false),
        ] {
            let authenticator = authenticator(&format!("client_certificates = {names}"));
            let user = authenticator.user(&certified(), &fields);
            assert_eq!(user, known.then(|| User("press-1".into())), "{names}");
            assert_eq!(authenticator.user(&peer(), &fields), None, "no certificate");
        }
        let other = authenticator("bearer = [{ name = 'ci', token = 'a' }]");
        assert_eq!(other.user(&certified(), &fields), None);
    }

    #[test]
    fn faults_are_found() {
        for (text, key) in [
            ("", ""),
            ("basic = [{ username = 'a:b', password = 'c' }]", "basic"),
            ("basic = [{ username = '', password = 'c' }]", "basic"),
            ("basic = [{ username = 'a' }]", "basic"),
            ("basic = [{ username = 'a', password = '' }]", "basic"),
            ("basic = [{ username = 'a', password = 'b', password_file = 'c' }]", "basic"),
            ("bearer = [{ name = 'a', token_file = '/nonexistent' }]", "bearer"),
        ] {
            let fault = Authenticator::new(&toml::from_str(text).unwrap()).unwrap_err();
            assert_eq!(fault.key, key, "{text}: {fault}");
        }
    }
}
