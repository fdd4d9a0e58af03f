use std::{ops::Range, path::PathBuf};

/// One of the files of a configuration, by its number in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// A part of a file, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The bytes; on character boundaries and inside the file.
    pub span: Range<usize>,
}

/// A line and a column, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// The text of one file.
#[derive(Debug)]
pub struct Source {
    /// As it was given or found.
    pub path: PathBuf,
    /// What was read.
    pub text: String,
    /// What may be shown, where that is not all: the same text of the same length, in which secrets
    /// are asterisks.
    shown: Option<String>,
}

/// The files that a configuration was read from.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file.
    pub(super) fn add(&mut self, path: PathBuf, text: String) -> FileId {
        self.0.push(Source { path, text, shown: None });
        FileId(self.0.len() - 1)
    }

    /// The files in the order in which they were read.
    pub fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..self.0.len()).map(FileId)
    }

    /// A file; `None` for an id of other sources.
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.0.get(file.0)
    }

    /// The text of a file; empty for an id of other sources.
    pub fn text(&self, file: FileId) -> &str {
        self.get(file).map_or("", |source| &source.text)
    }

    /// Hides these parts of a file wherever it is shown.
    pub(super) fn hide(&mut self, file: FileId, spans: &[Range<usize>]) {
        let Some(source) = self.0.get_mut(file.0) else { return };
        for span in spans {
            let shown = source.shown.get_or_insert_with(|| source.text.clone());
            let Some(part) = shown.get(span.clone()) else { continue };
            // One asterisk for each byte, so that every other place stays where it is.
            let hidden: String = part
                .bytes()
                .map(|byte| if matches!(byte, b'\n' | b'\r') { char::from(byte) } else { '*' })
                .collect();
            shown.replace_range(span.clone(), &hidden);
        }
    }
}

impl Source {
    /// The text with its secrets hidden.
    pub fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or(&self.text)
    }

    /// Where a byte of the text is.
    pub fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        Position { line: before.matches('\n').count() + 1, column }
    }
}
