//! The table `[gateway]`.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_spanned::Spanned;
use toml::de::Deserializer;
use transload_adapter::{Secret, units::HumanDuration};
use transload_delivery::dead_letters::Bounds;

use super::{
    check::Check,
    finding::Finding,
    model::{GatewaySettings, Unrouted},
    recover,
    settings::{DeadLetterKeys, GatewayKeys},
    source::{FileId, Place},
    tree::{self, Value},
};

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("transload-data"),
            admin: None,
            admin_token: None,
            drain_timeout: Duration::from_secs(10),
            disk_bytes_max: 10 << 30,
            dead_letters: Bounds::default(),
            reload_on_change: true,
            unrouted: Unrouted::default(),
            recent_bytes_max: 1 << 20,
            telemetry: None,
        }
    }
}

impl<'a> Check<'a> {
    /// Reads the settings of the gateway itself.
    pub(super) fn gateway(&mut self, file: FileId, value: Value<'a>) -> GatewaySettings {
        /// A journal needs room for a few segments.
        const DISK_BYTES_MIN: u64 = 64 << 20;
        let mut settings = GatewaySettings::default();
        let mut table = match tree::into_table(value) {
            Ok(table) => table,
            Err(value) => {
                let message = format!("expected a table, found {}", value.get_ref().type_str());
                self.report(Finding::error(Place { file, span: value.span() }, message));
                return settings;
            }
        };
        let recovered = recover::read(&mut table, &[], |table| {
            GatewayKeys::deserialize(Deserializer::from(table.clone()))
        });
        self.report_faults(file, recovered.faults, "`[gateway]`");
        let Some(keys) = recovered.value else { return settings };
        if let Some(data_dir) = keys.data_dir {
            settings.data_dir = data_dir;
        }
        if let Some(drain_timeout) = keys.drain_timeout {
            settings.drain_timeout = drain_timeout.get();
        }
        if let Some(bytes) = keys.max_disk_bytes {
            settings.disk_bytes_max = bytes.get_ref().get();
            if settings.disk_bytes_max < DISK_BYTES_MIN {
                let place = Place { file, span: bytes.span() };
                self.report(Finding::error(place, "expected at least \"64MiB\""));
            }
        }
        if let Some(reload) = keys.reload_on_change {
            settings.reload_on_change = reload;
        }
        settings.unrouted = keys.unrouted.unwrap_or_default();
        if let Some(bytes) = keys.recent_messages {
            settings.recent_bytes_max = bytes.as_usize();
        }
        if let Some(keys) = keys.dead_letters {
            settings.dead_letters = bounds(&keys);
        }
        let has_token = keys.admin_token.is_some() || keys.admin_token_file.is_some();
        settings.admin_token = self.admin_token(file, keys.admin_token, keys.admin_token_file);
        if let Some(admin) = keys.admin {
            let address = admin.get_ref().0;
            settings.admin = Some(address);
            let open = !has_token && !keys.insecure_without_authentication;
            if !address.ip().is_loopback() && open {
                let place = Place { file, span: admin.span() };
                let help = "use \"127.0.0.1:…\", give an `admin_token_file`, or say \
                            `insecure_without_authentication = true`"
                    .to_owned();
                let message = "other machines can reach this address, and it asks nobody for a \
                               token";
                self.report(Finding::error(place, message).with_help(help));
            }
        }
        settings
    }
}

impl Check<'_> {
    /// The token of the admin address; something stands in for one that is at fault, so that no
    /// address is ever taken for one without a token.
    fn admin_token(
        &mut self,
        file: FileId,
        written: Option<Spanned<Secret>>,
        path: Option<Spanned<String>>,
    ) -> Option<Secret> {
        /// What is shorter can be guessed.
        const TOKEN_CHARS_MIN: usize = 16;
        let (place, token) = match (written, path) {
            (Some(_), Some(path)) => {
                let place = Place { file, span: path.span() };
                self.report(Finding::error(place, "the token is given in `admin_token` too"));
                return Some(Secret::default());
            }
            (Some(token), None) => (Place { file, span: token.span() }, token.into_inner()),
            (None, Some(path)) => {
                let place = Place { file, span: path.span() };
                match self.read_secret(file, path.get_ref()) {
                    Ok(text) => (place, Secret::new(text)),
                    Err(message) => {
                        self.report(Finding::error(place, message));
                        return Some(Secret::default());
                    }
                }
            }
            (None, None) => return None,
        };
        let fits = |character: char| character.is_ascii_graphic();
        let text = token.expose();
        if text.chars().count() < TOKEN_CHARS_MIN || !text.chars().all(fits) {
            let help = "make one with `openssl rand -hex 32`".to_owned();
            let message = format!(
                "expected at least {TOKEN_CHARS_MIN} printable ASCII characters without spaces"
            );
            self.report(Finding::error(place, message).with_help(help));
        }
        Some(token)
    }
}

fn bounds(keys: &DeadLetterKeys) -> Bounds {
    let default = Bounds::default();
    Bounds {
        messages_max: keys.max_messages.map_or(default.messages_max, NonZeroU64::get),
        bytes_max: keys.max_bytes.map_or(default.bytes_max, |bytes| bytes.get().max(1)),
        age_max: keys.max_age.map(HumanDuration::get),
    }
}
