//! Subjects: what may be published to, what belongs to the server, and which filter matches what.
//! <https://docs.nats.io/nats-concepts/subjects>

/// The longest subject that is sent, in bytes.
///
/// The server closes the connection of a client whose control line is longer than
/// `max_control_line`, 4,096 bytes by default; the line also holds the reply subject and the sizes.
pub(crate) const SUBJECT_BYTES_MAX: usize = 1_900;

/// First tokens of subjects that belong to the server and its `JetStream`, MQTT and monitoring.
const INTERNAL: [&str; 8] = ["$JS", "$SYS", "$MQTT", "$NRG", "$LDS", "$JSC", "$GNR", "_GR_"];

/// The prefix of replies to requests, unless a client chose its own.
const INBOX: &str = "_INBOX";

/// Why nothing can be published under a subject or an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubjectError {
    /// An empty token.
    #[error("{0:?} has an empty level, which NATS does not allow in a subject")]
    Empty(String),
    /// A character that would be a wildcard, end the protocol line, or that the mapping refuses.
    #[error("{0:?} contains {1:?}, which a NATS subject must not hold")]
    Character(String, char),
    /// Too long for the server's protocol line.
    #[error("the subject is {0} bytes long; at most {SUBJECT_BYTES_MAX} fit")]
    TooLong(usize),
    /// A subject of the server's own.
    #[error("{0:?} belongs to the NATS server and is never forwarded to")]
    Internal(String),
}

/// Checks a subject that is to be published to.
pub(crate) fn check_subject(subject: &str) -> Result<(), SubjectError> {
    if let Some(bad) = subject.chars().find(|c| forbidden(*c)) {
        return Err(SubjectError::Character(subject.to_owned(), bad));
    }
    if subject.split('.').any(str::is_empty) {
        return Err(SubjectError::Empty(subject.to_owned()));
    }
    if subject.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::TooLong(subject.len()));
    }
    if INTERNAL.contains(&first_token(subject)) {
        return Err(SubjectError::Internal(subject.to_owned()));
    }
    Ok(())
}

/// Whether a character must not be in a subject that is published to.
pub(crate) fn forbidden(character: char) -> bool {
    match character {
        '*' | '>' => true,
        '!'..='~' => false,
        other => other.is_whitespace() || other.is_control(),
    }
}

/// Whether a subject is the server's own, or that of a reply to somebody's request: never taken in.
pub(crate) fn is_internal(subject: &str, inbox_prefix: Option<&str>) -> bool {
    let inside = |prefix: &str| {
        subject.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    INTERNAL.contains(&first_token(subject)) || inside(INBOX) || inbox_prefix.is_some_and(inside)
}

/// Whether a filter, which may hold wildcards, matches a concrete subject.
pub(crate) fn matches(filter: &str, subject: &str) -> bool {
    covers(filter, subject)
}

/// Whether every subject that `inner` matches is matched by `outer` too.
pub(crate) fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

/// Whether some subject is matched by both filters.
pub(crate) fn overlaps(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(left), Some(right)) if left == right || left == "*" || right == "*" => {}
            _ => return false,
        }
    }
}

fn first_token(subject: &str) -> &str {
    subject.split_once('.').map_or(subject, |(first, _)| first)
}
