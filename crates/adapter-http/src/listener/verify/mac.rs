//! Keyed digests, their written forms, and comparison.

use std::fmt;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::settings::{Algorithm, Encoding};

/// The key of a signature.
pub(in crate::listener) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The HMAC of the parts, one behind the other.
    pub(super) fn mac(&self, algorithm: Algorithm, parts: &[&[u8]]) -> Mac {
        let algorithm = match algorithm {
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => hmac::HMAC_SHA256,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
        };
        let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, &self.0));
        for part in parts {
            context.update(part);
        }
        Mac(context.sign())
    }

    /// The HMAC that nearly all schemes use.
    pub(super) fn sha256(&self, parts: &[&[u8]]) -> Mac {
        self.mac(Algorithm::Sha256, parts)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.0.zeroize();
    }
}

/// A keyed digest.
pub(super) struct Mac(hmac::Tag);

impl Mac {
    pub(super) fn hex(&self) -> String {
        let mut text = String::with_capacity(2 * self.0.as_ref().len());
        for byte in self.0.as_ref() {
            for digit in [byte >> 4, byte & 0xf] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        text
    }

    pub(super) fn base64(&self) -> String {
        STANDARD.encode(self.0.as_ref())
    }

    pub(super) fn written(&self, encoding: Encoding) -> String {
        match encoding {
            Encoding::Hex => self.hex(),
            Encoding::Base64 => self.base64(),
            Encoding::Base64url => URL_SAFE_NO_PAD.encode(self.0.as_ref()),
        }
    }
}

/// Whether the sender's text is the expected one. The time that this takes tells the length of
/// the expected one and nothing else.
pub(super) fn same(expected: &[u8], given: &[u8]) -> bool {
    expected.ct_eq(given).into()
}
