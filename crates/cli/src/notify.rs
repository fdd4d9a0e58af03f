//! Tells the service manager how the gateway is, as `sd_notify(3)` describes: a datagram to the socket
//! that `NOTIFY_SOCKET` names. Without that variable nothing is told.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use tracing::debug;

use crate::environment;

/// Tells that messages are taken in.
pub(crate) fn ready() {
    tell("READY=1\nSTATUS=Messages are taken in.");
}

/// Tells that the gateway finishes what is in flight.
pub(crate) fn stopping() {
    tell("STOPPING=1\nSTATUS=What is in flight is finished.");
}

fn tell(state: &str) {
    let Some(socket) = environment("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        // The service manager sees by its own time-out that nothing came.
        debug!(%error, "The service manager cannot be told.");
    }
}

/// A name that begins with `@` is one without a file.
fn send(socket: &str, state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_to_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1").unwrap();
        let mut text = [0; 64];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");

        let name = format!("transload-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(&format!("@{name}"), "STOPPING=1").unwrap();
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"STOPPING=1");
    }
}
