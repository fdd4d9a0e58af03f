use bytes::BufMut;
use transload_envelope::Text;

use super::{
    packet::MessageProperties,
    reader::Reader,
    reason::{Fault, Reason},
};

/// Property identifiers (MQTT 5, table 2-4).
pub(super) mod id {
    pub(in super::super) const PAYLOAD_FORMAT: u8 = 1;
    pub(in super::super) const MESSAGE_EXPIRY: u8 = 2;
    pub(in super::super) const CONTENT_TYPE: u8 = 3;
    pub(in super::super) const RESPONSE_TOPIC: u8 = 8;
    pub(in super::super) const CORRELATION: u8 = 9;
    pub(in super::super) const SUBSCRIPTION_ID: u8 = 11;
    pub(in super::super) const SESSION_EXPIRY: u8 = 17;
    pub(in super::super) const ASSIGNED_CLIENT_ID: u8 = 18;
    pub(in super::super) const SERVER_KEEP_ALIVE: u8 = 19;
    pub(in super::super) const AUTHENTICATION_METHOD: u8 = 21;
    pub(in super::super) const AUTHENTICATION_DATA: u8 = 22;
    pub(in super::super) const REQUEST_PROBLEM: u8 = 23;
    pub(in super::super) const WILL_DELAY: u8 = 24;
    pub(in super::super) const REQUEST_RESPONSE: u8 = 25;
    pub(in super::super) const RESPONSE_INFORMATION: u8 = 26;
    pub(in super::super) const SERVER_REFERENCE: u8 = 28;
    pub(in super::super) const REASON_STRING: u8 = 31;
    pub(in super::super) const RECEIVE_MAXIMUM: u8 = 33;
    pub(in super::super) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
    pub(in super::super) const TOPIC_ALIAS: u8 = 35;
    pub(in super::super) const QOS_MAX: u8 = 36;
    pub(in super::super) const RETAIN_AVAILABLE: u8 = 37;
    pub(in super::super) const USER: u8 = 38;
    pub(in super::super) const PACKET_BYTES_MAX: u8 = 39;
    pub(in super::super) const WILDCARDS_AVAILABLE: u8 = 40;
    pub(in super::super) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 41;
    pub(in super::super) const SHARED_AVAILABLE: u8 = 42;
}

/// A set of property identifiers; all are below 64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed(u64);

impl Allowed {
    const fn of(ids: &[u8]) -> Self {
        let mut bits = 0;
        let mut rest = ids;
        while let [id, more @ ..] = rest {
            bits |= 1 << *id;
            rest = more;
        }
        Self(bits)
    }

    pub(super) const CONNECT: Self = Self::of(&[
        id::SESSION_EXPIRY,
        id::RECEIVE_MAXIMUM,
        id::PACKET_BYTES_MAX,
        id::TOPIC_ALIAS_MAXIMUM,
        id::REQUEST_RESPONSE,
        id::REQUEST_PROBLEM,
        id::USER,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
    ]);
    pub(super) const WILL: Self = Self::of(&[
        id::WILL_DELAY,
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::USER,
    ]);
    /// A client must not send a Subscription Identifier here [MQTT-3.3.4-6].
    pub(super) const PUBLISH: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::TOPIC_ALIAS,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::USER,
        id::CONTENT_TYPE,
    ]);
    /// From a server, which sends the identifiers of all subscriptions that match.
    pub(super) const PUBLISH_FROM_SERVER: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::TOPIC_ALIAS,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::USER,
        id::SUBSCRIPTION_ID,
        id::CONTENT_TYPE,
    ]);
    /// What a message keeps.
    const MESSAGE: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::USER,
    ]);
    pub(super) const ACK: Self = Self::of(&[id::REASON_STRING, id::USER]);
    pub(super) const SUBSCRIBE: Self = Self::of(&[id::SUBSCRIPTION_ID, id::USER]);
    pub(super) const UNSUBSCRIBE: Self = Self::of(&[id::USER]);
    pub(super) const DISCONNECT: Self =
        Self::of(&[id::SESSION_EXPIRY, id::REASON_STRING, id::USER]);
    /// A server must not send a Session Expiry Interval here [MQTT-3.14.2-2].
    pub(super) const DISCONNECT_FROM_SERVER: Self =
        Self::of(&[id::SERVER_REFERENCE, id::REASON_STRING, id::USER]);
    pub(super) const CONNACK: Self = Self::of(&[
        id::SESSION_EXPIRY,
        id::ASSIGNED_CLIENT_ID,
        id::SERVER_KEEP_ALIVE,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::RESPONSE_INFORMATION,
        id::SERVER_REFERENCE,
        id::REASON_STRING,
        id::RECEIVE_MAXIMUM,
        id::TOPIC_ALIAS_MAXIMUM,
        id::QOS_MAX,
        id::RETAIN_AVAILABLE,
        id::USER,
        id::PACKET_BYTES_MAX,
        id::WILDCARDS_AVAILABLE,
        id::SUBSCRIPTION_IDS_AVAILABLE,
        id::SHARED_AVAILABLE,
    ]);

    /// Whether the property may come more than once in a packet.
    fn repeats(self, id: u8) -> bool {
        id == id::USER || (id == id::SUBSCRIPTION_ID && self == Self::PUBLISH_FROM_SERVER)
    }
}

