//! Ends a login that the broker never answers.
//!
//! The client library waits for the answer in a thread of its own, without a limit, and the thread
//! outlives whoever gave up on it. What accepts connections and says nothing, such as a load
//! balancer without a broker behind it, would cost a thread and a socket at each attempt.

use std::{
    net::{Shutdown, TcpStream},
    sync::{Mutex, PoisonError},
};

/// A connection whose login is under way; dropping it ends the connection.
#[derive(Debug, Default)]
pub(crate) struct Handshake(Mutex<Option<TcpStream>>);

impl Handshake {
    /// Takes a second handle of the connection's socket.
    #[cfg(unix)]
    pub(crate) fn watch(&self, socket: &impl std::os::fd::AsFd) -> std::io::Result<()> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        self.set(Some(socket.into()));
        Ok(())
    }

    /// Where sockets have no such handles, such a thread stays until the other side hangs up.
    #[cfg(not(unix))]
    pub(crate) fn watch<S>(&self, _: &S) -> std::io::Result<()> {
        Ok(())
    }

    /// The login was answered.
    pub(crate) fn finish(&self) {
        self.set(None);
    }

    fn set(&self, socket: Option<TcpStream>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let socket = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = socket.take() {
            // A socket that is closed already is what is wanted.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}
