//! From the first byte to an open connection (AMQP 0-9-1, sections 2.2.4 and 1.4).

use amq_protocol::{
    auth::{Credentials, SASLMechanism},
    frame::{AMQPFrame, ProtocolVersion},
    protocol::{
        AMQPClass,
        connection::{AMQPMethod, Open, SecureOk, StartOk, Tune, TuneOk},
    },
    types::{AMQPValue, FieldTable, LongString},
    uri::AMQPUri,
};
use transload_adapter::wire::Io;

use super::{
    error::{Error, Result},
    input::{Frame, frame_bytes, method_frame, next_frame},
};

/// The largest frame before another size is agreed upon: RabbitMQ's list of what it can do is
/// longer than the 4,096 bytes of the specification.
const FRAME_BYTES_MAX: usize = 128 * 1024;

/// What both sides have agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) channel_max: u16,
    pub(super) frame_bytes_max: u32,
    /// In seconds; 0 is none.
    pub(super) heartbeat_s: u16,
}

/// Logs in and opens the virtual host of the URL.
///
/// # Errors
///
/// Those of the connection, and what the broker says when it refuses.
pub(super) async fn login(io: &mut Io, uri: &AMQPUri, name: &str) -> Result<Terms> {
    io.output.buffer().extend_from_slice(&frame_bytes(&AMQPFrame::ProtocolHeader(
        ProtocolVersion::amqp_0_9_1(),
    ))?);
    let credentials = Credentials::from(uri.authority.userinfo.clone());
    let mechanism = uri.query.auth_mechanism.unwrap_or_default();
    let method = next_method(io).await?;
    let AMQPMethod::Start(start) = method else { return Err(unexpected(&method)) };
    if !names(&start.mechanisms, mechanism.name()) {
        let (offered, wanted) = (&start.mechanisms, mechanism.name());
        let reason = format!("the broker offers {offered} to log in, and not {wanted}");
        return Err(Error::Login(reason));
    }
    send(
        io,
        AMQPMethod::StartOk(StartOk {
            client_properties: client_properties(name),
            mechanism: mechanism.name().into(),
            response: credentials.sasl_auth_string(mechanism),
            locale: "en_US".into(),
        }),
    )?;
    let mut method = next_method(io).await?;
    if let (AMQPMethod::Secure(_), SASLMechanism::RabbitCrDemo) = (&method, mechanism) {
        let response = credentials.rabbit_cr_demo_answer();
        send(io, AMQPMethod::SecureOk(SecureOk { response }))?;
        method = next_method(io).await?;
    }
    let AMQPMethod::Tune(tune) = method else { return Err(unexpected(&method)) };
    let terms = agreed(&tune, uri);
    send(
        io,
        AMQPMethod::TuneOk(TuneOk {
            channel_max: terms.channel_max,
            frame_max: terms.frame_bytes_max,
            heartbeat: terms.heartbeat_s,
        }),
    )?;
    send(io, AMQPMethod::Open(Open { virtual_host: uri.vhost.as_str().into() }))?;
    let method = next_method(io).await?;
    if let AMQPMethod::OpenOk(_) = method { Ok(terms) } else { Err(unexpected(&method)) }
}

fn send(io: &mut Io, method: AMQPMethod) -> Result<()> {
    io.output.buffer().extend_from_slice(&method_frame(0, AMQPClass::Connection(method))?);
    Ok(())
}

async fn next_method(io: &mut Io) -> Result<AMQPMethod> {
    loop {
        match next_frame(&mut io.input, FRAME_BYTES_MAX)? {
            Some(Frame::Connection(AMQPMethod::Close(close))) => return Err(close.into()),
            Some(Frame::Connection(method)) => return Ok(method),
            Some(Frame::Heartbeat) => {}
            Some(Frame::Channel(..)) => {
                return Err(Error::protocol("the broker sends messages before it has let us in"));
            }
            None => drop(io.progress(true).await?),
        }
    }
}

/// An error of a broker that says this where it has no place.
pub(super) fn unexpected(method: &AMQPMethod) -> Error {
    let name = format!("{method:?}");
    let name = name.split(['(', ' ']).next().unwrap_or_default();
    Error::protocol(format!("the broker sends connection.{name} where it has no place"))
}

fn names(list: &LongString, name: &str) -> bool {
    String::from_utf8_lossy(list.as_bytes()).split_whitespace().any(|one| one == name)
}

/// The smaller of both wishes, where 0 is none.
fn agreed(tune: &Tune, uri: &AMQPUri) -> Terms {
    fn smaller<T: Ord + Default + Copy>(theirs: T, ours: Option<T>) -> T {
        let none = T::default();
        match ours {
            Some(ours) if ours != none && (theirs == none || ours < theirs) => ours,
            _ => theirs,
        }
    }
    let or_all = |number: u16| if number == 0 { u16::MAX } else { number };
    Terms {
        channel_max: or_all(smaller(tune.channel_max, uri.query.channel_max)),
        frame_bytes_max: smaller(tune.frame_max, uri.query.frame_max),
        heartbeat_s: smaller(tune.heartbeat, uri.query.heartbeat),
    }
}

/// What the broker shows of this connection, and what it may make use of.
fn client_properties(name: &str) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for capability in
        ["publisher_confirms", "basic.nack", "connection.blocked", "authentication_failure_close"]
    {
        capabilities.insert(capability.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    for (key, text) in [
        ("connection_name", name),
        ("product", "Transload"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
    ] {
        properties.insert(key.into(), AMQPValue::LongString(text.into()));
    }
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_wish_holds_and_none_is_no_wish() {
        let terms = |channel_max, frame_max, heartbeat, query: &str| {
            let uri: AMQPUri = format!("amqp://h/v?{query}").parse().unwrap();
            let terms = agreed(&Tune { channel_max, frame_max, heartbeat }, &uri);
            (terms.channel_max, terms.frame_bytes_max, terms.heartbeat_s)
        };
        assert_eq!(terms(2047, 131_072, 60, "frame_max=65536&heartbeat=30"), (2047, 65_536, 30));
        assert_eq!(terms(100, 4096, 10, "channel_max=200&frame_max=65536"), (100, 4096, 10));
        assert_eq!(terms(0, 0, 0, "channel_max=9&heartbeat=30"), (9, 0, 30));
        assert_eq!(terms(0, 0, 60, "heartbeat=0"), (u16::MAX, 0, 60));
    }
}
