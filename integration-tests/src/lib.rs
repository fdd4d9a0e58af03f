//! Real brokers and foreign clients, started and stopped by the tests.
//!
//! Invariants:
//! - Everything runs on 127.0.0.1, on ports that nobody uses, in temporary directories.
//! - Nothing outlives the test process, however that ends.
//! - A broker or client that is not installed fails the test, with the command that installs it.
//! - Every wait has a deadline, and fails with what was waited for.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a fixture that cannot do its work fails the test that asked for it"
)]

pub mod bench;
mod consumer;
pub mod curl;
pub mod faults;
mod gateway;
mod guard;
mod http_sink;
mod message;
mod mosquitto;
pub mod mosquitto_clients;
mod nats;
mod ports;
mod process;
mod proxy;
mod python;
mod rabbitmq;
mod small_disk;
mod tls;
pub mod wait;

pub use self::{
    consumer::Consumer,
    gateway::{Transload, transload, transload_to_end},
    guard::directory,
    http_sink::HttpSink,
    message::{Message, Received, texts},
    mosquitto::Mosquitto,
    nats::Nats,
    ports::free_port,
    process::{End, Process},
    proxy::Proxy,
    python::{Outcome, Python},
    rabbitmq::RabbitMq,
    small_disk::SmallDisk,
    tls::ServerTls,
};
