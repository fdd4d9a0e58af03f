//! How requests go out, as the files that the settings name were when they were read.

use http::HeaderMap;
use reqwest::{Client, redirect, retry};
use rustls::{RootCertStore, crypto::ring};
use std::sync::Arc;
use transload_adapter::ConnectError;
use transload_envelope::Text;
use transload_tls::ClientTls;
use url::Url;

use super::{
    config::{self, ClientConfig},
    credentials::fixed_headers,
    oauth2::Tokens,
    resolve::{self, Resolver},
    sign::Signer,
};
use crate::error;

/// The protocols to ask a server for.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Everything that files of the settings have a part in.
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) base: Url,
    pub(super) fixed: HeaderMap,
    pub(super) signer: Option<Signer>,
    pub(super) tokens: Option<Tokens>,
}

impl Wire {
    /// Reads the files.
    pub(super) async fn read(config: &ClientConfig, adapter: &Text) -> Result<Self, ConnectError> {
        let mut base = config::base(config).map_err(unusable)?;
        let mut resolver =
            Resolver { instead: None, block_private: config.block_private_addresses };
        let tokens = match &config.oauth2 {
            None => None,
            Some(settings) => {
                let url = settings.url().map_err(unusable)?;
                let tls = settings.tls.as_ref().unwrap_or(&config.tls);
                let client = client(config, &url, tls, resolver.clone()).await?;
                Some(Tokens::new(settings, url, client, adapter.clone()))
            }
        };
        if let Some(name) = &config.server_name {
            let host = base.host_str().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            resolver.instead = Some((name.clone(), host));
            base.set_host(Some(name))
                .map_err(|_| unusable("`server_name` is no name of a host"))?;
        }
        let signer = config.sign.as_ref().map(Signer::new).transpose();
        let signer = signer.map_err(|fault| unusable(format!("sign: {}", fault.message)))?;
        Ok(Self {
            client: client(config, &base, &config.tls, resolver).await?,
            base,
            fixed: fixed_headers(config)?,
            signer,
            tokens,
        })
    }
}

/// A client for one server.
async fn client(
    config: &ClientConfig,
    url: &Url,
    tls: &ClientTls,
    resolver: Resolver,
) -> Result<Client, ConnectError> {
    let private = resolve::literal(url).filter(|address| resolve::is_private(*address));
    if let Some(address) = private.filter(|_| resolver.block_private) {
        let reason = format!("{address} is private, and `block_private_addresses` is set");
        return Err(unusable(reason));
    }
    let tls = match url.scheme() {
        "https" => tls.config(&ALPN).await?,
        // The system's certificates are not needed, and there may be none.
        _ => rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(&config.user_agent)
        .timeout(config.timeout.get())
        .connect_timeout(config.connect_timeout.get())
        .dns_resolver(resolver)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .build()
        .map_err(|error| unusable(error::causes(&error)))
}

fn unusable(reason: impl Into<Text>) -> ConnectError {
    ConnectError::Unusable { reason: reason.into() }
}
