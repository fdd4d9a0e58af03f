//! The one table from what the client reports to the reaction that it needs.

use amq_protocol::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use transload_adapter::{ConnectError, SendError};
use transload_envelope::Text;

use crate::client::Error;

/// What an error of the client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The connection is of no more use: connect again.
    Lost,
    /// The broker understood and does not want it: a person should look.
    Refused(Text),
    /// The broker closed one channel for this reason; the connection stays.
    ChannelClosed(Cause, Text),
    /// The channel was closed before, for a reason that was told to someone else.
    ChannelGone,
    /// There is no room for another channel.
    NoRoom,
}

/// Why a broker closes a channel (AMQP 0-9-1, section 1.2, «soft» reply codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// 404: a queue or an exchange is not there.
    NotFound,
    /// 403: no permission.
    AccessRefused,
    /// 406 and 311: the broker cannot take this as it is.
    Unacceptable,
    /// 405: it is someone else's exclusively.
    Locked,
    /// 312 and 313 come with returned messages, and never close a channel.
    Unexpected,
}

/// The table.
pub(crate) fn reaction(error: &Error) -> Reaction {
    match error {
        Error::Told(told) => {
            let text = Text::from(told.get_message().as_str());
            match told.kind() {
                AMQPErrorKind::Soft(code) => Reaction::ChannelClosed(cause(code), text),
                AMQPErrorKind::Hard(code) => hard(code, text),
            }
        }
        Error::NoChannel => Reaction::NoRoom,
        Error::ChannelClosed => Reaction::ChannelGone,
        Error::Version(_) | Error::Login(_) => Reaction::Refused(error.to_string().into()),
        Error::Closed | Error::Io(_) | Error::Silent | Error::Protocol(_) => Reaction::Lost,
    }
}

fn cause(code: &AMQPSoftError) -> Cause {
    match code {
        AMQPSoftError::NOTFOUND => Cause::NotFound,
        AMQPSoftError::ACCESSREFUSED => Cause::AccessRefused,
        AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE => Cause::Unacceptable,
        AMQPSoftError::RESOURCELOCKED => Cause::Locked,
        AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS => Cause::Unexpected,
    }
}

fn hard(code: &AMQPHardError, text: Text) -> Reaction {
    match code {
        // A missing virtual host, a name that is not allowed, a method that the broker lacks.
        AMQPHardError::INVALIDPATH | AMQPHardError::NOTALLOWED | AMQPHardError::NOTIMPLEMENTED => {
            Reaction::Refused(text)
        }
        AMQPHardError::CONNECTIONFORCED
        | AMQPHardError::FRAMEERROR
        | AMQPHardError::SYNTAXERROR
        | AMQPHardError::COMMANDINVALID
        | AMQPHardError::CHANNELERROR
        | AMQPHardError::UNEXPECTEDFRAME
        | AMQPHardError::RESOURCEERROR
        | AMQPHardError::INTERNALERROR => Reaction::Lost,
    }
}

/// Why a connection, a queue or a consumer did not come about; `what` says what was wanted.
#[expect(clippy::needless_pass_by_value, reason = "errors are handed over by `map_err`")]
pub(crate) fn connect_error(what: &str, error: Error) -> ConnectError {
    match reaction(&error) {
        // A refused login comes as 403 too.
        Reaction::Refused(reason) | Reaction::ChannelClosed(_, reason) => {
            ConnectError::Refused { reason: format!("{what}: {reason}").into() }
        }
        Reaction::NoRoom => ConnectError::Refused { reason: format!("{what}: {error}").into() },
        Reaction::Lost | Reaction::ChannelGone => {
            ConnectError::Unreachable(format!("{what}: {error}").into())
        }
    }
}

/// What a channel that the broker closed means for the one message that was on it.
pub(crate) fn closed_by(cause: Cause, text: &Text, own_exchange: bool, own_key: bool) -> SendError {
    match cause {
        // The target's exchange may be there soon, and nothing is wrong with the message.
        Cause::NotFound if !own_exchange => SendError::Busy { after: None, reason: text.clone() },
        Cause::NotFound | Cause::Unacceptable => SendError::Rejected { reason: text.clone() },
        Cause::AccessRefused if own_exchange => SendError::Rejected { reason: text.clone() },
        // Permission may hang on the routing key; else it is a matter of the target, and may come.
        Cause::AccessRefused if !own_key => SendError::Busy { after: None, reason: text.clone() },
        Cause::AccessRefused | Cause::Locked | Cause::Unexpected => {
            SendError::Failed { reason: text.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use amq_protocol::protocol::{AMQPError, AMQPHardError::*, AMQPSoftError::*};

    use super::*;

    fn told(kind: impl Into<AMQPErrorKind>) -> Error {
        Error::Told(AMQPError::new(kind.into(), "TEXT".into()))
    }

    #[test]
    fn each_error_has_its_reaction() {
        let closed = |cause| Reaction::ChannelClosed(cause, "TEXT".into());
        for (error, expected) in [
            (told(NOTFOUND), closed(Cause::NotFound)),
            (told(ACCESSREFUSED), closed(Cause::AccessRefused)),
            (told(PRECONDITIONFAILED), closed(Cause::Unacceptable)),
            (told(CONTENTTOOLARGE), closed(Cause::Unacceptable)),
            (told(RESOURCELOCKED), closed(Cause::Locked)),
            (told(NOROUTE), closed(Cause::Unexpected)),
            (told(NOTALLOWED), Reaction::Refused("TEXT".into())),
            (told(INVALIDPATH), Reaction::Refused("TEXT".into())),
            (told(CONNECTIONFORCED), Reaction::Lost),
            (told(INTERNALERROR), Reaction::Lost),
            (told(FRAMEERROR), Reaction::Lost),
            (Error::Silent, Reaction::Lost),
            (io::Error::from(io::ErrorKind::ConnectionReset).into(), Reaction::Lost),
            (Error::Closed, Reaction::Lost),
            (Error::protocol("x"), Reaction::Lost),
            (Error::Login("x".to_owned()), Reaction::Refused("x".into())),
            (Error::ChannelClosed, Reaction::ChannelGone),
            (Error::NoChannel, Reaction::NoRoom),
        ] {
            assert_eq!(reaction(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_broken_line() {
        let refused = connect_error("queue q", told(NOTFOUND));
        assert_eq!(refused.to_string(), "the peer refused: queue q: TEXT");
        let refused = connect_error("login", told(ACCESSREFUSED));
        assert!(matches!(refused, ConnectError::Refused { .. }));
        let broken = connect_error("login", Error::Silent);
        assert!(matches!(broken, ConnectError::Unreachable(_)));
    }

    #[test]
    fn a_message_is_only_rejected_for_what_is_its_own() {
        let name = |error: SendError| match error {
            SendError::Busy { .. } => "busy",
            SendError::Disconnected(_) => "disconnected",
            SendError::Failed { .. } => "failed",
            SendError::Rejected { .. } => "rejected",
        };
        for (cause, own_exchange, own_key, expected) in [
            (Cause::NotFound, false, true, "busy"),
            (Cause::NotFound, true, true, "rejected"),
            (Cause::AccessRefused, true, false, "rejected"),
            (Cause::AccessRefused, false, true, "failed"),
            (Cause::AccessRefused, false, false, "busy"),
            (Cause::Unacceptable, false, false, "rejected"),
            (Cause::Locked, false, false, "failed"),
        ] {
            let error = closed_by(cause, &"TEXT".into(), own_exchange, own_key);
            assert_eq!(name(error), expected, "{cause:?} {own_exchange} {own_key}");
        }
    }
}
