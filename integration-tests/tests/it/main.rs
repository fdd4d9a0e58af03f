//! Tests against real brokers and foreign clients, all in one program, so that they share what
//! takes long to start.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod access;
mod address;
mod amqp;
mod away;
mod check;
mod conformance;
mod defaults;
mod disk;
mod events;
mod fixtures;
mod listener;
mod matrix;
mod memory;
mod peers;
mod process;
mod reload;
mod reply;
mod rumqttd;
mod secrets;
mod support;
mod telemetry;
mod tls;
mod traps;
mod vanished;
mod vanished_web;
mod webhooks;
