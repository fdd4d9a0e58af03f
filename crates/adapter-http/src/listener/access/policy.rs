//! What is asked of the requests to each path.
//!
//! Invariants:
//! - Of the paths in the settings, the first that matches counts, alone.
//! - As soon as anything of a listener asks for credentials, whatever is not named asks for them too,
//!   or is closed; it is open only where the settings say so in so many words.
//! - A signature speaks for the message that it signs. It lets nobody read.

use std::sync::Arc;

use http::Method;
use transload_adapter::units::ByteSize;
use transload_routing::{Index, Pattern};

use super::{Authenticator, Limits};
use crate::listener::{
    config::{IntakeMethod, ListenerConfig, PathSettings},
    verify::{Fault, Verifier},
};

/// Who may send to a path.
#[derive(Clone, Copy, Debug)]
pub(in crate::listener) enum Access<'a> {
    /// Everybody.
    Open,
    /// Nobody: nothing says who may.
    Closed,
    /// Who shows a good credential.
    Credential(&'a Authenticator),
    /// Whose message is signed.
    Signature(&'a Verifier),
    /// Who shows a good credential, if the message is signed.
    Both(&'a Authenticator, &'a Verifier),
}

/// Who may read from a path.
#[derive(Clone, Copy, Debug)]
pub(in crate::listener) enum Reading<'a> {
    /// Everybody.
    Open,
    /// Nobody.
    Closed,
    /// Who shows a good credential.
    Credential(&'a Authenticator),
}

/// What is asked of the requests to a path.
#[derive(Debug)]
pub(in crate::listener) struct Policy {
    pub(in crate::listener) methods: Vec<Method>,
    pub(in crate::listener) content_types: Vec<String>,
    pub(in crate::listener) body_bytes_max: usize,
    pub(in crate::listener) decode_gzip: bool,
    pub(in crate::listener) webhook_origins: Vec<String>,
    pub(in crate::listener) limits: Option<Arc<Limits>>,
    authenticator: Option<Arc<Authenticator>>,
    verifier: Option<Verifier>,
    open: bool,
}

impl Policy {
    pub(in crate::listener) fn access(&self) -> Access<'_> {
        match (&self.authenticator, &self.verifier) {
            (Some(authenticator), Some(verifier)) => Access::Both(authenticator, verifier),
            (Some(authenticator), None) => Access::Credential(authenticator),
            (None, Some(verifier)) => Access::Signature(verifier),
            (None, None) if self.open => Access::Open,
            (None, None) => Access::Closed,
        }
    }

    pub(in crate::listener) fn reading(&self) -> Reading<'_> {
        match &self.authenticator {
            Some(authenticator) => Reading::Credential(authenticator),
            None if self.open => Reading::Open,
            None => Reading::Closed,
        }
    }

    pub(in crate::listener) fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }
}

/// What is asked of the requests to all paths of a listener.
#[derive(Debug)]
pub(in crate::listener) struct Policies {
    paths: Vec<Policy>,
    index: Index<usize>,
    others: Policy,
    /// Of all requests, whichever their path.
    pub(in crate::listener) limits: Option<Arc<Limits>>,
}

/// Where in the settings a fault is.
#[derive(Debug)]
pub(in crate::listener) struct FaultAt {
    pub(in crate::listener) path: String,
    pub(in crate::listener) fault: Fault,
}

impl Policies {
    /// Reads the secrets of the settings. What has been counted so far against a rate goes on from
    /// `before`.
    pub(in crate::listener) fn new(
        config: &ListenerConfig,
        before: Option<&Self>,
    ) -> Result<Self, FaultAt> {
        let at = |path: &str| {
            let path = path.to_owned();
            move |fault| FaultAt { path, fault }
        };
        let shared = match &config.auth {
            Some(auth) => Some(Arc::new(Authenticator::new(auth).map_err(at("auth"))?)),
            None => None,
        };
        let limits = match before {
            Some(before) => before.limits.clone(),
            None => config.rate_limit.as_ref().map(Limits::new).map(Arc::new),
        };
        let others = Policy {
            methods: methods(&[]),
            content_types: config.content_types.clone(),
            body_bytes_max: config.max_body_bytes.as_usize(),
            decode_gzip: config.decode_gzip,
            webhook_origins: config.webhook_origins.clone(),
            limits: None,
            authenticator: shared.clone(),
            verifier: None,
            open: shared.is_none() && config.is_open(),
        };
        let mut policies = Self { paths: Vec::new(), index: Index::new(), others, limits };
        for (place, settings) in config.path.iter().enumerate() {
            let before = before.and_then(|before| before.paths.get(place));
            let policy = policies.path(config, settings, shared.as_ref(), before);
            let policy = policy.map_err(|(key, fault)| {
                at(&format!("path.{place}{}{key}", if key.is_empty() { "" } else { "." }))(fault)
            })?;
            policies.paths.push(policy);
            for pattern in &settings.pattern.0 {
                let pattern = Pattern::parse(pattern).map_err(|error| {
                    let fault = Fault::new("match", error.to_string());
                    at(&format!("path.{place}"))(fault)
                })?;
                policies.index.insert(&pattern, place, ());
            }
        }
        Ok(policies)
    }

