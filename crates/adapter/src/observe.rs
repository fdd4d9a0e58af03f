use std::fmt;

/// What can happen inside an adapter that someone may want to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A peer connected to a listener.
    ConnectionOpened,
    /// A peer's connection ended.
    ConnectionClosed,
    /// A peer was turned away: limit, authentication, protocol.
    ConnectionRefused,
    /// A peer was not given a subscription: not allowed, or too many.
    SubscriptionRefused,
    /// A peer broke its protocol.
    ProtocolError,
    /// A peer may not log in, or not do what it asks for: no good credential, no good signature, no
    /// permission.
    AccessDenied,
    /// A message was turned away before any rule saw it: too large, wrong type, not allowed.
    MessageRefused,
    /// A message was lost at a bound that the protocol or the settings name, such as a slow
    /// subscriber's `QoS` 0.
    MessageDropped,
    /// A message ended because its expiry had passed.
    MessageExpired,
    /// A message was handed from one peer of a listener to another without a route.
    MessageLocal,
    /// A reply came that nobody waited for any more.
    ReplyLate,
}

/// Counts events; must be cheap and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Adds to the count of an event.
    fn count(&self, event: Event, by: u64);
}

/// Counts nothing; for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn count(&self, _: Event, _: u64) {}
}