/// Every property that matters here, as read from one packet.
#[derive(Default)]
pub(super) struct Properties {
    seen: u64,
    pub(super) message: MessageProperties,
    pub(super) expiry_s: Option<u32>,
    pub(super) topic_alias: Option<u16>,
    pub(super) topic_alias_maximum: u16,
    pub(super) subscription_id: Option<u32>,
    pub(super) session_expiry_s: Option<u32>,
    pub(super) will_delay_s: u32,
    pub(super) receive_maximum: Option<u16>,
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) problem_information: Option<bool>,
    pub(super) assigned_client_id: Option<Text>,
    pub(super) server_keep_alive_s: Option<u16>,
    pub(super) reason_string: Option<Text>,
    pub(super) authentication_method: bool,
    authentication_data: bool,
}

impl Properties {
    /// Reads the length and the properties behind it.
    pub(super) fn read(body: &mut Reader, allowed: Allowed) -> Result<Self, Fault> {
        let length = body.variable()?;
        let mut properties = Self::default();
        if length == 0 {
            return Ok(properties);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let behind = body.narrow(length)?;
        while !body.is_empty() {
            let id = body.variable()?;
            let id = u8::try_from(id).ok().filter(|id| *id < 64);
            let bit = id.map_or(0, |id| 1 << id);
            let Some(id) = id.filter(|_| allowed.0 & bit != 0) else {
                return Err(Fault::malformed("a property that does not belong to the packet"));
            };
            if properties.seen & bit != 0 && !allowed.repeats(id) {
                return Err(Fault::protocol("a property that comes twice"));
            }
            properties.seen |= bit;
            properties.read_one(id, body)?;
        }
        body.widen(behind);
        if properties.authentication_data && !properties.authentication_method {
            return Err(Fault::protocol("authentication data without a method"));
        }
        Ok(properties)
    }

    fn read_one(&mut self, id: u8, reader: &mut Reader) -> Result<(), Fault> {
        match id {
            id::PAYLOAD_FORMAT => self.message.utf8_payload = flag(reader)?,
            id::MESSAGE_EXPIRY => self.expiry_s = Some(reader.u32()?),
            id::CONTENT_TYPE => self.message.content_type = Some(reader.text()?),
            id::RESPONSE_TOPIC => self.message.response_topic = Some(reader.text()?),
            id::CORRELATION => self.message.correlation = Some(reader.binary()?),
            id::SUBSCRIPTION_ID => self.subscription_id = Some(subscription_id(reader)?),
            id::SESSION_EXPIRY => self.session_expiry_s = Some(reader.u32()?),
            id::WILL_DELAY => self.will_delay_s = reader.u32()?,
            id::REQUEST_PROBLEM => self.problem_information = Some(flag(reader)?),
            // Response Information is optional for a server, and this one offers none. What another
            // server does not offer, it says once more where it is asked for.
            id::REQUEST_RESPONSE
            | id::QOS_MAX
            | id::RETAIN_AVAILABLE
            | id::WILDCARDS_AVAILABLE
            | id::SUBSCRIPTION_IDS_AVAILABLE
            | id::SHARED_AVAILABLE => drop(flag(reader)?),
            id::RECEIVE_MAXIMUM => self.receive_maximum = Some(not_zero(reader.u16()?)?),
            id::PACKET_BYTES_MAX => self.packet_bytes_max = Some(not_zero(reader.u32()?)?),
            id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = reader.u16()?,
            id::TOPIC_ALIAS => {
                self.topic_alias = Some(
                    not_zero(reader.u16()?)
                        .map_err(|fault| Fault { reason: Reason::TOPIC_ALIAS_INVALID, ..fault })?,
                );
            }
            id::USER => self.message.user.push((reader.text()?, reader.text()?)),
            id::AUTHENTICATION_METHOD => {
                reader.text()?;
                self.authentication_method = true;
            }
            id::AUTHENTICATION_DATA => {
                reader.binary()?;
                self.authentication_data = true;
            }
            id::REASON_STRING => self.reason_string = Some(reader.text()?),
            id::ASSIGNED_CLIENT_ID => self.assigned_client_id = Some(reader.text()?),
            id::SERVER_KEEP_ALIVE => self.server_keep_alive_s = Some(reader.u16()?),
            // Where to go instead, and where replies would come, is the user's to decide.
            id::SERVER_REFERENCE | id::RESPONSE_INFORMATION => drop(reader.text()?),
            _ => return Err(Fault::malformed("an unknown property")),
        }
        Ok(())
    }

    /// The sender's properties, where there are any.
    pub(super) fn into_message(self) -> Option<Box<MessageProperties>> {
        let any = self.seen & Allowed::MESSAGE.0 != 0;
        (any && self.message != MessageProperties::default()).then(|| Box::new(self.message))
    }
}

fn flag(reader: &mut Reader) -> Result<bool, Fault> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::protocol("a property that must be 0 or 1")),
    }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Result<T, Fault> {
    if value == T::default() {
        Err(Fault::protocol("a property that must not be 0"))
    } else {
        Ok(value)
    }
}

