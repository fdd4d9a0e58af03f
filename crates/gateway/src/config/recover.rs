//! All faults of a table, though a deserializer stops at the first.
//!
//! The entry at fault is taken out and the rest is read again, until it can be read or nothing is
//! left to take out.

use std::ops::Range;

use toml::de::Error;

use super::{
    tree::{self, Step, Table},
    wording::{self, Worded},
};

/// How many faults are looked for in one table; each costs one more reading of it.
const FAULTS_MAX: usize = 50;

/// A fault inside a table.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) worded: Worded,
}

/// What became of a table.
#[derive(Debug)]
pub(super) struct Recovered<T> {
    /// What could be read, without the entries at fault.
    pub(super) value: Option<T>,
    /// Everything at fault.
    pub(super) faults: Vec<Fault>,
    gone: Vec<(Vec<Step>, String)>,
}

impl<T> Recovered<T> {
    /// Whether this key of the table itself was at fault, or was probably meant by another one.
    pub(super) fn lost(&self, key: &str) -> bool {
        self.gone.iter().any(|(table, gone)| table.is_empty() && gone == key)
    }

    /// Whether anything was taken out of the table, so that what was read is less than was written.
    pub(super) fn damaged(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Notes the key at the end of the way, and the one that was probably meant by it.
    fn note(&mut self, way: &[Step], worded: &Worded) {
        let Some((Step::Key(key), table)) = way.split_last() else { return };
        self.gone.push((table.to_vec(), key.clone()));
        if let (false, Some(meant)) = (worded.missing, &worded.about) {
            self.gone.push((table.to_vec(), meant.clone()));
        }
    }

    /// Whether a key is missing in the table at the end of the way because it has been reported.
    fn explained(&self, way: &[Step], worded: &Worded) -> bool {
        worded.missing
            && self
                .gone
                .iter()
                .any(|(table, key)| table == way && Some(key) == worded.about.as_ref())
    }
}

/// Reads a table until no fault is left. `also` are keys that stand beside those which the reader
/// knows.
pub(super) fn read<T>(
    table: &mut Table<'_>,
    also: &[&str],
    mut reader: impl FnMut(&Table<'_>) -> Result<T, Error>,
) -> Recovered<T> {
    let mut recovered = Recovered { value: None, faults: Vec::new(), gone: Vec::new() };
    while recovered.faults.len() < FAULTS_MAX {
        let error = match reader(table) {
            Ok(value) => {
                recovered.value = Some(value);
                break;
            }
            Err(error) => error,
        };
        let span = error.span().filter(|span| !span.is_empty()).unwrap_or_else(|| table.span());
        let way = (span != table.span())
            .then(|| tree::entry_at(table.get_ref(), &span))
            .flatten()
            .unwrap_or_default();
        let worded = wording::reword(error.message(), if way.len() <= 1 { also } else { &[] });
        if !recovered.explained(&way, &worded) {
            recovered.note(&way, &worded);
            recovered.faults.push(Fault { span, worded });
        }
        if !tree::remove(table.get_mut(), &way) {
            break;
        }
    }
    recovered
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use toml::de::{DeTable, Deserializer};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading matters")]
    struct Settings {
        name: String,
        count: Option<u8>,
        #[serde(default)]
        list: Vec<String>,
        inner: Option<Inner>,
        #[serde(default)]
        consume: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading matters")]
    struct Inner {
        queue: String,
        size: Option<u8>,
    }

    /// The lines of the faults with their messages, and whether something could be read.
    fn check(text: &str) -> (Vec<(usize, String)>, bool) {
        let mut table = DeTable::parse(text).unwrap();
        let recovered =
            read(&mut table, &[], |table| Settings::deserialize(Deserializer::from(table.clone())));
        let line = |fault: &Fault| text[..fault.span.start].matches('\n').count() + 1;
        let faults =
            recovered.faults.iter().map(|fault| (line(fault), fault.worded.message.clone()));
        (faults.collect(), recovered.value.is_some())
    }

    #[test]
    fn every_fault_is_found() {
        let text = "name = \"x\"\ncount = 300\nlist = [\"a\", 5,\n6]\ncuont = 1\n\
                    inner = { queue = 1 }\n[[consume]]\nqueue = \"a\"\nsice = 1\n[[consume]]\nsize = 1\n";
        let (mut faults, read) = check(text);
        faults.sort();
        let expected = [
            (2, "expected an integer from 0 to 255, found integer `300`"),
            (3, "expected a string, found integer `5`"),
            (4, "expected a string, found integer `6`"),
            (5, "unknown key `cuont`"),
            (6, "expected a string, found integer `1`"),
            (9, "unknown key `sice`"),
            (10, "the key `queue` is missing"),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(l, m)| (l, m.to_owned())).collect();
        assert_eq!(faults, expected);
        assert!(read);
    }

    #[test]
    fn a_key_that_was_at_fault_is_not_missing_too() {
        for text in ["name = 5", "nmae = \"x\""] {
            let (faults, read) = check(text);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(!read);
        }
        assert_eq!(check("").0, [(1, "the key `name` is missing".to_owned())]);
    }
}
