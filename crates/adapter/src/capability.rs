use crate::Carriage;

/// How the sender of a message gets a reply to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyPath {
    /// Not at all.
    #[default]
    None,
    /// With the settlement of its message ([`Settlement::Replied`](crate::Settlement::Replied)):
    /// every sender waits for one (HTTP).
    Settlement,
    /// By a message to the address that its own message names
    /// ([`Outbound::answer`](crate::Outbound::answer)).
    Message,
}

/// What a protocol can promise as a source, under the settings at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// The adapter takes messages in at all.
    pub receives: bool,
    /// The source waits for the acknowledgement, and a message that was not acknowledged comes
    /// again or is known to its sender as not accepted.
    pub acknowledges: bool,
    /// The source can be told at once that there is no room (HTTP 503), so it need not be held.
    pub refuses: bool,
    /// How the source takes a reply.
    pub replies: ReplyPath,
    /// What messages can bring beside their payload.
    pub brings: &'static Carriage,
}

/// What a protocol can promise for one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCapabilities {
    /// The adapter sends messages at all.
    pub sends: bool,
    /// `send` resolves on the peer's confirmation that it has the message.
    pub confirms: bool,
    /// The target can be asked for a reply ([`Outbound::request`](crate::Outbound::request)).
    pub replies: bool,
    /// What the protocol carries beside the payload.
    pub carries: &'static Carriage,
}
