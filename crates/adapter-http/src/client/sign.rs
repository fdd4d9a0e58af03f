//! Signatures of requests: Standard Webhooks.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::Secret;

use crate::{
    listener::sign_standard_webhook,
    secrets::{SecretFault, Secrets},
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Signs every request by Standard Webhooks, so that its receiver can tell that it comes from here
/// and is not an old one. While secrets change, each request has a signature of each.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignSettings {
    /// The secret that is shared with the receiver: `whsec_` and the key in base64.
    pub secret: Option<Secret>,

    /// A file with the secret, or with several, one a line; relative to the working directory.
    pub secret_file: Option<PathBuf>,

    /// Several secrets in the place of one.
    pub secrets: Vec<Secret>,
}

/// Signs requests.
pub(super) struct Signer(Vec<String>);

impl Signer {
    /// Reads the secrets.
    pub(super) fn new(settings: &SignSettings) -> Result<Self, SecretFault> {
        let secrets = Secrets {
            one: settings.secret.as_ref(),
            file: settings.secret_file.as_ref(),
            several: &settings.secrets,
        };
        let signer = Self(secrets.read()?);
        match signer.sign("", 0, &[]) {
            Ok(_) => Ok(signer),
            Err(message) => Err(secrets.fault(message, "write `whsec_` and the key in base64")),
        }
    }

    fn sign(&self, id: &str, time: u64, body: &[u8]) -> Result<String, &'static str> {
        let secrets: Vec<_> = self.0.iter().map(String::as_str).collect();
        sign_standard_webhook(&secrets, id, time, body)
    }

    /// Adds the signature to a request that has its id already. What the message itself says in
    /// these fields, as one that came in as a webhook does, is not of this request.
    pub(super) fn add(&self, body: &[u8], fields: &mut HeaderMap) -> Result<(), &'static str> {
        let id = fields.get(ID).and_then(|id| id.to_str().ok());
        let id = id.ok_or("the message has no id that can be signed")?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.sign(id, time, body)?;
        fields.insert(TIMESTAMP, time.into());
        let signature = HeaderValue::try_from(signature).map_err(|_| "the signature is no text")?;
        fields.insert(SIGNATURE, signature);
        Ok(())
    }
}
