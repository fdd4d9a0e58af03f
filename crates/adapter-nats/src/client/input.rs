//! What the server says, read in place.

use std::borrow::Cow;

use super::headers::HeaderBlock;

/// The longest line that is read. `INFO` names all servers of a cluster.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// The largest message that is read: the largest that a server can be configured to take.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the server said cannot be understood; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server says what is not NATS: {0}")]
pub(crate) struct Unreadable(String);

/// One thing that the server says.
#[derive(Clone, Debug)]
pub(super) enum Said<'a> {
    /// Who it is, in JSON.
    Info(&'a [u8]),
    Ping,
    Pong,
    /// `+OK`, which is not asked for.
    Fine,
    /// `-ERR` with its text, without the quotes.
    Error(Cow<'a, str>),
    /// A message for the subscription with this number.
    Message(u64, Message<'a>),
}

/// A message, as long as it is in the buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message<'a> {
    pub(crate) subject: Cow<'a, str>,
    /// Where an answer goes.
    pub(crate) reply: Option<Cow<'a, str>>,
    pub(crate) headers: Option<HeaderBlock<'a>>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The status, if the server itself answers.
    pub(crate) fn status(&self) -> Option<(u16, &'a str)> {
        // What others publish has a payload, or headers, or is empty; a status has nothing else.
        self.headers.filter(|_| self.payload.is_empty())?.status()
    }

    /// The last token of the subject.
    pub(crate) fn last_token(&self) -> &str {
        self.subject.rsplit('.').next().unwrap_or_default()
    }
}

/// What is at the beginning of the buffer.
#[derive(Clone, Debug)]
pub(super) enum Parsed<'a> {
    /// Something, which takes so many bytes.
    Whole(Said<'a>, usize),
    /// A part of something that takes at least so many bytes.
    Part(usize),
}

/// Reads the first thing in the buffer.
pub(super) fn parse(input: &[u8]) -> Result<Parsed<'_>, Unreadable> {
    let Some(newline) = memchr::memchr(b'\n', input) else {
        if input.len() > LINE_BYTES_MAX {
            return Err(unreadable(input));
        }
        return Ok(Parsed::Part(input.len() + 1));
    };
    let (line, rest) = input.split_at(newline + 1);
    let line = line.trim_ascii_end();
    let (verb, arguments) = match memchr::memchr2(b' ', b'\t', line) {
        Some(space) => line.split_at(space),
        None => (line, &[][..]),
    };
    let said = match verb {
        b"MSG" => return message(line, arguments, rest, newline + 1, false),
        b"HMSG" => return message(line, arguments, rest, newline + 1, true),
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        b"+OK" => Said::Fine,
        b"INFO" => Said::Info(arguments.trim_ascii()),
        b"-ERR" => {
            let text = arguments.trim_ascii();
            let text = text.strip_prefix(b"'").unwrap_or(text);
            let text = text.strip_suffix(b"'").unwrap_or(text);
            Said::Error(text_of(text))
        }
        _ => return Err(unreadable(line)),
    };
    Ok(Parsed::Whole(said, newline + 1))
}

/// `MSG subject number [reply] bytes`, or `HMSG subject number [reply] header-bytes bytes`.
fn message<'a>(
    line: &'a [u8],
    arguments: &'a [u8],
    rest: &'a [u8],
    line_bytes: usize,
    has_headers: bool,
) -> Result<Parsed<'a>, Unreadable> {
    let mut words = arguments.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut list: [&[u8]; 5] = [&[]; 5];
    let mut count = 0;
    for (place, word) in list.iter_mut().zip(&mut words) {
        *place = word;
        count += 1;
    }
    let (subject, number, reply, header_bytes, bytes) = match (has_headers, count, list) {
        (false, 3, [subject, number, bytes, ..]) => (subject, number, None, None, bytes),
        (false, 4, [subject, number, reply, bytes, _]) => {
            (subject, number, Some(reply), None, bytes)
        }
        (true, 4, [subject, number, headers, bytes, _]) => {
            (subject, number, None, Some(headers), bytes)
        }
        (true, 5, [subject, number, reply, headers, bytes]) => {
            (subject, number, Some(reply), Some(headers), bytes)
        }
        _ => return Err(unreadable(line)),
    };
    let sizes = (|| {
        let header_bytes = header_bytes.map(decimal);
        Some((decimal(number)?, header_bytes.unwrap_or(Some(0))?, decimal(bytes)?))
    })();
    let (number, header_bytes, bytes) = sizes.ok_or_else(|| unreadable(line))?;
    let (header_bytes, bytes) = (
        usize::try_from(header_bytes).unwrap_or(usize::MAX),
        usize::try_from(bytes).unwrap_or(usize::MAX),
    );
    if header_bytes > bytes || bytes > MESSAGE_BYTES_MAX || words.next().is_some() {
        return Err(unreadable(line));
    }
    let total = line_bytes + bytes + 2;
    let Some((body, end)) = rest.get(..bytes + 2).and_then(|rest| rest.split_at_checked(bytes))
    else {
        return Ok(Parsed::Part(total));
    };
    if end != b"\r\n" {
        return Err(unreadable(line));
    }
    let (headers, payload) = body.split_at(header_bytes);
    let message = Message {
        subject: text_of(subject),
        reply: reply.map(text_of),
        headers: has_headers.then_some(HeaderBlock(headers)),
        payload,
    };
    Ok(Parsed::Whole(Said::Message(number, message), total))
}

