//! The MQTT adapter, in two roles: [`MqttListener`], a broker that devices connect to, and a
//! client of other brokers.
//!
//! Invariants:
//! - A publish is acknowledged only after the routes that want it have settled it and every local
//!   session that is to have it has it.
//! - Both versions of the protocol, 3.1.1 and 5, go through one model (`codec`) and one mapping
//!   (`mapping`).

mod carriage;
mod client;
mod codec;
#[cfg(feature = "testing")]
pub mod fuzz;
mod io;
mod listener;
mod mapping;
#[cfg(feature = "testing")]
pub mod measure;
mod message;
mod request;
#[cfg(feature = "testing")]
mod round_trip;
mod topic;
mod websocket;

pub use carriage::{MQTT_3_1_1, MQTT_5};
pub use client::{
    ClientConfig, ClientTarget, MqttClient, ProtocolVersion, Subscription, SubscriptionSettings,
};
pub use listener::{
    Addresses, CertificateUser, Config as ListenerConfig, MqttListener, Permission,
    Target as ListenerTarget, hash_line,
};
#[cfg(feature = "testing")]
pub use round_trip::round_trip;
