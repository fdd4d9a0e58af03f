//! What a route promises: its guarantee, and the queue that keeps it.

use transload_adapter::store::{QueueSettings, Storage};

use super::{
    adapters::Adapters,
    check::Check,
    finding::Finding,
    model::Guarantee,
    routes::Parts,
    settings::{QueueKeys, RouteKeys, StorageKey},
    source::{FileId, Place},
};

impl Check<'_> {
    /// The guarantee and the queue of a route; `None` where its targets are not known.
    pub(super) fn promise(
        &mut self,
        file: FileId,
        parts: &Parts,
        keys: &RouteKeys,
        adapters: &Adapters<'_>,
    ) -> Option<(Guarantee, QueueSettings)> {
        let sources = parts.from.iter().filter_map(|number| {
            let adapter = adapters.get(*number)?;
            Some((adapter.name.as_str(), adapter.prepared.as_ref()?.source()))
        });
        let unaware: Vec<_> = sources
            .clone()
            .filter(|(_, source)| !source.acknowledges && !source.refuses)
            .map(|(name, _)| name)
            .collect();
        let all_unaware = unaware.len() == sources.count();
        let mut unconfirmed = Vec::new();
        for target in &parts.targets {
            if !target.target.as_ref()?.capabilities.confirms {
                unconfirmed.push(target);
            }
        }
        let nothing_to_keep =
            keys.reply.is_some() || all_unaware && unconfirmed.len() == parts.targets.len();
        let given = keys.guarantee.as_ref().map(|guarantee| *guarantee.get_ref());
        let guarantee = given.unwrap_or(if nothing_to_keep {
            Guarantee::BestEffort
        } else {
            Guarantee::Stored
        });
        if let Some(written) = &keys.guarantee {
            let place = Place { file, span: written.span() };
            if guarantee != Guarantee::BestEffort && parts.explicit_from {
                self.lint_unaware(&place, guarantee, &unaware);
            }
            if guarantee == Guarantee::Delivered {
                for target in unconfirmed {
                    let name = adapters.get(target.adapter).map_or("", |adapter| &adapter.name);
                    let message = format!(
                        "`{name}` does not confirm what it is sent here, so \"delivered\" only \
                         means that the message was sent"
                    );
                    let finding = Finding::warning(place.clone(), message);
                    self.report(finding.with_related(target.place.clone(), "this target"));
                }
            }
        }
        let queue = keys.queue.as_ref();
        let settings = queue_settings(queue.map(serde_spanned::Spanned::get_ref), guarantee);
        if let Some(queue) = queue {
            self.lint_queue(&Place { file, span: queue.span() }, queue.get_ref(), guarantee);
        }
        Some((guarantee, settings))
    }

    /// A source that does not wait to hear of its message can promise nothing to its sender.
    fn lint_unaware(&mut self, place: &Place, guarantee: Guarantee, unaware: &[&str]) {
        for name in unaware {
            let message = match guarantee {
                Guarantee::Delivered => format!(
                    "`{name}` does not wait for an acknowledgement, so a message that was not \
                     delivered when the gateway ends is lost"
                ),
                Guarantee::Stored | Guarantee::BestEffort => format!(
                    "`{name}` does not wait for an acknowledgement, so a message that was not \
                     stored when the gateway ends is lost"
                ),
            };
            self.report(Finding::warning(place.clone(), message));
        }
    }

    fn lint_queue(&mut self, place: &Place, queue: &QueueKeys, guarantee: Guarantee) {
        match (guarantee, queue.storage) {
            (Guarantee::Stored, Some(StorageKey::Memory)) => {
                let help = "use \"disk\", or `guarantee = \"delivered\"` or \"best-effort\"";
                let message = "the guarantee \"stored\" needs a queue on disk";
                self.report(Finding::error(place.clone(), message).with_help(help.to_owned()));
            }
            (Guarantee::Delivered, Some(StorageKey::Disk)) => {
                let message = "what is not delivered when the gateway ends comes again from its \
                               source and from this queue";
                let help = "leave `storage` out, or use `guarantee = \"stored\"`".to_owned();
                self.report(Finding::warning(place.clone(), message).with_help(help));
            }
            (Guarantee::Stored | Guarantee::Delivered | Guarantee::BestEffort, _) => {}
        }
        if queue.max_bytes.as_ref().is_some_and(|bytes| bytes.get_ref().get() == 0) {
            let message = "`max_bytes` must be at least 1";
            self.report(Finding::error(place.clone(), message));
        }
    }
}

/// The bounds of a queue, with defaults where the file does not say.
fn queue_settings(keys: Option<&QueueKeys>, guarantee: Guarantee) -> QueueSettings {
    let none = QueueKeys::default();
    let keys = keys.unwrap_or(&none);
    let storage = match keys.storage {
        Some(StorageKey::Disk) => Storage::Disk,
        None if guarantee == Guarantee::Stored => Storage::Disk,
        Some(StorageKey::Memory) | None => Storage::Memory,
    };
    let (messages, bytes) = match storage {
        Storage::Disk => (1_000_000, 1 << 30),
        Storage::Memory => (100_000, 32 << 20),
    };
    QueueSettings {
        storage,
        messages_max: keys.max_messages.map_or(messages, std::num::NonZeroU64::get),
        bytes_max: keys.max_bytes.as_ref().map_or(bytes, |size| size.get_ref().get()),
        age_max: keys.max_age.map(Into::into),
    }
}
