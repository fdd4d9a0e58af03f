//! Paths and canonical addresses.
//!
//! `/hooks/a%20b` is the address `hooks/a b`: the first slash is not part of the address, each level
//! is percent-encoded on its own. Empty levels are kept, as MQTT keeps them. What could not be told
//! apart on the way back, or has a meaning of its own elsewhere, is refused and never altered.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use transload_envelope::Address;

/// Everything but what RFC 3986, section 3.3, allows in a path segment; `+` is encoded too, since
/// many servers take it for a space.
const LEVEL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Why a path and an address have no counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// The path is `/` alone.
    #[error("the path names no address")]
    Empty,
    /// The path does not begin with a slash.
    #[error("the request target is not a path")]
    NoPath,
    /// A percent sign without two hexadecimal digits.
    #[error("the path holds a malformed percent-encoding")]
    Escape,
    /// The decoded octets are not text.
    #[error("the path is not UTF-8")]
    NotText,
    /// `%2F`, which could not be told from a separator afterwards.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// `+` and `#` are wildcards in addresses.
    #[error("the path holds `+` or `#`, which are wildcards in addresses")]
    Wildcard,
    /// U+0000 to U+001F and U+007F to U+009F, which MQTT forbids or discourages.
    #[error("the path holds a control character")]
    Control,
    /// `.` and `..`, which URLs resolve away.
    #[error("the path holds a `.` or `..` segment")]
    DotSegment,
}

/// The address of a request's path, which is still percent-encoded.
pub(crate) fn read_path(path: &str) -> Result<Address, AddressError> {
    let path = path.strip_prefix('/').ok_or(AddressError::NoPath)?;
    // Most paths are their own address, which one look at each byte tells.
    if !path.is_empty() && path.bytes().all(is_plain) {
        return Ok(Address::new(path));
    }
    let mut address = String::with_capacity(path.len());
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            address.push('/');
        }
        let level = decode_level(segment)?;
        if level.contains('/') {
            return Err(AddressError::EncodedSlash);
        }
        address.push_str(&level);
    }
    check_address(&address)?;
    Ok(Address::new(address))
}

/// Whether a byte of a path is decoded to itself, allowed, and no part of a dot segment.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'%' | b'+' | b'#' | b'.')
}

/// Whether a request's path can name this address.
pub(crate) fn check_address(address: &str) -> Result<(), AddressError> {
    if address.is_empty() {
        return Err(AddressError::Empty);
    }
    if address.contains(['+', '#']) {
        return Err(AddressError::Wildcard);
    }
    if address.contains(char::is_control) {
        return Err(AddressError::Control);
    }
    if address.split('/').any(is_dot_segment) {
        return Err(AddressError::DotSegment);
    }
    Ok(())
}

/// The path of an address, with a slash at the start, ready to be appended to a URL's path.
///
/// `.` and `..` are refused, since no encoding keeps URL parsers from resolving them.
pub(crate) fn encode_path(address: &str) -> Result<String, AddressError> {
    let mut path = String::with_capacity(address.len() + 1);
    for level in address.split('/') {
        if is_dot_segment(level) {
            return Err(AddressError::DotSegment);
        }
        path.push('/');
        path.extend(utf8_percent_encode(level, LEVEL));
    }
    Ok(path)
}

fn decode_level(segment: &str) -> Result<Cow<'_, str>, AddressError> {
    let escapes = segment.split('%').skip(1);
    let is_escape = |after: &str| {
        after.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.into_iter().all(is_escape) {
        return Err(AddressError::Escape);
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| AddressError::NotText)
}

fn is_dot_segment(level: &str) -> bool {
    level == "." || level == ".."
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn paths_are_addresses_without_the_first_slash() {
        for (path, expected) in [
            ("/hooks/github", Ok("hooks/github")),
            ("/a%20b/%C3%A9", Ok("a b/é")),
            ("/a//b/", Ok("a//b/")),
            ("//a", Ok("/a")),
            ("/a.b/*/>/$x/%25", Ok("a.b/*/>/$x/%")),
            ("/...", Ok("...")),
            ("/", Err(AddressError::Empty)),
            ("*", Err(AddressError::NoPath)),
            ("/a%2Fb", Err(AddressError::EncodedSlash)),
            ("/a%2fb", Err(AddressError::EncodedSlash)),
            ("/c++", Err(AddressError::Wildcard)),
            ("/%23", Err(AddressError::Wildcard)),
            ("/%00", Err(AddressError::Control)),
            ("/a%0d%0ab", Err(AddressError::Control)),
            ("/%C2%85", Err(AddressError::Control)),
            ("/%FF", Err(AddressError::NotText)),
            ("/%", Err(AddressError::Escape)),
            ("/%4", Err(AddressError::Escape)),
            ("/%zz", Err(AddressError::Escape)),
            ("/a/../b", Err(AddressError::DotSegment)),
            ("/a/%2e%2E/b", Err(AddressError::DotSegment)),
            ("/./b", Err(AddressError::DotSegment)),
        ] {
            let read = read_path(path);
            assert_eq!(read.as_ref().map(Address::as_str), expected.as_ref().copied(), "{path}");
        }
    }

    #[test]
    fn addresses_are_encoded_level_by_level() {
        for (address, expected) in [
            ("hooks/github", Ok("/hooks/github")),
            ("a b/é", Ok("/a%20b/%C3%A9")),
            ("a?b#c%d", Ok("/a%3Fb%23c%25d")),
            ("", Ok("/")),
            ("a\\b", Ok("/a%5Cb")),
            ("%2e%2e", Ok("/%252e%252e")),
            ("a/..", Err(AddressError::DotSegment)),
            ("./a", Err(AddressError::DotSegment)),
        ] {
            assert_eq!(encode_path(address).as_deref(), expected.as_deref(), "{address}");
        }
    }

    proptest! {
        #[test]
        fn every_address_that_a_path_can_name_comes_back(address in "[^+#\\p{Cc}]{1,40}") {
            prop_assume!(check_address(&address).is_ok());
            let path = encode_path(&address).unwrap();
            prop_assert!(path.parse::<http::Uri>().is_ok());
            prop_assert_eq!(read_path(&path), Ok(Address::new(address)));
        }

        #[test]
        fn reading_any_path_gives_an_address_that_can_be_named(path in "/\\PC{0,40}") {
            if let Ok(address) = read_path(&path) {
                prop_assert_eq!(check_address(&address), Ok(()));
                prop_assert_eq!(read_path(&encode_path(&address).unwrap()), Ok(address));
            }
        }

        #[test]
        fn no_address_changes_anything_but_the_path_of_a_url(address in any::<String>()) {
            let base = Url::parse("https://example.com:8443/base?key=1").unwrap();
            let Ok(path) = encode_path(&address) else { return Ok(()) };
            let mut url = base.clone();
            url.set_path(&format!("/base{path}"));
            prop_assert_eq!(url.path(), format!("/base{path}"));
            prop_assert_eq!(url.origin(), base.origin());
            prop_assert_eq!(url.query(), base.query());
            prop_assert_eq!(url.fragment(), None);
        }
    }
}
