//! Secrets of which several may be good at once, while one is changed for another.

use std::{fs, path::PathBuf};

use transload_adapter::Secret;

/// The keys that hold them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secrets<'a> {
    pub(crate) one: Option<&'a Secret>,
    pub(crate) file: Option<&'a PathBuf>,
    pub(crate) several: &'a [Secret],
}

/// What is wrong with them, at which key; none where all keys are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretFault {
    pub(crate) key: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) help: &'static str,
}

impl Secrets<'_> {
    /// The secrets, at least one, none of them empty.
    pub(crate) fn read(&self) -> Result<Vec<String>, SecretFault> {
        let fault = |message: &str, help| Err(self.fault(message, help));
        let given = [self.one.is_some(), self.file.is_some(), !self.several.is_empty()];
        if given.iter().filter(|given| **given).count() > 1 {
            return fault("secrets are given in two places", "leave one of them out");
        }
        let secrets: Vec<String> = if let Some(file) = self.file {
            let text = fs::read_to_string(file).map_err(|error| {
                let help = "paths are relative to the working directory of the gateway";
                self.fault(&format!("cannot read `{}`: {error}", file.display()), help)
            })?;
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        } else {
            let given = self.one.into_iter().chain(self.several);
            given.map(|secret| secret.expose().to_owned()).collect()
        };
        if secrets.is_empty() {
            return fault("there is no secret", "add `secret_file`, or `secret = \"${VARIABLE}\"`");
        }
        if secrets.iter().any(String::is_empty) {
            return fault("a secret is empty", "leave it out, or fill it in");
        }
        Ok(secrets)
    }

    pub(crate) fn fault(&self, message: &str, help: &'static str) -> SecretFault {
        let key = if self.file.is_some() {
            Some("secret_file")
        } else if !self.several.is_empty() {
            Some("secrets")
        } else {
            self.one.map(|_| "secret")
        };
        SecretFault { key, message: message.to_owned(), help }
    }
}
