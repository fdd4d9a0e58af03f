use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{Challenge, Key, Refused, Scheme, Signed, mac::same};

/// The longest challenge that is answered, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// `X-Twitter-Webhooks-Signature: sha256=BASE64` over the body, and the challenge
/// `GET ?crc_token=TOKEN`, whose answer is made with the same key.
///
/// The answer to a challenge would be the signature of a body that is the same as its token, and
/// anybody may ask. So only tokens of the characters of base64 are answered, and a body that could be
/// such a token is refused, however it is signed.
#[derive(Debug)]
pub(super) struct Twitter;

fn could_be_token(bytes: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    bytes.len() <= TOKEN_BYTES_MAX && bytes.iter().all(known)
}

impl Scheme for Twitter {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only("x-twitter-webhooks-signature")?;
        let given = given.strip_prefix("sha256=").ok_or(Refused::Malformed)?;
        if could_be_token(request.body()) {
            return Err(Refused::Malformed);
        }
        let expected = key.sha256(&[request.body()]).base64();
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn query_challenge(&self, query: &str, key: &Key) -> Option<Challenge> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, token) = pairs.find(|(name, _)| *name == "crc_token")?;
        let token = percent_decode_str(token).collect::<Vec<u8>>();
        if token.is_empty() || !could_be_token(&token) {
            return None;
        }
        let response = format!("sha256={}", key.sha256(&[&token]).base64());
        let body = json!({ "response_token": response }).to_string();
        Some(Challenge { content_type: "application/json", body })
    }
}
