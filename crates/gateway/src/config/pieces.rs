//! Where a large file is cut, so that its routes are read piece by piece and beside each other: what
//! was parsed of one piece is gone when the next one is read.
//!
//! A file is cut before lines that begin with `[[route]]`. Such a line may be in the middle of a
//! string or an array; then the piece before it ends inside of that and cannot be parsed, and the
//! file has to be read as a whole. Each piece holds routes only, since no line in it begins with
//! another header: what is before the first one and what is behind the last one are pieces of their
//! own.

use std::ops::Range;

/// How long a file is that is worth being cut, in bytes.
const CUT_BYTES_MIN: usize = 256 << 10;

/// How long a piece is at least, in bytes. What the parser needs for one of this length comes from
/// memory that it had before.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// A file in pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Where the first route begins, and what is before it ends.
    pub(super) head: usize,
    pub(super) routes: Vec<Range<usize>>,
    /// Where something else than a route begins that stands behind one, or the end of the text.
    pub(super) tail: usize,
}

/// Cuts a file, if it is large and has routes.
pub(super) fn cut(text: &str) -> Option<Pieces> {
    if text.len() < CUT_BYTES_MIN { None } else { pieces(text, PIECE_BYTES_MIN) }
}

fn pieces(text: &str, piece_bytes_min: usize) -> Option<Pieces> {
    let (mut head, mut start, mut at) = (None, 0, 0);
    let mut routes = Vec::new();
    let mut tail = text.len();
    for line in text.split_inclusive('\n') {
        let begins = at;
        at += line.len();
        if line.starts_with("[[route]]") {
            if head.is_none() {
                head = Some(begins);
                start = begins;
            } else if begins - start >= piece_bytes_min {
                routes.push(start..begins);
                start = begins;
            }
        } else if head.is_some() && !is_of_route(line) {
            tail = begins;
            break;
        }
    }
    let head = head?;
    routes.push(start..tail);
    Some(Pieces { head, routes, tail })
}

/// Whether a line between two routes cannot begin anything but a part of a route.
fn is_of_route(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    let header = line.strip_prefix("[[").or_else(|| line.strip_prefix('['));
    header.is_none_or(|name| name.starts_with("route."))
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn files_are_cut_before_routes() {
        let parts = |text: &str| {
            let Pieces { head, routes, tail } = pieces(text, 0)?;
            let routes: Vec<_> = routes.into_iter().map(|piece| text[piece].to_owned()).collect();
            Some((text[..head].to_owned(), routes, text[tail..].to_owned()))
        };
        for (text, head, routes, tail) in [
            ("[[route]]\na=1\n[[route]]", "", &["[[route]]\na=1\n", "[[route]]"][..], ""),
            ("x=1\n[[route]]\n[route.to]\n", "x=1\n", &["[[route]]\n[route.to]\n"], ""),
            ("[a]\n[[route]]\n[[route.to]]\n", "[a]\n", &["[[route]]\n[[route.to]]\n"], ""),
            ("[[route]]\n[[test]]\n[[route]]\n", "", &["[[route]]\n"], "[[test]]\n[[route]]\n"),
            ("[[route]]\n [x]\n", "", &["[[route]]\n"], " [x]\n"),
            ("[[route]]\n[routes]\n", "", &["[[route]]\n"], "[routes]\n"),
            ("[[route]]\n [[route]]\n", "", &["[[route]]\n"], " [[route]]\n"),
        ] {
            let routes = routes.iter().map(|route| (*route).to_owned()).collect();
            assert_eq!(parts(text), Some((head.to_owned(), routes, tail.to_owned())), "{text}");
        }
        assert_eq!(parts("[a]\n[[routes]]\n"), None);
    }

    #[test]
    fn a_cut_in_the_middle_of_a_value_is_noticed() {
        for value in [
            "\"\"\"\n[[route]]\n\"\"\"",
            "'''\n[[route]]\n'''",
            "[\n[[route]]\n]",
            "[\n[[route]]\n, 1]",
            "{ a = '''\n[[route]]\n''' }",
        ] {
            let text = format!("[[route]]\na = {value}\n");
            let Pieces { routes, .. } = pieces(&text, 0).unwrap();
            let (_, errors) = DeTable::parse_recoverable(&text[routes[0].clone()]);
            assert!(!errors.is_empty(), "{text}");
        }
    }
}
