use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use transload_adapter::Event;
use transload_envelope::{MessageId, Text, Timestamp};

use super::{Client, Connection, Peer, far_future};
use crate::{
    codec::{self, ConnAck, Connect, Fault, Packet, Reason, Version},
    io::{Io, Progress},
    listener::{
        access::{Admitted, Credentials, Permit},
        broker::Broker,
        sessions::{Claim, Found, Will},
    },
    message::Message,
    topic,
};

/// How many topic aliases a client may set.
pub(super) const TOPIC_ALIAS_MAX: u16 = 32;
/// The longest client identifier, in bytes; it is part of the names of queues.
const CLIENT_ID_BYTES_MAX: usize = 1024;
/// How long a peer that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Waits for CONNECT and answers it; `None` when there is no connection.
pub(super) async fn connect(broker: &Arc<Broker>, mut io: Io, peer: &Peer) -> Option<Connection> {
    let connect = tokio::select! {
        () = broker.closing.cancelled() => return None,
        connect = tokio::time::timeout(broker.config.connect_timeout.get(), first_packet(broker, &mut io)) => connect,
    };
    let refused = match connect {
        Ok(Ok(Some(connect))) => match accept(broker, &connect, peer).await {
            Ok(accepted) => {
                return Some(open(broker, io, peer.address, *connect, accepted));
            }
            Err(fault) => Some((connect.version, fault)),
        },
        Ok(Err((version, fault))) => version.map(|version| (version, fault)),
        Ok(Ok(None)) | Err(_) => None,
    };
    broker.count(Event::ConnectionRefused, 1);
    if let Some((version, fault)) = refused {
        tracing::info!(peer = %peer.address, %fault, "A client was refused.");
        let denied =
            [Reason::BAD_USER_NAME_OR_PASSWORD, Reason::NOT_AUTHORIZED].contains(&fault.reason);
        broker.count(Event::AccessDenied, denied.into());
        let refusal = ConnAck::refusal(fault);
        codec::connack(io.output.buffer(), version, &refusal);
        // A peer that does not read its refusal is closed all the same.
        let _ = tokio::time::timeout(FAREWELL, io.close()).await;
    }
    None
}

type Unreadable = (Option<Version>, Fault);

/// Reads until the first packet is whole. A fault with a version is answered, one without is not:
/// what is no CONNECT gets no answer [MQTT-3.1.0-1].
async fn first_packet(broker: &Broker, io: &mut Io) -> Result<Option<Box<Connect>>, Unreadable> {
    let bytes_max = broker.config.max_packet_bytes.as_usize();
    loop {
        if io.partial().first().is_some_and(|first| *first != 0x10) {
            return Err((None, Fault::protocol("the first packet is not CONNECT")));
        }
        let version = codec::sniff_version(io.partial());
        if let Some(frame) = io.next_frame(bytes_max).map_err(|fault| (Some(version), fault))? {
            return match codec::decode(version, frame) {
                Ok(Packet::Connect(connect)) => Ok(Some(connect)),
                Ok(_) => Err((None, Fault::protocol("the first packet is not CONNECT"))),
                Err(fault) => Err((Some(version), fault)),
            };
        }
        match io.progress(true).await {
            Ok(Progress::Read(0)) | Err(_) => return Ok(None),
            Ok(Progress::Read(_) | Progress::Wrote) => {}
        }
    }
}

