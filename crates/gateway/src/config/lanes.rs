//! How messages of a route are sent side by side, and put together.

use std::time::Duration;

use serde_spanned::Spanned;
use transload_routing::{Pattern, Template};

use super::{
    check::Check,
    finding::Finding,
    model::{Batch, BatchFormat},
    settings::{BatchKeys, RouteKeys},
    source::{FileId, Place},
    targets::unknown_captures,
};

/// How many lanes a destination has where the file does not say.
const LANES_DEFAULT: usize = 16;
/// How many it may have.
const LANES_MAX: usize = 256;
/// How many messages are put together where the file does not say.
const BATCH_MESSAGES_DEFAULT: usize = 100;
/// How many may be put together.
const BATCH_MESSAGES_MAX: usize = 10_000;
/// How many bytes are put together where the file does not say.
const BATCH_BYTES_DEFAULT: usize = 1 << 20;
/// How many bytes may be put together, since they are in memory twice.
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// How long a message waits for others where the file does not say.
const BATCH_WAIT_DEFAULT: Duration = Duration::from_secs(1);
/// How long it may wait.
const BATCH_WAIT_MAX: Duration = Duration::from_hours(1);

/// How messages of a route are sent side by side, and put together.
#[derive(Debug)]
pub(super) struct Ordering {
    pub(super) ordered_by: Option<Template>,
    pub(super) lanes: usize,
    pub(super) batch: Option<Batch>,
}

impl Check<'_> {
    /// Reads `ordered_by`, `lanes` and `batch` of a route.
    pub(super) fn ordering(
        &mut self,
        file: FileId,
        keys: &RouteKeys,
        patterns: &[Pattern],
    ) -> Ordering {
        let ordered_by =
            keys.ordered_by.as_ref().and_then(|text| self.ordered_by(file, text, patterns));
        let lanes = keys.lanes.as_ref().map_or(LANES_DEFAULT, |lanes| {
            let number = usize::try_from(lanes.get_ref().get()).unwrap_or(usize::MAX);
            let place = Place { file, span: lanes.span() };
            if number > LANES_MAX {
                let message = format!("expected an integer between 1 and {LANES_MAX}");
                self.report(Finding::error(place, message));
            } else if keys.ordered_by.is_none() {
                let message = "without `ordered_by`, messages go one after the other and lanes \
                               have nothing to do";
                let help = "say `ordered_by = \"{…}\"` too, such as `ordered_by = \"{address}\"`";
                self.report(Finding::error(place, message).with_help(help.to_owned()));
            }
            number
        });
        let batch = keys.batch.as_ref().map(|batch| self.batch(file, batch));
        Ordering { ordered_by, lanes, batch }
    }

    fn ordered_by(
        &mut self,
        file: FileId,
        text: &Spanned<String>,
        patterns: &[Pattern],
    ) -> Option<Template> {
        let span = text.span();
        let template = match Template::parse(text.get_ref()) {
            Ok(template) => template,
            Err(error) => {
                let place = self.inside(file, span, text.get_ref(), error.range.clone());
                self.report(Finding::error(place, error.message).with_help(error.help));
                return None;
            }
        };
        for (range, finding) in unknown_captures(&template, patterns) {
            let place = self.inside(file, span.clone(), text.get_ref(), range);
            self.report(Finding { place: Some(place), ..finding });
        }
        if template.is_constant() {
            let message = "this is the same for every message, so they go one after the other";
            let help = "use what tells apart the messages whose order matters, such as a capture \
                        `{device}`, or leave the key out"
                .to_owned();
            self.report(Finding::warning(Place { file, span }, message).with_help(help));
        }
        Some(template)
    }

    fn batch(&mut self, file: FileId, batch: &Spanned<BatchKeys>) -> Batch {
        let keys = batch.get_ref();
        let messages_max = keys.max_messages.as_ref().map_or(BATCH_MESSAGES_DEFAULT, |number| {
            let given = usize::try_from(number.get_ref().get()).unwrap_or(usize::MAX);
            if given > BATCH_MESSAGES_MAX {
                let message = format!("expected an integer between 1 and {BATCH_MESSAGES_MAX}");
                self.report(Finding::error(Place { file, span: number.span() }, message));
            }
            given
        });
        let bytes_max = keys.max_bytes.as_ref().map_or(BATCH_BYTES_DEFAULT, |size| {
            let given = size.get_ref().get();
            if given == 0 || given > BATCH_BYTES_MAX {
                let message = "expected a size between \"1B\" and \"64MiB\"";
                self.report(Finding::error(Place { file, span: size.span() }, message));
            }
            usize::try_from(given).unwrap_or(usize::MAX)
        });
        let wait_max = keys.max_wait.as_ref().map_or(BATCH_WAIT_DEFAULT, |wait| {
            let given = wait.get_ref().get();
            if given > BATCH_WAIT_MAX {
                let message = "expected a duration of at most \"1h\"";
                self.report(Finding::error(Place { file, span: wait.span() }, message));
            }
            given
        });
        Batch {
            messages_max,
            bytes_max,
            wait_max,
            format: keys.format.unwrap_or(BatchFormat::Json),
        }
    }
}
