//! Requests and replies: every caller with every responder, real brokers and foreign clients.

mod failures;
mod fixed;
mod many;
mod pairs;
mod rig;
