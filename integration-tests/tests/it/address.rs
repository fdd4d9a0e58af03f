//! Canonical addresses in the form of each protocol and back, written from the conventions and not
//! from the adapters.

/// AMQP: `/` and `.` change places.
pub(crate) fn to_routing_key(address: &str) -> String {
    let swap = |character| match character {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    address.chars().map(swap).collect()
}

pub(crate) fn of_routing_key(key: &str) -> String {
    to_routing_key(key)
}

/// NATS, as nats-server maps MQTT topics: a level is a token, a dot in it is `//`, an empty level
/// is a `/` alone.
pub(crate) fn to_subject(address: &str) -> String {
    let token = |level: &str| match level {
        "" => "/".to_owned(),
        level => level.replace('.', "//"),
    };
    address.split('/').map(token).collect::<Vec<_>>().join(".")
}

pub(crate) fn of_subject(subject: &str) -> String {
    let level = |token: &str| match token {
        "/" => String::new(),
        token => token.replace("//", "."),
    };
    subject.split('.').map(level).collect::<Vec<_>>().join("/")
}

/// HTTP: the path, percent-encoded level by level.
pub(crate) fn to_path(address: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    let encode = |byte: u8| {
        if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    address.bytes().map(encode).collect()
}

pub(crate) fn of_path(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match rest {
            [b'%', high, low, ..] => {
                let digits = [*high, *low];
                std::str::from_utf8(&digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok())
            }
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &rest[3..] } else { tail };
    }
    String::from_utf8(bytes).expect("a path in UTF-8")
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

#[test]
fn the_forms_are_those_of_the_conventions() {
    for (address, key, subject, path) in [
        ("a/b", "a.b", "a.b", "a/b"),
        ("a/v1.0/b", "a.v1/0.b", "a.v1//0.b", "a/v1.0/b"),
        ("a//b", "a..b", "a./.b", "a//b"),
        ("a/ü", "a.ü", "a.ü", "a/%C3%BC"),
    ] {
        assert_eq!(to_routing_key(address), key);
        assert_eq!(to_subject(address), subject);
        assert_eq!(to_path(address), path);
        assert_eq!(of_routing_key(key), address);
        assert_eq!(of_subject(subject), address);
        assert_eq!(of_path(&format!("/{path}")), address);
    }
}
