//! What each error of the client library means for the gateway: one exhaustive table per version.

use rumqttc::{ConnectionError as ErrorV4, StateError as StateV4, mqttbytes, v5};
use transload_adapter::{BoxError, ConnectError};

use super::link::Loss;

/// Why a connection ended or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It broke off or was never there.
    Lost(String),
    /// The broker does not want us.
    Refused(String),
    /// Our own settings cannot work.
    Unusable(String),
}

impl Broken {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Lost(reason) | Self::Refused(reason) | Self::Unusable(reason) => reason,
        }
    }
}

impl From<Broken> for ConnectError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lost(reason) => Self::Unreachable(Box::new(Loss(reason)) as BoxError),
            Broken::Refused(reason) => Self::Refused { reason: reason.into() },
            Broken::Unusable(reason) => Self::Unusable { reason: reason.into() },
        }
    }
}

/// Errors of MQTT 3.1.1.
pub(super) fn v4(error: &ErrorV4) -> Broken {
    match error {
        ErrorV4::ConnectionRefused(code) => {
            Broken::Refused(format!("the broker refuses the connection: {code:?}"))
        }
        ErrorV4::InvalidUrl(_) => Broken::Unusable(error.to_string()),
        // The peer is no MQTT broker, or not on this port.
        ErrorV4::NotConnAck(_) | ErrorV4::ResponseValidation(_) => {
            Broken::Refused(error.to_string())
        }
        ErrorV4::MqttState(state) => Broken::Lost(match state {
            StateV4::Deserialization(fault) => {
                unreadable(&fault, matches!(fault, mqttbytes::Error::Io(_)))
            }
            StateV4::Io(_)
            | StateV4::InvalidState
            | StateV4::Unsolicited(_)
            | StateV4::AwaitPingResp
            | StateV4::WrongPacket
            | StateV4::CollisionTimeout
            | StateV4::EmptySubscription
            | StateV4::ConnectionAborted => state.to_string(),
        }),
        ErrorV4::NetworkTimeout
        | ErrorV4::FlushTimeout
        | ErrorV4::Websocket(_)
        | ErrorV4::WsConnect(_)
        | ErrorV4::Tls(_)
        | ErrorV4::Io(_)
        | ErrorV4::RequestsDone => Broken::Lost(error.to_string()),
    }
}

/// Errors of MQTT 5.
pub(super) fn v5(error: &v5::ConnectionError) -> Broken {
    use v5::{
        ConnectionError as Error, StateError as State, mqttbytes::v5::ConnectReturnCode as Code,
    };
    match error {
        Error::ConnectionRefused(code) => {
            let unknown_version =
                matches!(code, Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion);
            let help = if unknown_version { "; it may know `version = \"3.1.1\"`" } else { "" };
            Broken::Refused(format!("the broker refuses the connection: {code:?}{help}"))
        }
        Error::InvalidUrl(_) => Broken::Unusable(error.to_string()),
        Error::NotConnAck(_) | Error::ResponseValidation(_) => Broken::Refused(error.to_string()),
        Error::MqttState(state) => Broken::Lost(match state {
            State::ServerDisconnect { reason_code, reason_string } => format!(
                "the broker ended the connection: {reason_code:?} {}",
                reason_string.as_deref().unwrap_or_default()
            ),
            State::Deserialization(fault) => {
                unreadable(&fault, matches!(fault, v5::mqttbytes::Error::Io(_)))
            }
            State::Io(_)
            | State::Coversion(_)
            | State::InvalidState
            | State::Unsolicited(_)
            | State::AwaitPingResp
            | State::WrongPacket
            | State::CollisionTimeout
            | State::EmptySubscription
            | State::InvalidAlias { .. }
            | State::OutgoingPacketTooLarge { .. }
            | State::IncomingPacketTooLarge { .. }
            | State::ConnFail { .. }
            | State::ConnectionAborted => state.to_string(),
        }),
        Error::Timeout(_)
        | Error::Websocket(_)
        | Error::WsConnect(_)
        | Error::Tls(_)
        | Error::Io(_)
        | Error::RequestsDone => Broken::Lost(error.to_string()),
    }
}

/// The library reports a broken connection as a packet that it could not read.
fn unreadable(fault: &impl std::fmt::Display, broken_off: bool) -> String {
    if broken_off {
        fault.to_string()
    } else {
        format!("a packet cannot be read: {fault} (see `max_packet_bytes` and `version`)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_an_outage() {
        let error = ErrorV4::ConnectionRefused(rumqttc::ConnectReturnCode::NotAuthorized);
        assert!(matches!(v4(&error), Broken::Refused(_)));
        let code = v5::mqttbytes::v5::ConnectReturnCode::UnsupportedProtocolVersion;
        let Broken::Refused(reason) = v5(&v5::ConnectionError::ConnectionRefused(code)) else {
            panic!("a refusal is expected")
        };
        assert!(reason.contains("3.1.1"), "{reason}");
        assert!(matches!(v4(&ErrorV4::NetworkTimeout), Broken::Lost(_)));
    }
}
