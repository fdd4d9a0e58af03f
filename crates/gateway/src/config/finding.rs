use std::collections::HashSet;

use transload_adapter::Severity;

use super::source::{Place, Sources};

/// Something to say about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where; absent when it is about no file in particular.
    pub place: Option<Place>,
    /// How to cure it, in one sentence without a full stop.
    pub help: Option<String>,
    /// Other places that have to do with it, and what is there.
    pub related: Vec<(Place, String)>,
}

impl Finding {
    /// A finding that keeps the gateway from starting.
    pub(super) fn error(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: place.into(),
            help: None,
            related: Vec::new(),
        }
    }

    /// A finding that somebody should look at.
    pub(super) fn warning(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// The same with all places counted from the starts of their files.
    pub(super) fn in_file(mut self) -> Self {
        self.place = self.place.as_ref().map(Place::in_file);
        for (place, _) in &mut self.related {
            *place = place.in_file();
        }
        self
    }

    /// Adds the cure.
    #[must_use]
    pub(super) fn with_help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// Adds another place.
    #[must_use]
    pub(super) fn with_related(mut self, place: Place, what: impl Into<String>) -> Self {
        self.related.push((place, what.into()));
        self
    }
}

/// All that there is to say about a configuration.
#[derive(Debug, Default)]
pub struct Report {
    /// The files.
    pub sources: Sources,
    /// The findings in the order of the files and their lines.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings keep the gateway from starting.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// How many findings somebody should look at.
    pub fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }

    /// Makes every warning an error.
    pub fn be_strict(&mut self) {
        for finding in &mut self.findings {
            finding.severity = Severity::Error;
        }
    }

    /// Puts the findings in the order of the files, and drops repeats of one message at one place.
    pub(super) fn sort(&mut self) {
        let mut seen = HashSet::new();
        self.findings
            .retain(|finding| seen.insert((finding.place.clone(), finding.message.clone())));
        self.findings.sort_by_key(|finding| {
            finding.place.as_ref().map(|place| (place.file, place.span.start, place.span.end))
        });
    }
}
