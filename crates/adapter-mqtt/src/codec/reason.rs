use std::fmt;

/// A reason code (MQTT 5, section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reason(pub(crate) u8);

impl Reason {
    pub(crate) const SUCCESS: Self = Self(0x00);
    pub(crate) const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    pub(crate) const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    pub(crate) const UNSPECIFIED: Self = Self(0x80);
    pub(crate) const MALFORMED: Self = Self(0x81);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x82);
    pub(crate) const IMPLEMENTATION_SPECIFIC: Self = Self(0x83);
    pub(crate) const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub(crate) const CLIENT_ID_NOT_VALID: Self = Self(0x85);
    pub(crate) const BAD_USER_NAME_OR_PASSWORD: Self = Self(0x86);
    pub(crate) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(crate) const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub(crate) const SERVER_BUSY: Self = Self(0x89);
    pub(crate) const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    pub(crate) const BAD_AUTHENTICATION_METHOD: Self = Self(0x8C);
    pub(crate) const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    pub(crate) const SESSION_TAKEN_OVER: Self = Self(0x8E);
    pub(crate) const TOPIC_FILTER_INVALID: Self = Self(0x8F);
    pub(crate) const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub(crate) const PACKET_ID_NOT_FOUND: Self = Self(0x92);
    pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    pub(crate) const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    pub(crate) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(crate) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(crate) const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);

    /// Whether the code tells of a failure.
    pub(crate) fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// The return code of a 3.1.1 CONNACK (3.1.1, table 3.1) that comes nearest.
    pub(super) fn connack_v311(self) -> u8 {
        match self {
            Self::SUCCESS => 0,
            Self::UNSUPPORTED_VERSION => 1,
            Self::CLIENT_ID_NOT_VALID => 2,
            Self::BAD_USER_NAME_OR_PASSWORD => 4,
            Self::NOT_AUTHORIZED | Self::BAD_AUTHENTICATION_METHOD | Self(0x8A) => 5,
            _ => 3,
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A peer broke the protocol: its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason})")]
pub(crate) struct Fault {
    /// For the peer, where its version can hear it.
    pub(crate) reason: Reason,
    /// For people.
    pub(crate) what: &'static str,
}

impl Fault {
    pub(crate) const fn new(reason: Reason, what: &'static str) -> Self {
        Self { reason, what }
    }

    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self::new(Reason::MALFORMED, what)
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self::new(Reason::PROTOCOL_ERROR, what)
    }
}
