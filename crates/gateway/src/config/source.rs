use std::{ops::Range, path::PathBuf, sync::OnceLock};

/// One of the files of a configuration, by its number in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    number: u32,
    /// Where the piece of the file begins that places are counted from; 0 in all places that a
    /// report has.
    start: u32,
}

impl FileId {
    fn of(number: usize) -> Self {
        Self { number: u32::try_from(number).unwrap_or(u32::MAX), start: 0 }
    }

    /// The piece of a file from a byte on; `None` where the file is too large for that.
    pub(super) fn piece_at(self, start: usize) -> Option<Self> {
        Some(Self { start: u32::try_from(start).ok()?, ..self })
    }
}

/// A part of a file, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The bytes; on character boundaries and inside the file.
    pub span: Range<usize>,
}

impl Place {
    /// The same place, counted from the start of the file.
    pub(super) fn in_file(&self) -> Self {
        let FileId { number, start } = self.file;
        let from = start as usize;
        let span = self.span.start + from..self.span.end + from;
        Self { file: FileId { number, start: 0 }, span }
    }
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
    /// Where each line starts, once somebody has asked for a position.
    line_starts: OnceLock<Vec<usize>>,
}

/// The files that a configuration was read from.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file.
    pub(super) fn add(&mut self, path: PathBuf, text: String) -> FileId {
        self.0.push(Source { path, text, shown: None, line_starts: OnceLock::new() });
        FileId::of(self.0.len() - 1)
    }

    /// The files in the order in which they were read.
    pub fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..self.0.len()).map(FileId::of)
    }

    /// A file; `None` for an id of other sources.
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.0.get(file.number as usize)
    }

    /// The text of a file, or of a piece of it and what follows; empty for an id of other sources.
    pub fn text(&self, file: FileId) -> &str {
        let text = self.get(file).and_then(|source| source.text.get(file.start as usize..));
        text.unwrap_or_default()
    }

    /// Hides these parts of a file wherever it is shown.
    pub(super) fn hide(&mut self, file: FileId, spans: &[Range<usize>]) {
        let Some(source) = self.0.get_mut(file.number as usize) else { return };
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
        let offset = if self.text.is_char_boundary(offset) { offset } else { self.text.len() };
        let (line, start) = self.line_at(offset);
        let column = self.text.get(start..offset).unwrap_or("").chars().count() + 1;
        Position { line, column }
    }

    /// The whole lines that a part of the text is on, and the number of the first of them.
    pub(super) fn lines_of(&self, part: &Range<usize>) -> (usize, Range<usize>) {
        let (first, start) = self.line_at(part.start);
        let (last, _) = self.line_at(part.end);
        let end = self.line_starts().get(last).copied();
        (first, start..end.unwrap_or(self.text.len()))
    }

    /// The number of the line that a byte is on, from 1 on, and where it starts.
    fn line_at(&self, offset: usize) -> (usize, usize) {
        let starts = self.line_starts();
        let line = starts.partition_point(|start| *start <= offset);
        (line, line.checked_sub(1).and_then(|line| starts.get(line)).copied().unwrap_or(0))
    }

    /// Each of very many findings asks where it is.
    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let ends = self.text.match_indices('\n').map(|(end, _)| end + 1);
            std::iter::once(0).chain(ends).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_lines_and_columns() {
        let mut sources = Sources::default();
        let file = sources.add("x".into(), "é = 1\r\n\nlast".to_owned());
        let source = sources.get(file).unwrap();
        for (offset, line, column) in [
            (0, 1, 1),
            (2, 1, 2),
            (6, 1, 6),
            (7, 1, 7),
            (8, 2, 1),
            (9, 3, 1),
            (13, 3, 5),
            (99, 3, 5),
        ] {
            assert_eq!(source.position(offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn places_in_pieces_are_places_in_the_file() {
        let mut sources = Sources::default();
        let file = sources.add("x".into(), "one\ntwo".to_owned());
        let piece = file.piece_at(4).unwrap();
        assert_eq!(sources.text(piece), "two");
        let place = Place { file: piece, span: 1..3 };
        assert_eq!(place.in_file(), Place { file, span: 5..7 });
    }

    #[test]
    fn parts_are_on_whole_lines() {
        let mut sources = Sources::default();
        let file = sources.add("x".into(), "one\ntwo\nthree".to_owned());
        let source = sources.get(file).unwrap();
        for (part, first, lines) in
            [(0..1, 1, "one\n"), (1..5, 1, "one\ntwo\n"), (4..4, 2, "two\n"), (9..13, 3, "three")]
        {
            let (line, span) = source.lines_of(&part);
            assert_eq!((line, &source.text[span]), (first, lines), "{part:?}");
        }
    }
}
