//! One connection to one of the servers.
//!
//! Invariants:
//! - A connection is made once. When it is lost everything on it ends, and the gateway decides when
//!   another one is made: so nothing that was buffered for the old one can arrive late.
//! - Secrets are read when connecting and are never part of an error.

use std::{path::Path, sync::Arc};

use nkeys::KeyPair;
use tokio::time::timeout;
use transload_adapter::{ConnectError, Context, Secret};

use crate::{
    client::{Client, Frames, Identity, Login, ServerAddress},
    config::NatsConfig,
    link::Link,
};

/// The first token of the subjects of replies, unless the settings say another.
const INBOX_PREFIX: &str = "_INBOX";

/// Connects to the first server that lets us in.
pub(crate) async fn connect(
    config: &NatsConfig,
    context: &Context,
) -> Result<(Client, Arc<Link>), ConnectError> {
    let mut last = unusable("there is no server to connect to");
    for url in config.url.list() {
        let address: ServerAddress =
            url.expose().parse().map_err(|_| unusable("a server's URL cannot be read"))?;
        // A failed attempt ends its own link and no other.
        let link = Link::new(Arc::clone(&context.observer));
        let login = login(config, context, &address).await?;
        let attempt =
            Client::connect(&address, login, config.ping_interval.get(), &link, &context.tasks);
        let silent = |_| ConnectError::Unreachable("the server does not answer".into());
        match timeout(config.connect_timeout.get(), attempt).await.map_err(silent).flatten() {
            Ok(client) => return Ok((client, link)),
            Err(error) => {
                tracing::debug!(%address, %error, "no connection to this server");
                last = last.or(error);
            }
        }
    }
    Err(last)
}

/// Waits until the server has taken everything that it was told so far.
pub(crate) async fn settled(
    config: &NatsConfig,
    client: &Client,
    link: &Link,
) -> Result<(), ConnectError> {
    let proof = async {
        let read = client.prove(Frames::default()).await.ok()?;
        read.await.ok()
    };
    match timeout(config.connect_timeout.get(), proof).await {
        Ok(Some(())) if !link.is_lost() => Ok(()),
        Ok(_) => {
            link.lost().await;
            Err(ConnectError::Refused { reason: link.reason().to_string().into() })
        }
        Err(_) => Err(ConnectError::Unreachable("the server does not answer".into())),
    }
}

async fn login(
    config: &NatsConfig,
    context: &Context,
    address: &ServerAddress,
) -> Result<Login, ConnectError> {
    Ok(Login {
        name: format!("transload {}", context.name),
        identity: identity(config, address).await?,
        tls: config.tls.clone(),
        inbox_prefix: config.inbox_prefix.as_deref().unwrap_or(INBOX_PREFIX).into(),
    })
}

async fn identity(config: &NatsConfig, address: &ServerAddress) -> Result<Identity, ConnectError> {
    if let Some(file) = &config.credentials_file {
        let text = read(file).await?;
        return credentials(text.expose())
            .ok_or_else(|| unusable(&format!("{} is not a credentials file", file.display())));
    }
    if let Some(file) = &config.nkey_file {
        let key = KeyPair::from_seed(&first_line(file).await?);
        let key = key.map_err(|_| unusable(&format!("{} holds no seed", file.display())))?;
        return Ok(Identity::Key { key: Box::new(key), jwt: None });
    }
    if let Some(token) = &config.token {
        return Ok(Identity::Token(Secret::new(token.expose())));
    }
    if let Some(file) = &config.token_file {
        return Ok(Identity::Token(Secret::new(first_line(file).await?)));
    }
    if let Some(name) = config.username.clone() {
        let password = match (&config.password, &config.password_file) {
            (Some(password), _) => Secret::new(password.expose()),
            (None, Some(file)) => Secret::new(first_line(file).await?),
            (None, None) => Secret::new(""),
        };
        return Ok(Identity::User { name, password });
    }
    Ok(match (address.username(), address.password().map(Secret::new)) {
        (Some(name), Some(password)) => Identity::User { name, password },
        // A name alone is a token, as other clients of NATS have it.
        (Some(token), None) => Identity::Token(Secret::new(token)),
        (None, _) => Identity::Nobody,
    })
}

/// Reads a credentials file: a JWT and the seed of its key, each between two lines of dashes with
/// their names. <https://docs.nats.io/using-nats/developer/connecting/creds>
fn credentials(text: &str) -> Option<Identity> {
    let mut parts = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("---") && line.contains("BEGIN") {
            parts.push(lines.find(|line| !line.is_empty())?);
        }
    }
    let [jwt, seed] = *parts else { return None };
    let key = Box::new(KeyPair::from_seed(seed).ok()?);
    Some(Identity::Key { key, jwt: Some(Secret::new(jwt)) })
}

async fn read(file: &Path) -> Result<Secret, ConnectError> {
    let path = file.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    match text {
        Ok(Ok(text)) => Ok(Secret::new(text)),
        Ok(Err(error)) => Err(unusable(&format!("cannot read {}: {error}", file.display()))),
        Err(error) => Err(unusable(&format!("cannot read {}: {error}", file.display()))),
    }
}

async fn first_line(file: &Path) -> Result<String, ConnectError> {
    let text = read(file).await?;
    Ok(text.expose().lines().next().unwrap_or_default().trim().to_owned())
}

fn unusable(reason: &str) -> ConnectError {
    ConnectError::Unusable { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_read() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.x-_\r\n------END NATS USER JWT------\r\n\n\
             ************************* IMPORTANT *************************\n\
             NKEYs are sensitive.\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n\
             ------END USER NKEY SEED------\n"
        );
        let Some(Identity::Key { key: read, jwt: Some(jwt) }) = credentials(&text) else {
            panic!("not read")
        };
        assert_eq!((read.public_key(), jwt.expose()), (key.public_key(), "eyJ0.e30.x-_"));
        for bad in ["", "-----BEGIN NATS USER JWT-----", &text.replace(&seed, "SUAX")] {
            assert!(credentials(bad).is_none(), "{bad}");
        }
    }
}
