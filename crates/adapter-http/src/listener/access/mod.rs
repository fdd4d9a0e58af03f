//! Who may do what: credentials, the addresses of clients, rates, other origins.

mod authenticator;
mod clients;
mod cors;
mod policy;
mod rate;

pub(super) use self::{
    authenticator::{Authenticator, Peer, User},
    clients::{Proxies, network},
    cors::{Cors, is_foreign},
    policy::{Access, FaultAt, Policies, Policy, Reading},
    rate::Limits,
};
