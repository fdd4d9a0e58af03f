//! Forms of a payload: `decode` and `encode`.
//!
//! | codec | decode | encode |
//! |---|---|---|
//! | `json` | the payload must be JSON | a payload that is no JSON becomes a JSON string |
//! | `text` | UTF-8 text becomes a JSON string | a JSON string becomes its text |
//! | `base64` | text to bytes, standard or URL-safe, with or without padding | bytes to text |
//! | `gzip` | inflated, up to a bound | deflated |
//! | `cbor`, `msgpack` | to JSON | from JSON |
//!
//! Content type and content encoding follow, except with `base64`, for which neither has a word.

use std::io::{Read, Write as _};

use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig,
        general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    },
};
use bytes::Bytes;
use ciborium::Value as Binary;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::Deserialize as _;
use serde_json::{Map, Number, Value};
use transload_envelope::Text;

use super::{draft::Draft, node::Node};

/// How many bytes a payload may have when it is inflated.
pub const INFLATED_BYTES_MAX: usize = 16 << 20;

/// How deeply lists and maps of a binary format may be nested: as deeply as those of JSON.
const DEPTH_MAX: usize = 128;

pub(super) const JSON: Text = Text::from_static("application/json");
const PLAIN: Text = Text::from_static("text/plain; charset=utf-8");
const CBOR: Text = Text::from_static("application/cbor");
const MSGPACK: Text = Text::from_static("application/vnd.msgpack");

const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const ANY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// A form of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "described at the head of the module")]
pub enum Codec {
    Json,
    Text,
    Base64,
    Gzip,
    Cbor,
    Msgpack,
}

impl Codec {
    /// All of them with their names.
    pub const ALL: &[(&str, Self)] = &[
        ("json", Self::Json),
        ("text", Self::Text),
        ("base64", Self::Base64),
        ("gzip", Self::Gzip),
        ("cbor", Self::Cbor),
        ("msgpack", Self::Msgpack),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, codec)| *codec == self).map_or("", |(name, _)| name)
    }

    pub(super) fn decode(self, draft: &mut Draft) -> Result<(), String> {
        match self {
            Self::Json => draft.json().map(drop),
            Self::Text => {
                let text = utf8(draft.bytes())?;
                draft.set_json(Node::from_value(&Value::from(text)), JSON);
                Ok(())
            }
            Self::Base64 => {
                let bytes = from_base64(&draft.bytes())?;
                draft.set_bytes(bytes.into());
                Ok(())
            }
            Self::Gzip => {
                let inflated = inflate(&draft.bytes(), INFLATED_BYTES_MAX)?;
                draft.set_bytes(inflated.into());
                draft.drop_coding("gzip");
                Ok(())
            }
            Self::Cbor => {
                let bytes = draft.bytes();
                let mut rest = &*bytes;
                let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX);
                let value: Binary = value.map_err(|error| cbor_fault(&error))?;
                draft.set_json(from_binary(value, rest)?, JSON);
                Ok(())
            }
            Self::Msgpack => {
                let bytes = draft.bytes();
                let mut rest = &*bytes;
                let mut reader = rmp_serde::Deserializer::new(&mut rest);
                reader.set_max_depth(DEPTH_MAX);
                let value = Binary::deserialize(&mut reader);
                let value = value.map_err(|error| format!("it is no MessagePack: {error}"))?;
                draft.set_json(from_binary(value, rest)?, JSON);
                Ok(())
            }
        }
    }

    pub(super) fn encode(self, draft: &mut Draft) -> Result<(), String> {
        match self {
            Self::Json => {
                if draft.json().is_err() {
                    let text = utf8(draft.bytes())
                        .map_err(|reason| format!("{reason}; encode it as base64 before"))?;
                    draft.set_json(Node::from_value(&Value::from(text)), JSON);
                }
                Ok(())
            }
            Self::Text => {
                let text = match draft.opened_json().and_then(Node::as_string) {
                    Some(text) => text,
                    None => utf8(draft.bytes())?,
                };
                draft.set_bytes(text.into());
                draft.set_content_type(PLAIN);
                Ok(())
            }
            Self::Base64 => {
                let text = STANDARD.encode(draft.bytes());
                draft.set_bytes(text.into());
                Ok(())
            }
            Self::Gzip => {
                let deflated = deflate(&draft.bytes())?;
                draft.set_bytes(deflated.into());
                draft.add_coding("gzip");
                Ok(())
            }
            Self::Cbor => {
                let mut bytes = Vec::new();
                let value = draft.json()?.exact_value()?;
                ciborium::into_writer(&value, &mut bytes).map_err(|error| error.to_string())?;
                draft.set_bytes(bytes.into());
                draft.set_content_type(CBOR);
                Ok(())
            }
            Self::Msgpack => {
                let value = draft.json()?.exact_value()?;
                let bytes = rmp_serde::to_vec_named(&value).map_err(|error| error.to_string())?;
                draft.set_bytes(bytes.into());
                draft.set_content_type(MSGPACK);
                Ok(())
            }
        }
    }
}

