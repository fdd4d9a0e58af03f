//! The rules file `adapters.toml`: reading, checking, and what comes of it.

mod model;

pub use self::model::{
    AdapterInstance, Configuration, GatewaySettings, Guarantee, Route, RouteTarget, WhenFull,
};
