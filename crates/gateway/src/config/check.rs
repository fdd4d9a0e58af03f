//! What the checks share: where findings go, and what must not be shown in them.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use transload_adapter::{Kind, Lint, Registry, Severity};

use super::{
    document::SecretKeys,
    environment::Environment,
    files,
    finding::Finding,
    recover::{Fault, Recovered},
    schema_view::KindSchemas,
    source::{FileId, Place, Sources},
    toml_text,
    tree::{self, Table},
    watched::Watched,
};

/// One run over all files.
pub(super) struct Check<'a> {
    pub(super) sources: &'a Sources,
    pub(super) registry: &'a Registry,
    pub(super) environment: &'a Environment<'a>,
    pub(super) findings: Vec<Finding>,
    /// Parts of files that are not to be shown.
    pub(super) hidden_spans: Vec<(FileId, Range<usize>)>,
    /// Texts that are not to be shown, and what stands in for them.
    pub(super) hidden_texts: Vec<(String, String)>,
    /// Lines of files that could not be parsed.
    pub(super) broken_lines: HashSet<(FileId, usize)>,
    /// Where in a file a bracket is opened that is never closed.
    pub(super) unclosed: HashMap<FileId, usize>,
    /// Files in which a line could not be parsed, so that something may seem to be missing.
    pub(super) broken_files: HashSet<FileId>,
    /// Strings that had a variable in them, so that places inside them are not known.
    pub(super) expanded: HashSet<(FileId, usize)>,
    /// Files that settings name.
    pub(super) watched: Watched,
    pub(super) secret_keys: SecretKeys,
    /// Whether files are read as a whole, though they are large.
    pub(super) whole: bool,
    /// Whether a file was cut where it must not be, so that all of this is void.
    pub(super) torn: bool,
    schemas: HashMap<(&'static str, &'static str), Arc<KindSchemas>>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        sources: &'a Sources,
        registry: &'a Registry,
        environment: &'a Environment<'a>,
    ) -> Self {
        Self {
            sources,
            registry,
            environment,
            findings: Vec::new(),
            hidden_spans: Vec::new(),
            hidden_texts: Vec::new(),
            broken_lines: HashSet::new(),
            unclosed: HashMap::new(),
            broken_files: HashSet::new(),
            expanded: HashSet::new(),
            watched: Watched::default(),
            secret_keys: SecretKeys::default(),
            whole: false,
            torn: false,
            schemas: HashMap::new(),
        }
    }

    /// One for another piece of the same files, which is to be absorbed in the end.
    pub(super) fn beside(&self) -> Self {
        let schemas = self.schemas.clone();
        Self { schemas, ..Self::new(self.sources, self.registry, self.environment) }
    }

    /// Takes over what another one has found.
    pub(super) fn absorb(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.hidden_spans.extend(other.hidden_spans);
        self.hidden_texts.extend(other.hidden_texts);
        self.broken_lines.extend(other.broken_lines);
        self.unclosed.extend(other.unclosed);
        self.broken_files.extend(other.broken_files);
        self.expanded.extend(other.expanded);
        self.watched.absorb(other.watched);
    }

    /// The schemas of a role, made once.
    pub(super) fn schemas(&mut self, kind: &dyn Kind) -> Arc<KindSchemas> {
        let entry = self.schemas.entry((kind.kind(), kind.role_key()));
        Arc::clone(entry.or_insert_with(|| Arc::new(KindSchemas::new(kind))))
    }

    /// Notes a finding, unless it is about a line that could not be parsed anyway, or about what a
    /// bracket that is never closed has taken in.
    pub(super) fn report(&mut self, finding: Finding) {
        let finding = finding.in_file();
        if let Some(place) = &finding.place {
            let line =
                || self.sources.get(place.file).map(|file| file.position(place.span.start).line);
            let broken = self.broken_files.contains(&place.file)
                && line().is_some_and(|line| self.broken_lines.contains(&(place.file, line)));
            let unclosed = self.unclosed.get(&place.file);
            if broken || unclosed.is_some_and(|open| place.span.start > *open) {
                return;
            }
        }
        self.findings.push(finding);
    }

    /// Notes a finding about a key that is missing, unless it may have stood on a line that could
    /// not be parsed.
    pub(super) fn report_missing(&mut self, finding: Finding) {
        let broken = finding.place.as_ref().map(|place| self.broken_files.contains(&place.file));
        if broken != Some(true) {
            self.report(finding);
        }
    }

    /// Notes the faults of a table. `describe` says which table it is.
    pub(super) fn report_faults(&mut self, file: FileId, faults: Vec<Fault>, table: &str) {
        for Fault { span, worded } in faults {
            let place = Place { file, span };
            if worded.missing {
                let message = format!("{} in {table}", worded.message);
                self.report_missing(Finding::error(place, message));
                continue;
            }
            let mut message = worded.message;
            if self.expanded.contains(&(file, place.span.start)) {
                // What was found came from the environment.
                let end = message.rfind(", found ").or_else(|| message.find(" `"));
                message.truncate(end.unwrap_or(message.len()));
            }
            self.report(Finding::error(place, message).with_help(worded.help));
        }
    }

    /// Notes what an adapter has to say about a table. Where keys were at fault, what it says of
    /// them, of the table as a whole and in general advice may come of that, and is left out.
    pub(super) fn report_lints<T>(
        &mut self,
        file: FileId,
        table: &Table<'_>,
        lints: Vec<Lint>,
        recovered: &Recovered<T>,
    ) {
        for lint in lints {
            let general = lint.path.is_empty() || lint.severity == Severity::Warning;
            let key = lint.path.split('.').next().unwrap_or("");
            if recovered.lost(key) || (general && recovered.damaged()) {
                continue;
            }
            let place = Place { file, span: tree::place(table, &lint.path) };
            self.report(from_lint(place, lint));
        }
    }

    /// The place of some bytes of a string's value; the whole string where that is not known.
    pub(super) fn inside(
        &self,
        file: FileId,
        string: Range<usize>,
        value: &str,
        bytes: Range<usize>,
    ) -> Place {
        let whole = Place { file, span: string.clone() };
        if self.expanded.contains(&(file, string.start)) {
            return whole;
        }
        let written = self.sources.text(file).get(string.clone());
        match written.and_then(|written| toml_text::locate(written, value, bytes)) {
            Some(part) => Place { file, span: string.start + part.start..string.start + part.end },
            None => whole,
        }
    }

    /// The text of a file that holds a secret.
    pub(super) fn read_secret(&mut self, file: FileId, path: &str) -> Result<String, String> {
        let path = files::beside(self.sources, file, path);
        self.watched.file(path.clone());
        let text = files::read_secret(&path)?;
        self.hide_text(&text, "***");
        Ok(text)
    }

    /// Keeps a text out of all messages.
    pub(super) fn hide_text(&mut self, text: &str, instead: &str) {
        /// What is shorter is no secret, and would make messages unreadable.
        const HIDDEN_CHARS_MIN: usize = 3;
        if text.chars().count() >= HIDDEN_CHARS_MIN {
            self.hidden_texts.push((text.to_owned(), instead.to_owned()));
            let escaped: String = text.escape_debug().collect();
            if escaped != text {
                self.hidden_texts.push((escaped, instead.to_owned()));
            }
        }
    }

    /// The findings, without any hidden text.
    pub(super) fn finish(mut self) -> (Vec<Finding>, Vec<(FileId, Range<usize>)>) {
        // The longest first, since one may be part of another.
        self.hidden_texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        self.hidden_texts.dedup();
        for finding in &mut self.findings {
            for (text, instead) in &self.hidden_texts {
                replace_words(&mut finding.message, text, instead);
                if let Some(help) = &mut finding.help {
                    replace_words(help, text, instead);
                }
            }
        }
        let hidden = self.hidden_spans.into_iter().map(|(file, span)| {
            let place = Place { file, span }.in_file();
            (place.file, place.span)
        });
        (self.findings, hidden.collect())
    }
}

/// A finding at the place that a lint is about.
pub(super) fn from_lint(place: Place, lint: Lint) -> Finding {
    let finding = match lint.severity {
        Severity::Error => Finding::error(place, lint.message),
        Severity::Warning => Finding::warning(place, lint.message),
    };
    finding.with_help(lint.help)
}

/// Replaces a text; a short one only where it does not stand inside a longer word.
fn replace_words(text: &mut String, hidden: &str, instead: &str) {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find(hidden)) {
        let (start, end) = (from + found, from + found + hidden.len());
        let before = text.get(..start).and_then(|before| before.chars().next_back());
        let after = text.get(end..).and_then(|after| after.chars().next());
        let inside = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
        let short = hidden.len() < 8;
        if short && (inside(before) || inside(after)) {
            from = end;
        } else {
            text.replace_range(start..end, instead);
            from = start + instead.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_texts_are_replaced_as_words() {
        for (text, expected) in [
            ("cannot parse `abc`", "cannot parse `***`"),
            ("abc", "***"),
            ("abcd xabc abc.", "abcd xabc ***."),
            ("nothing", "nothing"),
        ] {
            let mut text = text.to_owned();
            replace_words(&mut text, "abc", "***");
            assert_eq!(text, expected);
        }
    }
}