fn cbor_fault(error: &ciborium::de::Error<std::io::Error>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => "it is no CBOR: it ends too early".to_owned(),
        Error::Syntax(at) => format!("it is no CBOR, at byte {at}"),
        Error::Semantic(_, message) => format!("it is no CBOR: {message}"),
        Error::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    }
}

fn utf8(bytes: Bytes) -> Result<String, String> {
    String::from_utf8(bytes.into()).map_err(|_| "the payload is not UTF-8".to_owned())
}

/// Decodes base64 of any of the usual kinds; white space in it is skipped.
pub(super) fn from_base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if url_safe { ANY_URL_SAFE } else { ANY_STANDARD };
    engine.decode(&text).map_err(|error| format!("it is no base64: {error}"))
}

pub(super) fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    let bound = bytes_max as u64 + 1;
    let read = MultiGzDecoder::new(bytes).take(bound).read_to_end(&mut inflated);
    read.map_err(|error| format!("it is no gzip: {error}"))?;
    if inflated.len() > bytes_max {
        return Err(format!("it inflates to more than {bytes_max} bytes"));
    }
    Ok(inflated)
}

fn deflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|error| error.to_string())
}

fn from_binary(value: Binary, rest: &[u8]) -> Result<Node, String> {
    if !rest.is_empty() {
        return Err(format!("{} bytes follow behind the value", rest.len()));
    }
    Ok(Node::from_value(&to_json(value)?))
}

/// What JSON can say of a value of a binary format, as RFC 8949, section 6.1, advises: bytes become
/// URL-safe base64 without padding, tags are left out. What JSON cannot say is an error.
fn to_json(value: Binary) -> Result<Value, String> {
    Ok(match value {
        Binary::Null => Value::Null,
        Binary::Bool(truth) => Value::Bool(truth),
        Binary::Integer(number) => {
            let number = i128::from(number);
            let fitting = u64::try_from(number).map(Number::from);
            let fitting = fitting.or_else(|_| i64::try_from(number).map(Number::from));
            Value::Number(
                fitting.map_err(|_| format!("the integer {number} does not fit 64 bits"))?,
            )
        }
        Binary::Float(number) => Value::Number(
            Number::from_f64(number).ok_or_else(|| format!("JSON has no number {number}"))?,
        ),
        Binary::Text(text) => Value::String(text),
        Binary::Bytes(bytes) => Value::String(URL_SAFE_NO_PAD.encode(bytes)),
        // Bignums (RFC 8949, section 3.4.3).
        Binary::Tag(2 | 3, _) => return Err("a large integer does not fit 64 bits".to_owned()),
        Binary::Tag(_, inner) => to_json(*inner)?,
        Binary::Array(list) => list.into_iter().map(to_json).collect::<Result<_, _>>()?,
        Binary::Map(entries) => {
            let mut members = Map::new();
            for (name, value) in entries {
                let name = match name {
                    Binary::Text(text) => text,
                    Binary::Integer(number) => i128::from(number).to_string(),
                    Binary::Null
                    | Binary::Bool(_)
                    | Binary::Float(_)
                    | Binary::Bytes(_)
                    | Binary::Tag(..)
                    | Binary::Array(_)
                    | Binary::Map(_)
                    | _ => {
                        return Err("a map has a key that is neither text nor integer".to_owned());
                    }
                };
                if members.insert(name.clone(), to_json(value)?).is_some() {
                    return Err(format!("the key `{name}` occurs twice in a map"));
                }
            }
            Value::Object(members)
        }
        _ => return Err("a value has a form that is not known".to_owned()),
    })
}
