//! The key `deduplicate` of every adapter.

use std::time::Duration;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use super::{
    check::Check,
    finding::Finding,
    model::{Deduplicate, DeduplicateBy},
    recover,
    settings::DeduplicateKeys,
    source::{FileId, Place},
    tree,
};

/// How long an accepted message is remembered where the file does not say.
const WINDOW_DEFAULT: Duration = Duration::from_mins(10);
/// How many are remembered where the file does not say.
const IDS_MAX_DEFAULT: usize = 100_000;
/// How many may be remembered, since all are in memory.
const IDS_MAX_MAX: usize = 10_000_000;

impl<'a> Check<'a> {
    /// Takes the key out of an adapter's table.
    pub(super) fn deduplicate(
        &mut self,
        file: FileId,
        table: &mut DeTable<'a>,
    ) -> Option<Deduplicate> {
        let mut table = match tree::into_table(table.remove("deduplicate")?) {
            Ok(table) => table,
            Err(value) => {
                let message = format!("expected a table, found {}", value.get_ref().type_str());
                let help = "write `deduplicate = { window = \"10m\" }`".to_owned();
                let place = Place { file, span: value.span() };
                self.report(Finding::error(place, message).with_help(help));
                return None;
            }
        };
        let recovered = recover::read(&mut table, &[], |table| {
            DeduplicateKeys::deserialize(Deserializer::from(table.clone()))
        });
        self.report_faults(file, recovered.faults, "`deduplicate`");
        let keys = recovered.value?;
        let window = keys.window.as_ref().map_or(WINDOW_DEFAULT, |window| window.get_ref().get());
        if let (true, Some(window)) = (window.is_zero(), &keys.window) {
            let place = Place { file, span: window.span() };
            self.report(Finding::error(place, "expected a duration of more than nothing"));
        }
        let ids = keys.max_ids.as_ref().and_then(|ids| usize::try_from(ids.get_ref().get()).ok());
        let ids_max = ids.unwrap_or(IDS_MAX_DEFAULT);
        if let (true, Some(ids)) = (ids_max > IDS_MAX_MAX, &keys.max_ids) {
            let place = Place { file, span: ids.span() };
            let message = format!("expected an integer between 1 and {IDS_MAX_MAX}");
            self.report(Finding::error(place, message));
        }
        let by = match &keys.by {
            None => DeduplicateBy::Id,
            Some(by) => {
                let place = Place { file, span: by.span() };
                by_of(by.get_ref()).or_else(|| {
                    let message = "expected \"id\" or \"header:NAME\"";
                    self.report(Finding::error(place, message));
                    None
                })?
            }
        };
        Some(Deduplicate { window, ids_max, by })
    }
}

fn by_of(text: &str) -> Option<DeduplicateBy> {
    if text == "id" {
        return Some(DeduplicateBy::Id);
    }
    let name = text.strip_prefix("header:").filter(|name| !name.is_empty())?;
    Some(DeduplicateBy::Header(name.into()))
}