    fn path(
        &self,
        config: &ListenerConfig,
        settings: &PathSettings,
        shared: Option<&Arc<Authenticator>>,
        before: Option<&Policy>,
    ) -> Result<Policy, (&'static str, Fault)> {
        let others = &self.others;
        let verifier = match &settings.verify {
            Some(verify) => Some(Verifier::new(verify).map_err(|fault| ("verify", fault))?),
            None => None,
        };
        let own = match &settings.auth {
            Some(auth) => {
                Some(Arc::new(Authenticator::new(auth).map_err(|fault| ("auth", fault))?))
            }
            None => None,
        };
        // Senders of webhooks sign, and have no credential of ours.
        let inherits = verifier.is_none() && !settings.insecure_without_authentication;
        let authenticator = own.or_else(|| shared.filter(|_| inherits).cloned());
        let may_be_open =
            settings.insecure_without_authentication || verifier.is_none() && config.is_open();
        Ok(Policy {
            methods: methods(&settings.methods),
            content_types: settings
                .content_types
                .clone()
                .unwrap_or_else(|| others.content_types.clone()),
            body_bytes_max: settings
                .max_body_bytes
                .map_or(others.body_bytes_max, ByteSize::as_usize),
            decode_gzip: settings.decode_gzip.unwrap_or(others.decode_gzip),
            webhook_origins: settings
                .webhook_origins
                .clone()
                .unwrap_or_else(|| others.webhook_origins.clone()),
            limits: match before {
                Some(before) => before.limits.clone(),
                None => settings.rate_limit.as_ref().map(Limits::new).map(Arc::new),
            },
            open: authenticator.is_none() && may_be_open,
            authenticator,
            verifier,
        })
    }

    /// What is asked of the requests to this address.
    pub(in crate::listener) fn of(&self, address: &str) -> &Policy {
        let mut first = None::<usize>;
        self.index.matches(address, |place, ()| {
            first = Some(first.map_or(*place, |first| first.min(*place)));
        });
        first.and_then(|place| self.paths.get(place)).unwrap_or(&self.others)
    }
}

fn methods(wanted: &[IntakeMethod]) -> Vec<Method> {
    if wanted.is_empty() {
        return vec![Method::POST, Method::PUT];
    }
    wanted.iter().map(|method| (*method).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(text: &str) -> Policies {
        let text = format!("listen = '127.0.0.1:0'\n{text}");
        Policies::new(&toml::from_str(&text).unwrap(), None).unwrap()
    }

    fn shown(policies: &Policies, address: &str) -> [&'static str; 2] {
        let policy = policies.of(address);
        let access = match policy.access() {
            Access::Open => "open",
            Access::Closed => "closed",
            Access::Credential(_) => "credential",
            Access::Signature(_) => "signature",
            Access::Both(..) => "both",
        };
        let reading = match policy.reading() {
            Reading::Open => "open",
            Reading::Closed => "closed",
            Reading::Credential(_) => "credential",
        };
        [access, reading]
    }

    const AUTH: &str = "auth = { bearer = [{ name = 'a', token = 'b' }] }\n";
    const GITHUB: &str =
        "[[path]]\nmatch = 'hooks/github'\nverify = { scheme = 'github', secret = 'a' }\n";

    #[test]
    fn what_is_not_named_is_closed_as_soon_as_anything_is() {
        for (text, address, expected) in [
            ("", "a", ["open", "open"]),
            ("insecure_without_authentication = true", "a", ["open", "open"]),
            (AUTH, "a", ["credential", "credential"]),
            (GITHUB, "hooks/github", ["signature", "closed"]),
            (GITHUB, "hooks/gitlab", ["closed", "closed"]),
            (GITHUB, "streams/a", ["closed", "closed"]),
            (&format!("insecure_without_authentication = true\n{GITHUB}"), "a", ["open", "open"]),
            (
                &format!("insecure_without_authentication = true\n{GITHUB}"),
                "hooks/github",
                ["signature", "closed"],
            ),
            (&format!("{AUTH}{GITHUB}"), "hooks/github", ["signature", "closed"]),
            (&format!("{AUTH}{GITHUB}"), "a", ["credential", "credential"]),
            (&format!("{GITHUB}{AUTH}"), "hooks/github", ["both", "credential"]),
            (
                &format!("{AUTH}[[path]]\nmatch = 'a/#'\ninsecure_without_authentication = true"),
                "a/b",
                ["open", "open"],
            ),
            (&format!("{AUTH}[[path]]\nmatch = 'a/#'"), "a/b", ["credential", "credential"]),
            (&format!("[[path]]\nmatch = 'a/#'\n{AUTH}"), "a/b", ["credential", "credential"]),
            (&format!("[[path]]\nmatch = 'a/#'\n{AUTH}"), "b", ["closed", "closed"]),
        ] {
            assert_eq!(shown(&policies(text), address), expected, "{text} {address}");
        }
    }

    #[test]
    fn the_first_path_that_matches_counts_alone() {
        let policies = policies(
            "max_body_bytes = 100\n\
             [[path]]\nmatch = ['a/b', 'c/+']\nmax_body_bytes = 1\nmethods = ['PATCH']\n\
             [[path]]\nmatch = 'a/#'\nmax_body_bytes = 2\n\
             [[path]]\nmatch = 'a/b'\nmax_body_bytes = 3",
        );
        for (address, bytes) in [("a/b", 1), ("c/d", 1), ("a/c", 2), ("a", 2), ("d", 100)] {
            assert_eq!(policies.of(address).body_bytes_max, bytes, "{address}");
        }
        assert_eq!(policies.of("a/b").methods, [Method::PATCH]);
        assert_eq!(policies.of("d").methods, [Method::POST, Method::PUT]);
    }
}
