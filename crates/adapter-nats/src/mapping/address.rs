//! Canonical addresses as subjects, and back.
//!
//! | canonical | `nats` | `swap` | `percent` |
//! |---|---|---|---|
//! | `a/b` | `a.b` | `a.b` | `a.b` |
//! | `v1.0/b` | `v1//0.b` | `v1/0.b` | `v1%2E0.b` |
//! | `/a` | `/.a` | refused | `%.a` |
//! | `a/` | `a./` | refused | `a.%` |
//! | `a//b` | `a./.b` | refused | `a.%.b` |
//! | `a b`, `a*`, `a>` | refused | refused | `a%20b`, `a%2A`, `a%3E` |
//!
//! `nats` is what the server itself does for its MQTT clients (`mqttToNATSSubjectConversion` in its
//! `server/mqtt.go`). A `/` inside a token of a foreign subject has no place in an address and
//! becomes `%2F`, except with `swap`.

use percent_encoding::{
    AsciiSet, CONTROLS, percent_decode_str, percent_encode_byte, utf8_percent_encode,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::subject::{SubjectError, check_subject, forbidden};

/// How the levels of an address become the tokens of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressMapping {
    /// As nats-server maps MQTT topics: `/` becomes `.`, a `.` inside a level becomes `//`, and an
    /// empty level becomes `/`.
    #[default]
    Nats,
    /// `/` and `.` change places; empty levels are refused.
    Swap,
    /// `/` becomes `.`; what a subject cannot hold is percent-encoded, and an empty level is `%`.
    Percent,
}

/// The ASCII characters that are percent-encoded inside a token.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'*').add(b'.').add(b'>').add(b'/');

impl AddressMapping {
    /// The subject for an address.
    pub(crate) fn subject(self, address: &str) -> Result<String, SubjectError> {
        let mut subject = String::with_capacity(address.len() + 8);
        for (index, level) in address.split('/').enumerate() {
            if index > 0 {
                subject.push('.');
            }
            self.push_token(level, &mut subject);
        }
        // The error names the address, which is what the reader knows.
        check_subject(&subject).map_err(|error| match error {
            SubjectError::Empty(_) => SubjectError::Empty(address.to_owned()),
            SubjectError::Character(_, bad) => SubjectError::Character(address.to_owned(), bad),
            SubjectError::TooLong(_) | SubjectError::Internal(_) => error,
        })?;
        Ok(subject)
    }

    /// The address for a subject.
    pub(crate) fn address(self, subject: &str) -> String {
        let mut address = String::with_capacity(subject.len());
        for (index, token) in subject.split('.').enumerate() {
            if index > 0 {
                address.push('/');
            }
            self.push_level(token, &mut address);
        }
        address
    }

    fn push_token(self, level: &str, subject: &mut String) {
        match self {
            Self::Nats if level.is_empty() => subject.push('/'),
            Self::Nats => push_replaced(level, '.', "//", subject),
            Self::Swap => push_replaced(level, '.', "/", subject),
            Self::Percent if level.is_empty() => subject.push('%'),
            Self::Percent => {
                for character in level.chars() {
                    let mut buffer = [0; 4];
                    let text = character.encode_utf8(&mut buffer);
                    if character.is_ascii() {
                        subject.extend(utf8_percent_encode(text, ENCODED));
                    } else if forbidden(character) {
                        // Spaces and control characters beyond ASCII.
                        subject.extend(text.bytes().map(percent_encode_byte));
                    } else {
                        subject.push(character);
                    }
                }
            }
        }
    }

    fn push_level(self, token: &str, address: &mut String) {
        match self {
            Self::Nats if token == "/" => {}
            Self::Nats => {
                let mut characters = token.chars().peekable();
                while let Some(character) = characters.next() {
                    match character {
                        '/' if characters.next_if_eq(&'/').is_some() => address.push('.'),
                        '/' => address.push_str("%2F"),
                        other => address.push(other),
                    }
                }
            }
            Self::Swap => push_replaced(token, '/', ".", address),
            Self::Percent if token == "%" => {}
            Self::Percent => match percent_decode_str(token).decode_utf8() {
                Ok(level) if !level.contains('/') => address.push_str(&level),
                // Not something that this mapping has written: taken as it is.
                Ok(_) | Err(_) => push_replaced(token, '/', "%2F", address),
            },
        }
    }
}

/// The filters that bring in everything that a canonical pattern asks for, and perhaps more.
///
/// A level with a capture inside becomes `*`, and a trailing `#` becomes two filters, since `>`
/// stands for one token or more and `#` for none or more.
pub(crate) fn pattern_filters(
    mapping: AddressMapping,
    pattern: &str,
) -> Result<Vec<String>, SubjectError> {
    let mut filter = String::with_capacity(pattern.len());
    for (index, level) in pattern.split('/').enumerate() {
        let rest = level == "#" || (level.starts_with('{') && level.ends_with("...}"));
        if rest && index == 0 {
            return Ok(vec![">".to_owned()]);
        }
        if rest {
            check_filter(&filter, pattern)?;
            return Ok(vec![format!("{filter}.>"), filter]);
        }
        if index > 0 {
            filter.push('.');
        }
        let literal = level.replace("{{", "\u{1}").replace("}}", "\u{2}");
        if level == "+" || literal.contains('{') {
            filter.push('*');
        } else {
            let level = literal.replace('\u{1}', "{").replace('\u{2}', "}");
            if let Some(bad) = level.chars().find(|c| forbidden(*c) && mapping.refuses()) {
                return Err(SubjectError::Character(pattern.to_owned(), bad));
            }
            mapping.push_token(&level, &mut filter);
        }
    }
    check_filter(&filter, pattern)?;
    Ok(vec![filter])
}

impl AddressMapping {
    /// Whether characters that a subject cannot hold are refused rather than encoded.
    fn refuses(self) -> bool {
        match self {
            Self::Nats | Self::Swap => true,
            Self::Percent => false,
        }
    }
}

fn check_filter(filter: &str, pattern: &str) -> Result<(), SubjectError> {
    if filter.split('.').any(str::is_empty) {
        return Err(SubjectError::Empty(pattern.to_owned()));
    }
    Ok(())
}

fn push_replaced(text: &str, from: char, to: &str, into: &mut String) {
    for (index, part) in text.split(from).enumerate() {
        if index > 0 {
            into.push_str(to);
        }
        into.push_str(part);
    }
}
