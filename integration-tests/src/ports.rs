use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

static GIVEN_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on 127.0.0.1 that nobody uses and that is not given out again by this process.
///
/// It is from below the range from which the kernel takes ports for outgoing connections:
/// otherwise a client that tries to reach a broker which is away could be given the broker's own
/// port and be connected to itself, and a broker could find its port taken when it comes back.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 22_000;
    let mut given_out = GIVEN_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    // Test processes that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(211);
    for step in 0..COUNT {
        let port = FIRST + begin.wrapping_add(step) % COUNT;
        let Ok(port) = u16::try_from(port) else { continue };
        if given_out.contains(&port) {
            continue;
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given_out.insert(port);
            return port;
        }
    }
    panic!("no free port on 127.0.0.1");
}
