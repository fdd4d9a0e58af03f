//! What is subscribed to, and who waits for the broker's answer.

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::handshake::unreadable;
use crate::{
    client::{error::Broken, link::Link},
    codec::{
        self, FIELD_BYTES_MAX, Fault, QoS, Reason, RetainHandling, SubAck, SubscribeOptions,
        Version,
    },
};

/// The only packet identifier that this connection chooses.
const PACKET_ID: u16 = 1;

/// What is subscribed to, with one packet.
#[derive(Debug)]
pub(super) struct Subscription {
    filters: Vec<(String, QoS)>,
    /// The broker still had the session, and so its subscriptions.
    resumed: bool,
    answered: bool,
    /// Whoever connects waits here, until it is told.
    waiting: Option<oneshot::Sender<Result<(), String>>>,
}

impl Subscription {
    /// The sender is told what the broker says.
    pub(super) fn new(
        filters: Vec<(String, QoS)>,
        resumed: bool,
        waiting: oneshot::Sender<Result<(), String>>,
    ) -> Self {
        Self { filters, resumed, answered: false, waiting: Some(waiting) }
    }

    /// Writes SUBSCRIBE, unless the broker would not take it.
    pub(super) fn write(
        &self,
        into: &mut BytesMut,
        version: Version,
        bytes_max: Option<u32>,
    ) -> Result<(), Broken> {
        if self.filters.iter().any(|(filter, _)| filter.len() > FIELD_BYTES_MAX) {
            let reason = "a topic filter is longer than the 65,535 bytes that MQTT allows";
            return Err(Broken::Unusable(reason.to_owned()));
        }
        let options = |qos: QoS| SubscribeOptions {
            qos,
            no_local: false,
            // The flag tells whether the publisher asked for the message to be kept.
            retain_as_published: true,
            // A subscription that the session still has brings no retained message again.
            retain_handling: RetainHandling::SendIfNew,
        };
        let filters: Vec<_> =
            self.filters.iter().map(|(filter, qos)| (&**filter, options(*qos))).collect();
        let before = into.len();
        codec::subscribe(into, version, PACKET_ID, &filters);
        let bytes = into.len() - before;
        match bytes_max {
            Some(max) if u32::try_from(bytes).map_or(true, |bytes| bytes > max) => {
                Err(Broken::Unusable(format!(
                    "SUBSCRIBE has {bytes} bytes; the broker takes {max}: subscribe to fewer filters"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Takes the broker's answer. A refusal that comes when nobody waits any more loses the link.
    pub(super) fn answer(&mut self, answer: &SubAck, link: &Link) -> Result<(), Broken> {
        let expected = answer.packet_id == PACKET_ID && answer.codes().len() == self.filters.len();
        if self.answered || !expected {
            return Err(unreadable(Fault::protocol("SUBACK that answers nothing")));
        }
        self.answered = true;
        let refused = answer.codes().zip(&self.filters).find(|(code, _)| code.is_failure());
        let result = match refused {
            None => Ok(()),
            // All that 3.1.1 says.
            Some((Reason::UNSPECIFIED, (filter, _))) => {
                Err(format!("{filter}: the broker refuses the subscription"))
            }
            Some((code, (filter, _))) => Err(format!(
                "{filter}: the broker refuses the subscription: {} ({code})",
                code.name()
            )),
        };
        let told = self.waiting.take().map(|waiting| waiting.send(result.clone()));
        if let (Err(reason), None | Some(Err(_))) = (result, told) {
            link.lose(reason);
        }
        Ok(())
    }

    /// A message has come before the answer. Where the broker had the session there may be many, and
    /// where they fill the queue the answer behind them is never read: work begins at once.
    pub(super) fn on_message(&mut self, queue_full: bool) {
        if (self.resumed || queue_full)
            && let Some(waiting) = self.waiting.take()
        {
            // Whoever waited may have gone.
            drop(waiting.send(Ok(())));
        }
    }
}
