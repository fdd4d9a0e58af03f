//! Wiring: configuration, dispatch, supervision, shutdown, admin address, metrics.

pub mod config;
