use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Refused;

/// The bounds on how many peers may be served at once: in all, and from one network address.
/// Several listeners may share one.
///
/// What counts as one address is an IPv4 address or an IPv6 network of 64 bits, since whoever has
/// one address of such a network has them all.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    of_one_max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    /// So many places in all, and so many for one address.
    pub fn new(max: usize, of_one_max: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { all, of_one_max, taken: Mutex::default() })
    }

    /// A place for a peer, until it is dropped.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Refused> {
        let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() else {
            return Err(Refused::TooManyConnections);
        };
        let origin = origin(peer);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.entry(origin).or_insert(0);
        if *of_one >= self.of_one_max {
            // An entry of none is there only if the bound is none.
            return Err(Refused::TooManyOfOneAddress);
        }
        *of_one += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), origin, _permit: permit })
    }
}

/// A peer's place among the connections; dropping it lets another peer in.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    origin: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut of_one) = taken.entry(self.origin) {
            *of_one.get_mut() -= 1;
            if *of_one.get() == 0 {
                of_one.remove();
            }
        }
    }
}

/// What counts as one peer: an IPv4 address, or an IPv6 network of 64 bits.
pub fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let first = places.take(address("192.0.2.1")).unwrap();
        let _second = places.take(address("::ffff:192.0.2.1")).unwrap();
        let third = places.take(address("192.0.2.1"));
        assert!(matches!(third, Err(Refused::TooManyOfOneAddress)), "{third:?}");
        let _other = places.take(address("192.0.2.2")).unwrap();
        let fifth = places.take(address("192.0.2.3"));
        assert!(matches!(fifth, Err(Refused::TooManyConnections)), "{fifth:?}");
        drop(first);
        let _again = places.take(address("192.0.2.1")).unwrap();
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_nobody_is_remembered() {
        let places = Places::new(9, 1);
        let first = places.take(address("2001:db8::1")).unwrap();
        assert!(places.take(address("2001:db8::ffff:2")).is_err());
        let other = places.take(address("2001:db8:0:1::1")).unwrap();
        drop((first, other));
        assert!(places.taken.lock().unwrap().is_empty());
        assert_eq!(places.all.available_permits(), 9);
    }
}