/// Checks what CONNECT asks for and takes the session.
async fn accept(broker: &Arc<Broker>, connect: &Connect, peer: &Peer) -> Result<Accepted, Fault> {
    check(connect)?;
    if broker.context.stop.is_cancelled() {
        return Err(Fault::new(Reason::SERVER_SHUTTING_DOWN, "the server is shutting down"));
    }
    let assigned = connect.client_id.is_empty();
    let client_id =
        if assigned { MessageId::generate().as_text().clone() } else { connect.client_id.clone() };
    let admitted = admit(broker, connect, &client_id, peer).await?;
    let user = admitted.user.as_ref();
    let keep_for = broker.keep_for(connect.session_expiry_s);
    let unavailable = |error: transload_adapter::store::StoreError| {
        tracing::error!(%error, "A session cannot be stored.");
        Fault::new(Reason::SERVER_UNAVAILABLE, "the session cannot be stored")
    };
    let outlives = !keep_for.is_zero();
    let session = |outlives| broker.session(client_id.clone(), user.cloned(), outlives);
    let new = || session(outlives).map_err(unavailable);
    // A plain session is enough to take the place; its queue is opened when it is known to be new.
    let plain = session(false).map_err(unavailable)?;
    let (mut claim, resumed) = match broker.sessions.take(plain).await {
        Found::TooMany => {
            return Err(Fault::new(Reason::QUOTA_EXCEEDED, "there are too many sessions"));
        }
        Found::NotYours => {
            return Err(Fault::new(
                Reason::NOT_AUTHORIZED,
                "the client identifier is another user's",
            ));
        }
        Found::Old { claim, ended: false, .. } if !connect.clean => (claim, true),
        Found::Old { mut claim, will, .. } => {
            broker.end_session(&mut claim, will).await;
            claim.renew(new()?);
            (claim, false)
        }
        Found::New(mut claim) => {
            if outlives {
                claim.renew(new()?);
            }
            (claim, false)
        }
    };
    claim.keep_for = keep_for;
    if let Some(user) = user {
        claim.session.belongs_to(user);
        claim.signals.by_password.store(admitted.by_password, Ordering::Relaxed);
        if admitted.by_password && !broker.access.knows(user) {
            // It was taken out of the file while it came in.
            return Err(Fault::new(Reason::NOT_AUTHORIZED, "the user is not known any more"));
        }
    }
    claim.will = connect.will.clone().map(|will| Will {
        delay: Duration::from_secs(will.delay_s.into()),
        // Its life begins when it is published.
        message: Arc::new(Message::from_publish(will.publish, Timestamp::default())),
    });
    if outlives {
        broker.table.keep(&client_id, keep_for, user).await.map_err(unavailable)?;
    }
    if resumed {
        drop_forbidden(broker, &mut claim, &admitted.permit).await;
    }
    for (filter, _) in claim.state.subscriptions.values() {
        broker.subscriptions.wake(filter).await;
    }
    Ok(Accepted { claim, admitted, resumed, assigned: assigned.then_some(client_id), keep_for })
}

/// Asks who it is and what it may do.
async fn admit(
    broker: &Broker,
    connect: &Connect,
    client_id: &Text,
    peer: &Peer,
) -> Result<Admitted, Fault> {
    let offered = Credentials {
        client_id,
        identity: peer.identity.as_deref(),
        username: connect.username.as_ref(),
        password: connect.password.as_ref(),
    };
    let admitted = broker.access.admit(offered).await?;
    let will = connect.will.as_ref().map(|will| &will.publish.topic);
    if will.is_some_and(|topic| !admitted.permit.may_publish(topic)) {
        return Err(Fault::new(Reason::NOT_AUTHORIZED, "the will may not be published"));
    }
    Ok(admitted)
}

/// Ends the subscriptions of before that the client may not have any more.
async fn drop_forbidden(broker: &Broker, claim: &mut Claim, permit: &Permit) {
    let forbidden: Vec<_> = claim
        .state
        .subscriptions
        .extract_if(.., |_, (filter, _)| !permit.may_subscribe(&filter.pattern))
        .collect();
    for (text, (filter, _)) in forbidden {
        let client_id = &claim.session.client_id;
        tracing::warn!(%client_id, filter = %text, "A subscription of before is not allowed any more.");
        broker.count(Event::SubscriptionRefused, 1);
        broker.subscriptions.remove(&filter, &claim.session, &broker.context).await;
        if claim.session.queue.is_some()
            && let Err(error) = broker.table.unsubscribe(client_id, &text).await
        {
            tracing::warn!(%client_id, filter = %text, %error, "A subscription stays stored.");
        }
    }
}

