//! What the system is to do for a peer's connection.

use std::{io, time::Duration};

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// After how long without a byte the system asks a peer whether it is still there. Protocols with
/// questions of their own ask earlier.
const IDLE: Duration = Duration::from_mins(1);
/// The pause between two questions.
const INTERVAL: Duration = Duration::from_secs(15);
/// After how many questions without an answer the connection ends.
const QUESTIONS: u32 = 4;
/// How long bytes may stay without the peer's acknowledgement, or untaken by it, before the
/// connection ends. Linux alone would go on for about a quarter of an hour.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_mins(3);

/// Sends without delay, and lets a connection end whose peer is gone without a word.
pub(crate) fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, INTERVAL)?;
    sockopt::set_tcp_keepcnt(tcp, QUESTIONS)?;
    #[cfg(target_os = "linux")]
    {
        let milliseconds = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(tcp, milliseconds)?;
    }
    Ok(())
}
