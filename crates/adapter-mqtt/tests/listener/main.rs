//! The device listener, spoken to over real sockets by clients that are not its own: raw packets
//! in the codec of `rumqttc`, which knows nothing of ours, and `rumqttc`'s clients.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever other packet comes is what a test fails with"
)]

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod access;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod common;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod session;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod subscribe;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod websocket;
#[cfg(test)]
mod wire;