/// As text, which it nearly always is already; what is none is replaced.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

fn unreadable(line: &[u8]) -> Unreadable {
    /// How much of it is told.
    const SHOWN_BYTES: usize = 80;
    let shown = line.get(..SHOWN_BYTES).unwrap_or(line);
    Unreadable(String::from_utf8_lossy(shown).escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(input: &[u8]) -> (Said<'_>, usize) {
        match parse(input).unwrap() {
            Parsed::Whole(said, bytes) => (said, bytes),
            Parsed::Part(bytes) => panic!("{bytes} are needed"),
        }
    }

    #[test]
    fn everything_that_a_server_says_is_read() {
        assert!(matches!(whole(b"PING\r\nPONG"), (Said::Ping, 6)));
        assert!(matches!(whole(b"PONG\r\n"), (Said::Pong, 6)));
        assert!(matches!(whole(b"+OK\r\n"), (Said::Fine, 5)));
        assert!(matches!(whole(b"INFO {\"a\":1} \r\n"), (Said::Info(b"{\"a\":1}"), 15)));
        let (Said::Error(text), _) = whole(b"-ERR 'Stale Connection'\r\n") else { panic!() };
        assert_eq!(text, "Stale Connection");
        let (Said::Message(number, message), bytes) = whole(b"MSG a.b 12 5\r\nhello\r\nMSG") else {
            panic!()
        };
        assert_eq!(
            (number, bytes, &*message.subject, message.payload),
            (12, 21, "a.b", &b"hello"[..])
        );
        assert!(message.reply.is_none() && message.headers.is_none());
        let (Said::Message(number, message), _) =
            whole(b"HMSG a 0 r.1 18 20\r\nNATS/1.0\r\nn: v\r\n\r\nhi\r\n")
        else {
            panic!()
        };
        assert_eq!(
            (number, message.reply.as_deref(), message.payload),
            (0, Some("r.1"), &b"hi"[..])
        );
        assert_eq!(message.headers.unwrap().lines().next(), Some((&b"n"[..], &b"v"[..])));
    }

    #[test]
    fn a_part_tells_how_much_is_needed() {
        for (input, needed) in [
            (&b""[..], 1),
            (b"MSG a 1 5\r", 11),
            (b"MSG a 1 5\r\nhel", 18),
            (b"MSG a 1 5\r\nhello\r", 18),
        ] {
            assert!(
                matches!(parse(input), Ok(Parsed::Part(bytes)) if bytes == needed),
                "{input:?}"
            );
        }
    }

    #[test]
    fn what_is_not_nats_is_refused() {
        for input in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b"MSG a 1\r\n",
            b"MSG a 1 r 5 6 7\r\n",
            b"MSG a x 5\r\nhello\r\n",
            b"MSG a 1 -5\r\n",
            b"MSG a 1 5\r\nhello, world\r\n",
            b"MSG a 1 99999999999999999999\r\n",
            b"MSG a 1 100000000\r\n",
            b"HMSG a 1 9 5\r\nhello\r\n",
        ] {
            assert!(parse(input).is_err(), "{}", String::from_utf8_lossy(input));
        }
        assert!(parse(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
        let told = parse(b"\x1b[2J\r\n").unwrap_err().to_string();
        assert!(told.contains("\\u{1b}[2J"), "{told}");
    }

    #[test]
    fn a_subject_that_is_no_text_does_not_end_the_connection() {
        let (Said::Message(_, message), _) = whole(b"MSG a.\xff 1 0\r\n\r\n") else { panic!() };
        assert_eq!(message.subject, "a.\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_panics(input in "[A-Z+\\-]{0,4}[ a-z0-9.]{0,12}(\r\n)?[\\PC]{0,8}(\r\n)?") {
            drop(parse(input.as_bytes()).map(|parsed| match parsed {
                Parsed::Whole(_, bytes) => assert!(bytes <= input.len()),
                Parsed::Part(bytes) => assert!(bytes > input.len()),
            }));
        }

        #[test]
        fn bytes_are_no_reason_to_panic(input in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(parse(&input));
        }
    }
}
