//! The header fields that every request carries, with the credentials among them.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use transload_adapter::{ConnectError, Secret};
use transload_envelope::Text;

use super::config::ClientConfig;

/// The fields of every request. Reads the files of secrets.
pub(super) fn fixed_headers(config: &ClientConfig) -> Result<HeaderMap, ConnectError> {
    let mut fields = HeaderMap::new();
    for (name, value) in &config.headers {
        let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name), HeaderValue::from_str(value.expose()))
        else {
            return Err(unusable(format!("the header field `{name}` cannot be sent")));
        };
        value.set_sensitive(true);
        fields.insert(name, value);
    }
    let token = read_secret(config.bearer_token.as_ref(), config.bearer_token_file.as_ref())?;
    let authorization = match (&config.username, token) {
        (_, Some(token)) => Some(format!("Bearer {}", token.trim())),
        (Some(username), None) => {
            let password = read_secret(config.password.as_ref(), config.password_file.as_ref())?;
            let password = password.unwrap_or_default();
            let password = password.trim_end_matches(['\r', '\n']);
            Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
        }
        (None, None) => None,
    };
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::from_str(&authorization)
            .map_err(|_| unusable("the credentials cannot be sent in a header field"))?;
        value.set_sensitive(true);
        fields.insert(AUTHORIZATION, value);
    }
    Ok(fields)
}

fn read_secret(
    secret: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<String>, ConnectError> {
    match (secret, file) {
        (Some(secret), _) => Ok(Some(secret.expose().to_owned())),
        (None, Some(file)) => match fs::read_to_string(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(unusable(format!("cannot read {}: {error}", file.display()))),
        },
        (None, None) => Ok(None),
    }
}

fn unusable(reason: impl Into<Text>) -> ConnectError {
    ConnectError::Unusable { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ClientConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn credentials_become_sensitive_fields() {
        let fields =
            fixed_headers(&config("url = \"https://a\"\nusername = \"u\"\npassword = \"p\""));
        let fields = fields.unwrap();
        assert_eq!(fields[AUTHORIZATION], "Basic dTpw");
        assert!(fields[AUTHORIZATION].is_sensitive());
        let missing = config("url = \"https://a\"\nbearer_token_file = \"/nonexistent/token\"");
        let error = fixed_headers(&missing).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/token"), "{error}");
        let shown = format!("{:?}", config("url = \"https://a\"\nbearer_token = \"hush\""));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
