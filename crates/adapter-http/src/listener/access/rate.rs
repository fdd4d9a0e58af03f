//! How many requests may come, of one client and of all (the generic cell rate algorithm).

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use transload_listen::origin;

use crate::listener::config::{Rate, RateLimitSettings};

/// How many clients are told apart. Beyond that, new ones share one limit.
const CLIENTS_MAX: usize = 65_536;
/// How often those that have been quiet are looked for, at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Stands for all clients that are not told apart.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The limits of one listener or path.
#[derive(Debug)]
pub(in crate::listener) struct Limits {
    of_one: Option<Limiter<IpAddr>>,
    of_all: Option<Limiter<()>>,
}

impl Limits {
    pub(in crate::listener) fn new(settings: &RateLimitSettings) -> Self {
        Self {
            of_one: settings.per_client.map(Limiter::new),
            of_all: settings.total.map(Limiter::new),
        }
    }

    /// Lets a request in, or says when the next one may come. A request that its client's own
    /// limit turns away does not count for all.
    pub(in crate::listener) fn admit(&self, client: IpAddr) -> Result<(), Duration> {
        self.admit_at(client, Instant::now())
    }

    fn admit_at(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        if let Some(limiter) = &self.of_one {
            limiter.admit(origin(client), Some(OTHERS), now)?;
        }
        if let Some(limiter) = &self.of_all {
            limiter.admit((), None, now)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Limiter<K> {
    /// The time that one request stands for.
    interval: Duration,
    /// How far ahead of its time a client may be: what it may send at once.
    ahead_max: Duration,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    /// When each client will have no request to its account.
    times: HashMap<K, Instant>,
    swept: Option<Instant>,
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    fn new(rate: Rate) -> Self {
        let interval = rate.period / rate.count.get();
        let state = Mutex::new(State { times: HashMap::new(), swept: None });
        Self { interval, ahead_max: rate.period.saturating_sub(interval), state }
    }

    fn admit(&self, key: K, others: Option<K>, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = key;
        if state.times.len() >= CLIENTS_MAX && !state.times.contains_key(&key) {
            state.sweep(now);
            if state.times.len() >= CLIENTS_MAX {
                key = others.unwrap_or(key);
            }
        }
        let time = state.times.entry(key).or_insert(now);
        *time = (*time).max(now);
        let ahead = time.saturating_duration_since(now);
        if let Some(early) = ahead.checked_sub(self.ahead_max).filter(|early| !early.is_zero()) {
            return Err(early);
        }
        *time += self.interval;
        Ok(())
    }
}

impl<K: Eq + Hash> State<K> {
    /// Forgets the clients that have no request to their account: they are as good as new.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.times.retain(|_, time| *time > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Limits {
        Limits::new(&toml::from_str(text).unwrap())
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
    }

    #[test]
    fn a_client_may_send_its_share_at_once_and_then_at_its_rate() {
        let limits = limits("per_client = '10/s'");
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..10 {
            assert_eq!(limits.admit_at(address(1), at(0)), Ok(()));
        }
        assert_eq!(limits.admit_at(address(1), at(0)), Err(Duration::from_millis(100)));
        assert_eq!(limits.admit_at(address(2), at(0)), Ok(()), "another one has its own");
        assert_eq!(limits.admit_at(address(1), at(60)), Err(Duration::from_millis(40)));
        assert_eq!(limits.admit_at(address(1), at(100)), Ok(()));
        assert!(limits.admit_at(address(1), at(100)).is_err());
        let later = at(5_000);
        assert_eq!((0..20).filter(|_| limits.admit_at(address(1), later).is_ok()).count(), 10);
    }

    #[test]
    fn all_clients_together_have_a_limit_and_one_network_is_one_client() {
        let limits = limits("total = '3/m'");
        let now = Instant::now();
        let admitted = (0..9).filter(|number| limits.admit_at(address(*number), now).is_ok());
        assert_eq!(admitted.count(), 3);
        let limits = super::tests::limits("per_client = '1/h'");
        assert!(limits.admit_at("2001:db8::1".parse().unwrap(), now).is_ok());
        assert!(limits.admit_at("2001:db8::2".parse().unwrap(), now).is_err());
        assert!(limits.admit_at("2001:db8:0:1::2".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limits = limits("per_client = '1/m'");
        let now = Instant::now();
        let max = u32::try_from(CLIENTS_MAX).unwrap();
        for number in 0..max {
            assert!(limits.admit_at(address(number), now).is_ok());
        }
        assert!(limits.admit_at(address(max), now).is_ok(), "the others share one");
        assert!(limits.admit_at(address(max + 1), now).is_err());
        let held = || limits.of_one.as_ref().unwrap().state.lock().unwrap().times.len();
        assert_eq!(held(), CLIENTS_MAX + 1);
        let later = now + Duration::from_mins(2);
        assert!(limits.admit_at(address(max + 1), later).is_ok());
        assert_eq!(held(), 1, "those that were quiet are forgotten");
    }
}
