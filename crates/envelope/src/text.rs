use std::{
    borrow::{Borrow, Cow},
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    str::Utf8Error,
};

use bytes::Bytes;
use bytestring::ByteString;
use smol_str::SmolStr;

/// Up to so many bytes a text is kept in place.
const IN_PLACE_MAX: usize = 23;

/// Immutable text that is cheap to clone.
///
/// Most texts of a message are short: names of headers, media types, levels of an address. Those, and
/// texts that the program has in itself, take no memory beside their place. A long text that came in
/// with a frame shares the frame's memory; any other is copied at most once and shared by its clones.
#[derive(Clone)]
pub struct Text(Kind);

#[derive(Clone)]
enum Kind {
    Small(SmolStr),
    /// Longer than what is kept in place, and in memory already: read, or made.
    Slice(ByteString),
}

impl Text {
    /// The empty text.
    pub const fn new() -> Self {
        Self::from_static("")
    }

    /// A text of the program's own; takes no memory.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Kind::Small(SmolStr::new_static(text)))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Small(text) => text,
            Kind::Slice(text) => text,
        }
    }

    /// A part of this text, as a text that shares its memory where that is worth it.
    ///
    /// # Panics
    /// If the part is long and not within this text.
    #[must_use]
    pub fn slice_ref(&self, part: &str) -> Self {
        match &self.0 {
            Kind::Slice(text) if part.len() > IN_PLACE_MAX => {
                Self(Kind::Slice(text.slice_ref(part)))
            }
            Kind::Slice(_) | Kind::Small(_) => part.into(),
        }
    }

    /// The text in a part of a frame, whose memory it shares where that is worth it.
    ///
    /// # Errors
    /// If the part is not UTF-8.
    ///
    /// # Panics
    /// If the part is long and not within the frame.
    pub fn slice_of(frame: &Bytes, part: &[u8]) -> Result<Self, Utf8Error> {
        if part.len() <= IN_PLACE_MAX {
            Self::try_from(part)
        } else {
            Ok(Self(Kind::Slice(ByteString::try_from(frame.slice_ref(part))?)))
        }
    }

    /// Its bytes in UTF-8, without a copy where they were read with a frame.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Kind::Small(text) => Bytes::copy_from_slice(text.as_bytes()),
            Kind::Slice(text) => text.into_bytes(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Kind::Small(SmolStr::new(text)))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        if text.len() <= IN_PLACE_MAX {
            Self::from(text.as_str())
        } else {
            Self(Kind::Slice(text.into()))
        }
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        String::from(text).into()
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl TryFrom<Bytes> for Text {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        if bytes.len() <= IN_PLACE_MAX {
            Self::try_from(&*bytes)
        } else {
            Ok(Self(Kind::Slice(ByteString::try_from(bytes)?)))
        }
    }
}

impl TryFrom<&[u8]> for Text {
    type Error = Utf8Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Utf8Error> {
        std::str::from_utf8(bytes).map(Self::from)
    }
}

impl TryFrom<Vec<u8>> for Text {
    type Error = Utf8Error;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Utf8Error> {
        Self::try_from(Bytes::from(bytes))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<Text> for str {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}

impl PartialEq<Text> for &str {
    fn eq(&self, other: &Text) -> bool {
        *self == other.as_str()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const LONG: &str = "a text that has no place beside a length";

    #[test]
    fn a_text_takes_no_more_than_a_slice_of_a_frame() {
        assert_eq!(size_of::<Text>(), size_of::<Bytes>());
    }

    #[test]
    fn all_forms_of_a_text_are_the_same_text() {
        for text in ["", "é", "application/json", &LONG[..IN_PLACE_MAX], LONG] {
            let frame = Bytes::copy_from_slice(text.as_bytes());
            let forms = [
                Text::from(text),
                Text::from(text.to_owned()),
                Text::from(Cow::Borrowed(text)),
                Text::from(Box::<str>::from(text)),
                Text::slice_of(&frame, &frame).unwrap(),
                Text::try_from(frame).unwrap(),
                Text::try_from(text.as_bytes()).unwrap(),
                Text::try_from(text.as_bytes().to_vec()).unwrap(),
            ];
            for form in &forms {
                assert_eq!((form, &**form, form.to_string()), (&forms[0], text, text.to_owned()));
                assert_eq!(form.clone().into_bytes(), text.as_bytes());
            }
            assert_eq!(HashSet::from(forms).len(), 1);
            assert!(HashSet::from([Text::from(text)]).contains(text));
        }
    }

    #[test]
    fn a_long_text_shares_the_memory_of_its_frame() {
        let frame = Bytes::copy_from_slice(LONG.as_bytes());
        let text = Text::try_from(frame.clone()).unwrap();
        let part = text.slice_ref(&text[2..30]);
        assert_eq!(part.as_ptr(), frame[2..].as_ptr());
        assert_eq!(text.slice_ref(&text[2..4]), "te");
        assert_eq!((text.as_ptr(), text.into_bytes().as_ptr()), (frame.as_ptr(), frame.as_ptr()));
    }

    #[test]
    fn what_is_not_utf_8_is_no_text() {
        assert!(Text::try_from(&b"\xff"[..]).is_err());
        assert!(Text::try_from(Bytes::from(vec![0xff; 40])).is_err());
    }
}