fn subscription_id(reader: &mut Reader) -> Result<u32, Fault> {
    not_zero(reader.variable()?)
}

/// Where properties are written to.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl<B: BufMut> Sink for B {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// Counts the bytes, since their number comes before them.
#[derive(Default)]
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Writes properties.
#[derive(Default)]
pub(super) struct Writer<S>(pub(super) S);

impl<S: Sink> Writer<S> {
    pub(super) fn u8(&mut self, id: u8, value: u8) {
        self.0.put(&[id, value]);
    }

    pub(super) fn u16(&mut self, id: u8, value: u16) {
        self.0.put(&[id]);
        self.0.put(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, id: u8, value: u32) {
        self.0.put(&[id]);
        self.0.put(&value.to_be_bytes());
    }

    pub(super) fn variable(&mut self, id: u8, value: u32) {
        self.0.put(&[id]);
        write_variable(&mut self.0, value);
    }

    pub(super) fn text(&mut self, id: u8, text: &str) {
        self.binary(id, text.as_bytes());
    }

    pub(super) fn binary(&mut self, id: u8, bytes: &[u8]) {
        self.0.put(&[id]);
        write_binary(&mut self.0, bytes);
    }

    pub(super) fn user(&mut self, pair: &(Text, Text)) {
        self.text(id::USER, &pair.0);
        write_binary(&mut self.0, pair.1.as_bytes());
    }
}

/// The most that a text or binary field holds.
pub(crate) const FIELD_BYTES_MAX: usize = 65_535;

/// Writes a length and as many bytes. What is longer than the protocol can say is cut: whoever
/// makes a packet from something else than a packet checks the length before.
pub(super) fn write_binary(into: &mut impl Sink, bytes: &[u8]) {
    let bytes = bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes);
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    into.put(&length.to_be_bytes());
    into.put(bytes);
}

/// Writes a Variable Byte Integer.
pub(super) fn write_variable(into: &mut impl Sink, mut value: u32) {
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap_or(0x7f);
        value >>= 7;
        into.put(&[if value > 0 { byte | 0x80 } else { byte }]);
        if value == 0 {
            return;
        }
    }
}
