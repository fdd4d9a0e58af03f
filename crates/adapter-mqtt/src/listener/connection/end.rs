use std::time::Duration;

use transload_adapter::Event;

use super::{Connection, End};
use crate::{
    codec::{self, Reason},
    io::Io,
    listener::sessions::Will,
};

/// How long a peer that is told why it is disconnected may take to read it.
const FAREWELL: Duration = Duration::from_secs(1);

impl Connection {
    /// Says goodbye, settles what becomes of the session, and gives it back.
    pub(super) async fn finish(mut self, end: End) {
        self.park().await;
        let ends_now = self.claim.keep_for.is_zero();
        let wants_will = match end {
            End::Disconnected { will } => will,
            End::Lost | End::Fault(_) | End::TakenOver | End::Shutdown => true,
        };
        let will = self.claim.will.take().filter(|_| wants_will);
        let tasks = self.broker.context.tasks.clone();
        let farewell = self.farewell(end);
        let Self { broker, mut claim, io, .. } = self;
        if ends_now {
            broker.end_session(&mut claim, will.map(|will| will.message)).await;
            claim.remove();
        } else {
            match will {
                Some(Will { message, delay }) if delay.is_zero() => {
                    let client_id = claim.session.client_id.clone();
                    drop(claim);
                    broker.publish_will(&client_id, message).await;
                }
                will => {
                    claim.will = will;
                    drop(claim);
                }
            }
        }
        if farewell {
            tasks.spawn(say_goodbye(io));
        }
    }

    /// Takes the session out of the way of publishers.
    async fn park(&mut self) {
        self.lease = None;
        self.slot = None;
        self.pace = None;
        self.finish_steps().await;
        let state = &mut self.claim.state;
        let lost = state.incoming.park();
        self.broker.count(Event::MessageDropped, lost);
        state.in_flight.release_shared();
        let held = std::mem::take(&mut state.held);
        for queued in held.into_iter().chain(self.claim.session.disconnected()) {
            if let Some(lease) = &queued.lease {
                lease.release();
            }
        }
    }

    /// Writes the last packet, where there is one to say; tells whether it is worth waiting for.
    fn farewell(&mut self, end: End) -> bool {
        let (reason, text) = match end {
            End::Lost => return false,
            End::Disconnected { .. } => return true,
            End::Fault(fault) => {
                tracing::info!(connection = ?self, %fault, "A client is disconnected.");
                let blameless = [
                    Reason::NOT_AUTHORIZED,
                    Reason::KEEP_ALIVE_TIMEOUT,
                    Reason::SERVER_UNAVAILABLE,
                    Reason::QUOTA_EXCEEDED,
                ];
                let fault_of_client = !blameless.contains(&fault.reason);
                self.broker.count(Event::ProtocolError, u64::from(fault_of_client));
                (fault.reason, Some(fault.what))
            }
            End::TakenOver => (Reason::SESSION_TAKEN_OVER, None),
            End::Shutdown => (Reason::SERVER_SHUTTING_DOWN, None),
        };
        let text = text.filter(|text| self.client.takes_text(text));
        codec::disconnect(self.io.output.buffer(), self.client.version, reason, text);
        true
    }
}

/// Writes what is left and closes, for as long as the peer may take to read it.
async fn say_goodbye(mut io: Io) {
    // A peer that does not read has its connection closed all the same.
    let _ = tokio::time::timeout(FAREWELL, io.close()).await;
}
