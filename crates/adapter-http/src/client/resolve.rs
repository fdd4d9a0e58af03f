//! Which address a request goes to.
//!
//! Invariants:
//! - What is checked is what is connected to: a name is resolved once for each connection, so that an
//!   answer of the name server that changes in between (DNS rebinding) opens nothing.
//! - A name with one private address among its addresses is not connected to at all.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Finds the addresses of names.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    /// A name, and the host that stands for it.
    pub(super) instead: Option<(String, String)>,
    pub(super) block_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = match &self.instead {
            Some((asked, host)) if asked.eq_ignore_ascii_case(name.as_str()) => host.clone(),
            Some(_) | None => name.as_str().to_owned(),
        };
        let block_private = self.block_private;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(allowed(&host, found, block_private)?)
        })
    }
}

fn allowed(host: &str, found: Vec<SocketAddr>, block_private: bool) -> io::Result<Addrs> {
    let private = found.iter().find(|address| is_private(address.ip()));
    if let Some(address) = private.filter(|_| block_private) {
        let message = format!(
            "{host} is at {}, a private address, and `block_private_addresses` is set",
            address.ip()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(Box::new(found.into_iter()))
}

/// The address that a URL names without a name; no resolver is asked for it.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    }
}

/// Whether an address is not one of the public Internet, by the registries of special addresses
/// (RFC 6890), or leads to such an address by way of another.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // This network, private, loopback, multicast and reserved.
        [0 | 10 | 127 | 224..=255, ..]
        // Shared (RFC 6598), link-local with the metadata services of clouds, private.
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        // Protocol assignments, documentation, benchmarks.
        | [192, 0, 0 | 2, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => true,
        _ => false,
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let embedded =
        |high: u16, low: u16| is_private_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // Unspecified, loopback and IPv4-compatible addresses; IPv4-mapped and -translated ones.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // Local NAT64 (RFC 8215), discard, protocol assignments with Teredo and ORCHID, documentation.
        [0x64, 0xff9b, 1, ..]
        | [0x100, 0, 0, 0, ..]
        | [0x2001, 0..=0x1ff | 0xdb8, ..]
        | [0x3fff, 0..=0xfff, ..]
        // Segment routing, unique local, link-local and site-local, multicast.
        | [0x5f00 | 0xfc00..=0xfdff | 0xfe80..=0xfeff | 0xff00..=0xffff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_known_in_every_disguise() {
        for private in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:0a00:0001::1",
            "2002:a9fe:a9fe::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in [
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "169.253.1.1",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:0808:0808::1",
            "2a00:1450::1",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn one_private_address_among_several_is_enough() {
        let found = |addresses: [&str; 2]| {
            addresses.map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).to_vec()
        };
        let mixed = found(["8.8.8.8", "::ffff:10.0.0.1"]);
        let error = allowed("x.example", mixed.clone(), true).err().unwrap().to_string();
        assert!(error.contains("x.example is at ::ffff:10.0.0.1"), "{error}");
        assert_eq!(allowed("x.example", mixed, false).unwrap().count(), 2);
        assert_eq!(allowed("x.example", found(["8.8.8.8", "1.1.1.1"]), true).unwrap().count(), 2);
    }
}
