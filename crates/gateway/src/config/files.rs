//! Reading the files: the one that was named, and those that it includes.

use std::{
    fs, io,
    ops::Range,
    path::{Component, Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    environment::{self, Environment},
    finding::Finding,
    source::{FileId, Place, Sources},
    watched::Watched,
};

/// How many files one configuration may have.
const FILES_MAX: usize = 1_000;
/// How large one file may be, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads all files of a configuration. The first one is the one that was named; it is missing when
/// it cannot be read.
pub(super) fn read_all(
    path: &Path,
    environment: &Environment<'_>,
    findings: &mut Vec<Finding>,
    watched: &mut Watched,
) -> Sources {
    let mut sources = Sources::default();
    watched.file(path.to_owned());
    let text = match read(path) {
        Ok(text) => text,
        Err(reason) => {
            let help = "name another file with `--config FILE`".to_owned();
            let message = format!("cannot read `{}`: {reason}", path.display());
            findings.push(Finding::error(None, message).with_help(help));
            return sources;
        }
    };
    let wanted = includes(&text, environment);
    let main = sources.add(path.to_owned(), text);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut known = vec![path.to_owned()];
    for (span, pattern) in wanted {
        let place = Place { file: main, span };
        watched.include(folder, &pattern);
        include(folder, &pattern, &place, &mut known, &mut sources, findings);
    }
    sources
}

/// Reads the file of tests beside the one that was named, unless that includes it.
pub(super) fn read_tests(path: &Path, sources: &mut Sources, findings: &mut Vec<Finding>) {
    let beside = path.with_extension("test.toml");
    let known = |file| sources.get(file).is_some_and(|source| source.path == beside);
    if sources.ids().next().is_none() || sources.ids().any(known) || !beside.exists() {
        return;
    }
    match read(&beside) {
        Ok(text) => drop(sources.add(beside, text)),
        Err(reason) => {
            let message = format!("cannot read `{}`: {reason}", beside.display());
            findings.push(Finding::error(None, message));
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let reason = |error: io::Error| error.to_string();
    let size = fs::metadata(path).map_err(reason)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let bytes = fs::read(path).map_err(reason)?;
    String::from_utf8(bytes).map_err(|error| {
        format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to())
    })
}

/// The texts under `include`, as far as they can be read; what is wrong with them is reported when
/// the file is checked.
fn includes(text: &str, environment: &Environment<'_>) -> Vec<(Range<usize>, String)> {
    // A large file is not to be parsed twice for nothing.
    if !text.contains("include") {
        return Vec::new();
    }
    let (root, _) = DeTable::parse_recoverable(text);
    let Some(DeValue::Array(list)) = root.get_ref().get("include").map(toml::Spanned::get_ref)
    else {
        return Vec::new();
    };
    let text_of = |value: &toml::Spanned<DeValue<'_>>| {
        let written = value.get_ref().as_str()?;
        let expanded = environment::expand(written, environment).ok()?;
        let text = expanded.map_or_else(|| written.to_owned(), |expanded| expanded.text);
        Some((value.span(), text))
    };
    list.iter().filter_map(text_of).collect()
}

fn include(
    folder: &Path,
    pattern: &str,
    place: &Place,
    known: &mut Vec<PathBuf>,
    sources: &mut Sources,
    findings: &mut Vec<Finding>,
) {
    let paths = match matching(folder, Path::new(pattern)) {
        Ok(paths) => paths,
        Err(error) => {
            findings.push(Finding::error(place.clone(), format!("cannot look for files: {error}")));
            return;
        }
    };
    if paths.is_empty() {
        findings.push(
            Finding::warning(place.clone(), "no file matches")
                .with_help(format!("paths are relative to `{}`", shown(folder))),
        );
    }
    for path in paths {
        if known.contains(&path) {
            continue;
        }
        if known.len() >= FILES_MAX {
            let message = format!("more than {FILES_MAX} files are included");
            findings.push(Finding::error(place.clone(), message));
            return;
        }
        match read(&path) {
            Ok(text) => {
                sources.add(path.clone(), text);
            }
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                findings.push(Finding::error(place.clone(), message));
            }
        }
        known.push(path);
    }
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { ".".to_owned() } else { folder.display().to_string() }
}

/// The files that match a path whose parts may hold `*` and `?`, in the order of their names. A
/// path without these is itself, whether or not there is such a file.
pub(super) fn matching(folder: &Path, pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    for part in pattern.components() {
        let Component::Normal(name) = part else {
            found = found.into_iter().map(|path| path.join(part)).collect();
            continue;
        };
        let name = name.to_string_lossy();
        if !name.contains(['*', '?']) {
            found = found.into_iter().map(|path| path.join(&*name)).collect();
            continue;
        }
        let mut next = Vec::new();
        for path in found {
            let folder = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry_name = entry?.file_name();
                let text = entry_name.to_string_lossy();
                if !text.starts_with('.') && glob_matches(&name, &text) {
                    next.push(path.join(&entry_name));
                }
            }
        }
        next.sort();
        found = next;
    }
    Ok(found)
}

/// Whether a name matches a pattern in which `*` is any text and `?` any character.
fn glob_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    // Which places of the pattern the name so far can have come to.
    let mut reached = vec![false; pattern.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    let skip_stars = |reached: &mut Vec<bool>| {
        for (place, character) in pattern.iter().enumerate() {
            let star = *character == '*' && reached.get(place) == Some(&true);
            if let (true, Some(next)) = (star, reached.get_mut(place + 1)) {
                *next = true;
            }
        }
    };
    skip_stars(&mut reached);
    for character in name {
        let mut next = vec![false; pattern.len() + 1];
        for (place, expected) in pattern.iter().enumerate() {
            if reached.get(place) != Some(&true) {
                continue;
            }
            let to = match expected {
                '*' => place,
                '?' => place + 1,
                literal if *literal == character => place + 1,
                _ => continue,
            };
            if let Some(next) = next.get_mut(to) {
                *next = true;
            }
        }
        skip_stars(&mut next);
        reached = next;
    }
    reached.last() == Some(&true)
}

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    read(path).map_err(|reason| format!("cannot read `{}`: {reason}", path.display()))
}

/// A file that holds a secret; its text without the line ends at its end.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    Ok(read_text(path)?.trim_end_matches(['\r', '\n']).to_owned())
}

/// A path that is written in a file, and is relative to it.
pub(super) fn beside(sources: &Sources, file: FileId, path: &str) -> PathBuf {
    let file = sources.get(file).map_or(Path::new(""), |source| &source.path);
    file.parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_globs() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.tom", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("*", "", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(glob_matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
