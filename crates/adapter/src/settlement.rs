use std::time::Duration;

use transload_envelope::{Envelope, Text};

/// Why a message is refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A queue is full and its policy is to reject.
    Full,
    /// The message itself cannot be handled: too large, not of the form that a rule asks for.
    Invalid,
    /// The message has passed too many routes.
    Loop,
    /// The target does not want it.
    Target,
}

/// What the source is to do with a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// Handled as the guarantee asks; the source may forget it.
    Accepted,
    /// No rule wants it, and that is all right with the gateway; the source may forget it, and may
    /// tell its sender (HTTP 404, MQTT 5 reason code 0x10).
    Unrouted,
    /// A target answered, or the answer says why none did; the source may forget the request. Only
    /// for sources of [`ReplyPath::Settlement`](crate::ReplyPath::Settlement).
    Replied(Box<Envelope>),
    /// Never deliverable: the source may forget it, discard it or put it aside by its own means.
    Rejected {
        /// The kind of reason.
        refusal: Refusal,
        /// The reason for people.
        reason: Text,
    },
    /// Not handled: to be delivered again, not before the delay.
    Released {
        /// How long to wait.
        after: Duration,
    },
}

impl Settlement {
    /// To be delivered again at once.
    pub const RELEASED: Self = Self::Released { after: Duration::ZERO };
}
