//! Event streams: what routes send to the listener, and who reads it.

mod frames;
mod hub;
mod outbound;

pub(super) use self::{
    frames::subscribe,
    hub::Hub,
    outbound::{StreamOutbound, name},
};
