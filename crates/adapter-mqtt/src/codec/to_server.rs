//! What a client sends, beside the packets that both sides know.

use bytes::BytesMut;

use super::{
    encode::{frame, length},
    packet::{SubscribeOptions, Version},
    properties::{Writer, id, write_binary, write_variable},
};

/// A CONNECT without a will. No text may be longer than the protocol can say.
#[derive(Clone, Copy)]
pub(crate) struct ConnectHead<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    /// 3.1.1: Clean Session; 5: Clean Start.
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    /// User name and password; an empty password is none.
    pub(crate) login: Option<(&'a str, &'a str)>,
    pub(crate) session_expiry_s: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_bytes_max: Option<u32>,
}

/// Writes CONNECT.
pub(crate) fn connect(into: &mut BytesMut, head: &ConnectHead<'_>) {
    const USER_NAME: u8 = 0x80;
    const PASSWORD: u8 = 0x40;
    const CLEAN: u8 = 0x02;
    let level = match head.version {
        Version::V311 => 4,
        Version::V5 => 5,
    };
    let mut flags = if head.clean { CLEAN } else { 0 };
    let mut payload = Vec::new();
    write_binary(&mut payload, head.client_id.as_bytes());
    if let Some((name, password)) = head.login {
        flags |= USER_NAME;
        write_binary(&mut payload, name.as_bytes());
        if !password.is_empty() {
            flags |= PASSWORD;
            write_binary(&mut payload, password.as_bytes());
        }
    }
    let [high, low] = head.keep_alive_s.to_be_bytes();
    let header = [0, 4, b'M', b'Q', b'T', b'T', level, flags, high, low];
    match head.version {
        Version::V311 => {
            into.extend_from_slice(&[0x10]);
            write_variable(into, length(header.len() + payload.len()));
            into.extend_from_slice(&header);
            into.extend_from_slice(&payload);
        }
        Version::V5 => {
            let mut properties = Writer::<Vec<u8>>::default();
            if head.session_expiry_s > 0 {
                properties.u32(id::SESSION_EXPIRY, head.session_expiry_s);
            }
            properties.u16(id::RECEIVE_MAXIMUM, head.receive_maximum);
            if let Some(bytes) = head.packet_bytes_max {
                properties.u32(id::PACKET_BYTES_MAX, bytes);
            }
            frame(into, 0x10, &header, &properties.0, &payload);
        }
    }
}

/// Writes SUBSCRIBE. 3.1.1 knows no option but the quality of service.
pub(crate) fn subscribe(
    into: &mut BytesMut,
    version: Version,
    packet_id: u16,
    filters: &[(&str, SubscribeOptions)],
) {
    let mut payload = Vec::new();
    for (filter, options) in filters {
        write_binary(&mut payload, filter.as_bytes());
        payload.push(match version {
            Version::V311 => options.qos.bits(),
            Version::V5 => options.to_byte(),
        });
    }
    let packet_id = packet_id.to_be_bytes();
    match version {
        Version::V311 => {
            into.extend_from_slice(&[0x82]);
            write_variable(into, length(packet_id.len() + payload.len()));
            into.extend_from_slice(&packet_id);
            into.extend_from_slice(&payload);
        }
        Version::V5 => frame(into, 0x82, &packet_id, &[], &payload),
    }
}

/// Writes PINGREQ.
pub(crate) fn pingreq(into: &mut BytesMut) {
    into.extend_from_slice(&[0xc0, 0]);
}

/// Writes the DISCONNECT of a client that goes as it should; its session stays as CONNECT said.
pub(crate) fn goodbye(into: &mut BytesMut) {
    into.extend_from_slice(&[0xe0, 0]);
}
