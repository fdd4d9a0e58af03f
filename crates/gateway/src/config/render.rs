//! Findings as people and programs read them.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};
use transload_adapter::Severity;

use super::{
    finding::{Finding, Report},
    source::{FileId, Place, Source},
};

impl Report {
    /// All findings like the messages of rustc: file, line, column, the line itself, help. Ends
    /// with a summary line; empty when there is nothing to say.
    pub fn render(&self, colored: bool) -> String {
        if self.findings.is_empty() {
            return String::new();
        }
        let renderer = if colored { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&renderer.render(&self.groups(finding)));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// One line such as `2 errors, 1 warning`.
    pub fn summary(&self) -> String {
        let count = |number: usize, what: &str| match number {
            0 => None,
            1 => Some(format!("1 {what}")),
            _ => Some(format!("{number} {what}s")),
        };
        let parts = [count(self.errors(), "error"), count(self.warnings(), "warning")];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") }
    }

    /// All findings for programs: an object with `ok`, `errors`, `warnings` and `findings`, whose
    /// lines and columns count from 1.
    pub fn to_json(&self) -> Value {
        let findings: Vec<_> =
            self.findings.iter().map(|finding| self.finding_json(finding)).collect();
        json!({
            "ok": self.errors() == 0,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "findings": findings,
        })
    }

    fn groups<'a>(&'a self, finding: &'a Finding) -> Vec<Group<'a>> {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(finding.message.as_str());
        let mut group = Group::with_title(title);
        for snippet in self.snippets(finding) {
            group = group.element(snippet);
        }
        if let Some(help) = &finding.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        vec![group]
    }

    /// One excerpt for each file, the one with the finding first.
    fn snippets<'a>(&'a self, finding: &'a Finding) -> Vec<Snippet<'a, Annotation<'a>>> {
        let mut marks: Vec<(FileId, Vec<Mark<'a>>)> = Vec::new();
        let primary = finding.place.iter().map(|place| (place, AnnotationKind::Primary, None));
        let related = finding
            .related
            .iter()
            .map(|(place, what)| (place, AnnotationKind::Context, Some(what.as_str())));
        for (place, kind, label) in primary.chain(related) {
            let Some(source) = self.sources.get(place.file) else { continue };
            let mark = Mark { span: first_line(source.shown(), place), kind, label };
            match marks.iter_mut().find(|(file, _)| *file == place.file) {
                Some((_, marks)) => marks.push(mark),
                None => marks.push((place.file, vec![mark])),
            }
        }
        let snippet = |(file, marks): (_, Vec<_>)| Some(excerpt(self.sources.get(file)?, &marks));
        marks.into_iter().filter_map(snippet).collect()
    }

    fn finding_json(&self, finding: &Finding) -> Value {
        let mut object = json!({
            "severity": match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "message": finding.message,
        });
        let place = finding.place.as_ref().and_then(|place| self.place_json(place));
        let related: Vec<_> = finding
            .related
            .iter()
            .filter_map(|(place, what)| {
                let mut related = self.place_json(place)?;
                related.as_object_mut()?.insert("message".to_owned(), json!(what));
                Some(related)
            })
            .collect();
        if let Some(members) = object.as_object_mut() {
            if let Some(Value::Object(place)) = place {
                members.extend(place);
            }
            if let Some(help) = &finding.help {
                members.insert("help".to_owned(), json!(help));
            }
            if !related.is_empty() {
                members.insert("related".to_owned(), Value::Array(related));
            }
        }
        object
    }

    fn place_json(&self, place: &Place) -> Option<Value> {
        let source = self.sources.get(place.file)?;
        let start = source.position(place.span.start);
        let end = source.position(place.span.end);
        Some(json!({
            "file": source.path.display().to_string(),
            "line": start.line,
            "column": start.column,
            "end_line": end.line,
            "end_column": end.column,
        }))
    }
}

/// What is marked in an excerpt.
struct Mark<'a> {
    span: Range<usize>,
    kind: AnnotationKind,
    label: Option<&'a str>,
}

/// The lines of a file from the first mark to the last: a large file is not gone through for each of
/// its findings.
fn excerpt<'a>(source: &'a Source, marks: &[Mark<'a>]) -> Snippet<'a, Annotation<'a>> {
    let start = marks.iter().map(|mark| mark.span.start).min().unwrap_or(0);
    let end = marks.iter().map(|mark| mark.span.end).max().unwrap_or(start);
    let (line, lines) = source.lines_of(&(start..end));
    let text = source.shown().get(lines.clone()).unwrap_or("");
    let annotations = marks.iter().map(|Mark { span, kind, label }| {
        kind.span(span.start - lines.start..span.end - lines.start).label(*label)
    });
    let path = source.path.display().to_string();
    Snippet::source(text).line_start(line).path(path).annotations(annotations)
}

/// What of a place is underlined: up to the end of its first line, so that a multi-line text does
/// not fill the screen.
fn first_line(text: &str, place: &Place) -> Range<usize> {
    let start = place.span.start.min(text.len());
    let part = text.get(start..place.span.end.min(text.len())).unwrap_or("");
    let line = part.lines().next().unwrap_or("");
    start..start + line.len()
}
