//! CONNECT and what the broker answers.

use std::time::Duration;

use crate::{
    client::{config::ClientConfig, error::Broken, options::Peer},
    codec::{
        self, ConnAck, ConnectHead, FIELD_BYTES_MAX, Fault, FromServer, Reason, Version,
        decode_from_server,
    },
    io::{Io, Progress},
};

/// What the broker grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// It still had the session.
    pub(super) resumed: bool,
    /// The largest packet that it takes.
    pub(super) packet_bytes_max: Option<u32>,
    /// After how long without a packet something is to be sent.
    pub(super) keep_alive: Duration,
}

/// Asks to be let in. What comes behind the answer stays in the read buffer.
pub(super) async fn connect(
    io: &mut Io,
    config: &ClientConfig,
    peer: &Peer,
    client_id: &str,
) -> Result<Granted, Broken> {
    let version = config.version.on_the_wire();
    let keep_alive_s = u16::try_from(config.keep_alive.get().as_secs()).unwrap_or(u16::MAX);
    let session_expiry_s = u32::try_from(config.session_expiry.get().as_secs()).unwrap_or(u32::MAX);
    let login = peer.login.as_ref().map(|(name, password)| (&**name, password.expose()));
    for text in [Some(client_id), login.map(|login| login.0), login.map(|login| login.1)] {
        if text.is_some_and(|text| text.len() > FIELD_BYTES_MAX || text.contains('\0')) {
            let reason = "the client identifier, the user name or the password is no text of MQTT";
            return Err(Broken::Unusable(reason.to_owned()));
        }
    }
    let head = ConnectHead {
        version,
        client_id,
        clean: session_expiry_s == 0,
        keep_alive_s,
        login,
        session_expiry_s,
        receive_maximum: config.max_inflight.max(1),
        packet_bytes_max: u32::try_from(config.max_packet_bytes.get()).ok(),
    };
    codec::connect(io.output.buffer(), &head);
    let answer = answer(io, version, config.max_packet_bytes.as_usize()).await?;
    if answer.reason != Reason::SUCCESS {
        return Err(Broken::Refused(refusal(version, &answer)));
    }
    // The gateway's own interval is kept where the broker asks for a longer one.
    let asked = answer.server_keep_alive_s.filter(|seconds| *seconds > 0);
    let interval_s = asked.map_or(keep_alive_s, |seconds| seconds.min(keep_alive_s));
    Ok(Granted {
        resumed: answer.session_present,
        packet_bytes_max: answer.packet_bytes_max,
        keep_alive: Duration::from_secs(interval_s.max(1).into()),
    })
}

async fn answer(io: &mut Io, version: Version, bytes_max: usize) -> Result<ConnAck, Broken> {
    let frame = loop {
        if let Some(frame) = io.next_frame(bytes_max).map_err(unreadable)? {
            break frame;
        }
        match io.progress(true).await {
            Ok(Progress::Read(0)) => {
                let reason = "the broker closed the connection before it answered";
                return Err(Broken::Lost(reason.to_owned()));
            }
            Ok(Progress::Read(_) | Progress::Wrote) => {}
            Err(error) => return Err(Broken::Lost(format!("I/O: {error}"))),
        }
    };
    match decode_from_server(version, frame).map_err(unreadable)? {
        FromServer::ConnAck(answer) => Ok(*answer),
        FromServer::Publish(_)
        | FromServer::SubAck(_)
        | FromServer::PingResp
        | FromServer::Disconnect(_) => {
            let reason = "the first packet is no CONNACK: this is no MQTT broker";
            Err(Broken::Refused(reason.to_owned()))
        }
    }
}

fn refusal(version: Version, answer: &ConnAck) -> String {
    let ConnAck { reason, reason_string, .. } = answer;
    let help = if *reason == Reason::UNSUPPORTED_VERSION && version == Version::V5 {
        "; it may know `version = \"3.1.1\"`"
    } else {
        ""
    };
    let text = said(reason_string.as_deref());
    format!("the broker refuses the connection: {} ({reason}){text}{help}", reason.name())
}

/// What the broker adds to a reason code, to be put behind it.
pub(super) fn said(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map(|text| format!(": {text}")).unwrap_or_default()
}

/// A packet that breaks the protocol or a bound of ours.
pub(super) fn unreadable(fault: Fault) -> Broken {
    let too_large = fault.reason == Reason::PACKET_TOO_LARGE;
    let help = if too_large { "; see `max_packet_bytes`" } else { "" };
    Broken::Lost(format!("a packet cannot be taken: {fault}{help}"))
}