struct Accepted {
    claim: Claim,
    admitted: Admitted,
    resumed: bool,
    assigned: Option<Text>,
    keep_for: Duration,
}

fn check(connect: &Connect) -> Result<(), Fault> {
    const CLIENT_ID: fn(&'static str) -> Fault =
        |what| Fault::new(Reason::CLIENT_ID_NOT_VALID, what);
    if connect.authentication_method {
        return Err(Fault::new(
            Reason::BAD_AUTHENTICATION_METHOD,
            "enhanced authentication is not supported",
        ));
    }
    if connect.client_id.is_empty() && connect.version == Version::V311 && !connect.clean {
        return Err(CLIENT_ID("a session that is not clean needs a client identifier"));
    }
    if connect.client_id.len() > CLIENT_ID_BYTES_MAX {
        return Err(CLIENT_ID("the client identifier is too long"));
    }
    let Some(will) = &connect.will else { return Ok(()) };
    if !topic::is_valid_name(&will.publish.topic) || topic::is_reserved(&will.publish.topic) {
        return Err(Fault::new(Reason::TOPIC_NAME_INVALID, "the will's topic is not valid"));
    }
    super::publish::check_response_topic(&will.publish)
}

/// Says CONNACK and sends again what the client has not acknowledged.
fn open(
    broker: &Arc<Broker>,
    mut io: Io,
    peer: SocketAddr,
    connect: Connect,
    accepted: Accepted,
) -> Connection {
    let config = &broker.config;
    let Accepted { claim, admitted, resumed, assigned, keep_for } = accepted;
    let keep_alive_s = granted_keep_alive_s(&connect, config.keep_alive_max.map(Into::into));
    let granted_s = u32::try_from(keep_for.as_secs()).unwrap_or(u32::MAX);
    let connack = ConnAck {
        session_present: resumed,
        reason: Reason::SUCCESS,
        reason_string: None,
        session_expiry_s: (granted_s != connect.session_expiry_s).then_some(granted_s),
        receive_maximum: Some(config.receive_maximum),
        packet_bytes_max: u32::try_from(config.max_packet_bytes.get()).ok(),
        assigned_client_id: assigned,
        topic_alias_maximum: TOPIC_ALIAS_MAX,
        server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
    };
    codec::connack(io.output.buffer(), connect.version, &connack);
    claim.session.connected();
    let silence_ms = u64::from(keep_alive_s) * 1500;
    let mut connection = Connection {
        client: Client {
            version: connect.version,
            permit: admitted.permit,
            // Where nobody is asked, it is what the client says.
            username: admitted.user.or(connect.username),
            peer: peer.to_string().into(),
            packet_bytes_max: connect.packet_bytes_max,
            window: connect.receive_maximum.min(config.max_in_flight).into(),
            problem_information: connect.problem_information,
            silence_max: (keep_alive_s > 0).then(|| Duration::from_millis(silence_ms)),
            expires_at_once: connect.session_expiry_s == 0,
        },
        broker: Arc::clone(broker),
        io,
        claim,
        aliases: HashMap::new(),
        stalled: VecDeque::new(),
        stalled_bytes: 0,
        slot: None,
        pace: None,
        gateway_gone: false,
        lease: None,
        steps: Vec::new(),
        noting: None,
        settled: Vec::new(),
        appends: Vec::new(),
        to_retain: Vec::new(),
        last_packet: Instant::now(),
        timer: Box::pin(tokio::time::sleep_until(far_future())),
        leaving: None,
    };
    connection.repeat();
    connection.want_noted();
    connection.want_lease();
    connection.set_timer();
    connection
}

/// The keep-alive that holds. Only a client of MQTT 5 can be told of another than its own.
fn granted_keep_alive_s(connect: &Connect, max: Option<Duration>) -> u16 {
    let own = connect.keep_alive_s;
    let max = max.map(|max| u16::try_from(max.as_secs()).unwrap_or(u16::MAX));
    match max {
        Some(max) if connect.version == Version::V5 && (own == 0 || own > max) => max,
        _ => own,
    }
}
