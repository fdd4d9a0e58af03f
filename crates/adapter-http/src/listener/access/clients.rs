//! Which client a request comes from, where proxies stand between.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

use crate::listener::config::ProxyHeader;

/// How many proxies in a row are believed.
const HOPS_MAX: usize = 32;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word about their clients is taken.
#[derive(Debug)]
pub(in crate::listener) struct Proxies {
    trusted: Vec<IpNet>,
    header: HeaderName,
}

/// Reads a network or a single address.
pub(in crate::listener) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Proxies {
    /// Networks that cannot be read were found when the settings were checked.
    pub(in crate::listener) fn new(trusted: &[String], header: ProxyHeader) -> Self {
        let trusted = trusted.iter().filter_map(|text| network(text)).collect();
        let header = match header {
            ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
            ProxyHeader::Forwarded => FORWARDED,
        };
        Self { trusted, header }
    }

    /// The client: the last one on the way that is not a trusted proxy. What stands before it was
    /// written by somebody whom nobody knows.
    pub(in crate::listener) fn client(&self, peer: IpAddr, fields: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let values: Vec<_> =
            fields.get_all(&self.header).iter().map(http::HeaderValue::as_bytes).collect();
        let hops = values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        for hop in hops.take(HOPS_MAX) {
            let Some(address) = std::str::from_utf8(hop).ok().and_then(|hop| self.read(hop)) else {
                // A proxy that does not say who it got the request from is the client.
                break;
            };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    fn read(&self, hop: &str) -> Option<IpAddr> {
        let node = if self.header == FORWARDED {
            let mut pairs = hop.split(';').filter_map(|pair| pair.trim().split_once('='));
            let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
            node
        } else {
            hop
        };
        let node = node.trim().trim_matches('"');
        let plain = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
        let address = plain.parse::<IpAddr>().ok();
        let address = address.or_else(|| Some(node.parse::<SocketAddr>().ok()?.ip()))?;
        Some(address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(header: ProxyHeader, peer: &str, values: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".to_owned(), "::1".to_owned(), "127.0.0.1".to_owned()];
        let proxies = Proxies::new(&trusted, header);
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(&proxies.header, HeaderValue::from_str(value).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &fields).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, values, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["198.51.100.1, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            ("10.1.2.3", &["198.51.100.1, 203.0.113.9", "10.9.9.9"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.1.2.3", &["2001:db8::1"], "2001:db8::1"),
            ("10.1.2.3", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.1.2.3", &["203.0.113.9, garbage"], "10.1.2.3"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["10.7.7.7"], "10.7.7.7"),
            ("::1", &["203.0.113.9"], "203.0.113.9"),
        ] {
            let found = client(ProxyHeader::XForwardedFor, peer, values);
            assert_eq!(found, expected, "{peer} {values:?}");
        }
    }

    #[test]
    fn the_standard_field_is_read_too() {
        for (values, expected) in [
            (&["for=203.0.113.9;proto=https;by=10.0.0.1"][..], "203.0.113.9"),
            (&["for=198.51.100.1, proto=http;For=\"[2001:db8::17]:4711\""], "2001:db8::17"),
            (&["for=unknown"], "10.1.2.3"),
            (&["for=_hidden, for=10.2.2.2"], "10.2.2.2"),
            (&["proto=https"], "10.1.2.3"),
        ] {
            assert_eq!(client(ProxyHeader::Forwarded, "10.1.2.3", values), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_writes_he_stays_himself(value in "[ -~]{0,60}") {
            let found = client(ProxyHeader::XForwardedFor, "192.0.2.1", &[&value]);
            prop_assert_eq!(found, "192.0.2.1");
            // Nor does it change what the proxy adds behind it.
            let added = format!("{value},203.0.113.9");
            let found = client(ProxyHeader::XForwardedFor, "10.0.0.1", &[&added]);
            prop_assert_eq!(found, "203.0.113.9");
        }
    }
}
