//! The appends of one message to its queues.

use std::sync::Arc;

use transload_adapter::store::{Append, AppendTo};
use transload_envelope::Envelope;

/// Makes one append of each message, however many queues it goes to: of the original, and of each
/// that a rule has made of it, whose targets stand one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Grouped {
    unchanged: Vec<AppendTo>,
    shaped: Vec<(Arc<Envelope>, Vec<AppendTo>)>,
}

impl Grouped {
    /// With room for so many targets of the original.
    pub(crate) fn with_capacity(targets: usize) -> Self {
        Self { unchanged: Vec::with_capacity(targets), shaped: Vec::new() }
    }

    pub(crate) fn add(&mut self, envelope: Option<Arc<Envelope>>, to: AppendTo) {
        match (envelope, self.shaped.last_mut()) {
            (None, _) => self.unchanged.push(to),
            (Some(envelope), Some((last, queues))) if Arc::ptr_eq(last, &envelope) => {
                queues.push(to);
            }
            (Some(envelope), _) => self.shaped.push((envelope, vec![to])),
        }
    }

    pub(crate) fn finish(self, original: Envelope, appends: &mut Vec<Append>) {
        if !self.unchanged.is_empty() {
            appends.push(Append { envelope: original, to: self.unchanged });
        }
        appends.extend(
            self.shaped
                .into_iter()
                .map(|(envelope, to)| Append { envelope: Arc::unwrap_or_clone(envelope), to }),
        );
    }
}

/// One append of each message, for targets that are known.
pub(crate) fn group(
    original: Envelope,
    targets: impl IntoIterator<Item = (Option<Arc<Envelope>>, AppendTo)>,
    appends: &mut Vec<Append>,
) {
    let mut grouped = Grouped::default();
    for (envelope, to) in targets {
        grouped.add(envelope, to);
    }
    grouped.finish(original, appends);
}
