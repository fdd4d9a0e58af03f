//! The headers of a message on the wire: a line with the version, and in answers of the server with
//! a status, and behind it a line for each header.

/// The status of an answer that says that nobody listens to the subject.
pub(crate) const NO_RESPONDERS: u16 = 503;

const VERSION: &[u8] = b"NATS/1.0";

/// Headers that are to be sent, in order. Without any, a message has no block of headers.
#[derive(Debug, Default)]
pub(crate) struct HeaderLines(Vec<u8>);

impl HeaderLines {
    /// Forgets what was written.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a line. The caller answers for a name and a value that cannot break out of it.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        if self.0.is_empty() {
            self.0.extend_from_slice(VERSION);
            self.0.extend_from_slice(b"\r\n");
        }
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// The lines, without the empty one behind them; empty if there are none.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes that they take on the wire.
    pub(crate) fn len(&self) -> usize {
        if self.0.is_empty() { 0 } else { self.0.len() + END.len() }
    }
}

/// The empty line behind the headers.
pub(super) const END: &[u8] = b"\r\n";

/// Headers that came in, as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeaderBlock<'a>(pub(crate) &'a [u8]);

impl<'a> HeaderBlock<'a> {
    /// The status and its description, which only answers of the server have.
    pub(crate) fn status(self) -> Option<(u16, &'a str)> {
        let rest = split_line(self.0).0.strip_prefix(VERSION)?.trim_ascii();
        let (code, description) = rest.split_at_checked(3)?;
        let code = std::str::from_utf8(code).ok()?.parse().ok()?;
        Some((code, std::str::from_utf8(description).unwrap_or_default().trim()))
    }

    /// Name and value of each header, in order. A line without a colon is passed over.
    pub(crate) fn lines(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = split_line(self.0).1;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (line, behind) = split_line(rest);
                rest = behind;
                if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                    let (name, value) = line.split_at(colon);
                    return Some((name, value.get(1..).unwrap_or_default().trim_ascii()));
                }
            }
            None
        })
    }
}

/// The first line, and what is behind it. Only both characters together end a line, so that a value
/// with one of them is one value.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr::memchr(b'\r', rest)) {
        let end = from + found;
        if bytes.get(end + 1) == Some(&b'\n') {
            return (
                bytes.get(..end).unwrap_or_default(),
                bytes.get(end + 2..).unwrap_or_default(),
            );
        }
        from = end + 1;
    }
    (bytes, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        HeaderBlock(block).lines().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn lines_come_back_in_order() {
        let mut lines = HeaderLines::default();
        assert_eq!((lines.len(), lines.as_bytes()), (0, &b""[..]));
        for (name, value) in [("b", "2"), ("a", ""), ("b", "x: y")] {
            lines.push(name, value);
        }
        let block = [lines.as_bytes(), END].concat();
        assert_eq!(block.len(), lines.len());
        assert_eq!(block, b"NATS/1.0\r\nb: 2\r\na: \r\nb: x: y\r\n\r\n");
        let wanted = [("b", "2"), ("a", ""), ("b", "x: y")];
        assert_eq!(read(&block), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        lines.clear();
        assert_eq!(lines.len(), 0);
    }

    #[test]
    fn whatever_others_write_is_read_as_far_as_it_goes() {
        assert_eq!(read(b""), []);
        assert_eq!(
            read(b"NATS/1.0\r\nno colon\r\n:v\r\nn:v"),
            [(String::new(), "v".to_owned()), ("n".to_owned(), "v".to_owned())]
        );
        let odd = read(b"NATS/1.0\r\nn:  a\rb\nc \r\n\r\n");
        assert_eq!(odd, [("n".to_owned(), "a\rb\nc".to_owned())]);
    }

    #[test]
    fn a_status_is_read() {
        for (block, wanted) in [
            (&b"NATS/1.0 503\r\n\r\n"[..], Some((503, ""))),
            (b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", Some((100, "Idle Heartbeat"))),
            (b"NATS/1.0 409  Message Size Exceeds MaxBytes", {
                Some((409, "Message Size Exceeds MaxBytes"))
            }),
            (b"NATS/1.0\r\na: b\r\n\r\n", None),
            (b"NATS/1.0 x\r\n", None),
            (b"HTTP/1.1 200\r\n", None),
            (b"", None),
        ] {
            assert_eq!(HeaderBlock(block).status(), wanted);
        }
    }
}
