//! What has to be durable before it is said, in sessions that outlive their connections: that a
//! message of `QoS` 2 was taken (PUBREC), is the client's (PUBREL), or that its identifier is free
//! again (PUBCOMP). Everything that comes while one sync is under way shares the next.

use std::sync::Arc;

use transload_adapter::store::StoreError;
use transload_envelope::Text;

use super::{Connection, End};
use crate::{
    codec::{self, Ack, Reason},
    listener::packets::Fact,
};

/// One fact, and what may be said once it is durable.
#[derive(Debug)]
pub(super) struct Step {
    fact: Option<Fact>,
    say: Option<(Ack, Option<Text>)>,
}

/// Steps whose facts were written.
pub(super) type Noted = (Vec<Step>, Result<(), StoreError>);

impl Connection {
    /// Says something when its fact is durable: at once where nothing outlives the connection.
    pub(super) fn step(&mut self, fact: Option<Fact>, say: Option<(Ack, Option<Text>)>) {
        let step = Step { fact, say };
        if self.claim.session.queue.is_some() {
            self.steps.push(step);
        } else {
            self.take_step(step);
        }
    }

    /// Begins to write the facts that wait.
    pub(super) fn want_noted(&mut self) {
        self.say_what_may_be_said();
        if self.noting.is_some() || self.steps.is_empty() {
            return;
        }
        let steps = std::mem::take(&mut self.steps);
        let facts: Vec<_> = steps.iter().filter_map(|step| step.fact).collect();
        let broker = Arc::clone(&self.broker);
        let client_id = self.claim.session.client_id.clone();
        self.noting = Some(Box::pin(async move {
            let written = broker.packets.note(&client_id, &facts).await;
            (steps, written)
        }));
    }

    /// Says what has no fact to wait for, and nothing before it.
    pub(super) fn say_what_may_be_said(&mut self) {
        if self.noting.is_none() {
            let waits = self.steps.iter().position(|step| step.fact.is_some());
            let free: Vec<_> = self.steps.drain(..waits.unwrap_or(self.steps.len())).collect();
            for step in free {
                self.take_step(step);
            }
        }
    }

    pub(super) fn on_noted(&mut self, (steps, written): Noted) -> Result<(), End> {
        if let Err(error) = written {
            tracing::warn!(connection = ?self, %error, "What a client was to be told is not stored.");
            return Err(Self::fault(Reason::SERVER_UNAVAILABLE, "the session cannot be stored"));
        }
        for step in steps {
            self.take_step(step);
        }
        Ok(())
    }

    /// Writes what is left, so that the store knows what the session knows.
    pub(super) async fn finish_steps(&mut self) {
        while self.noting.is_some() || !self.steps.is_empty() {
            if let Some(noting) = self.noting.take()
                && self.on_noted(noting.await).is_err()
            {
                return;
            }
            self.want_noted();
        }
    }

    fn take_step(&mut self, step: Step) {
        if let Some(Fact::Released(packet_id, _)) = step.fact
            && let Some(queued) = self.claim.state.in_flight.release(packet_id)
        {
            super::deliver::done(&queued);
        }
        if let Some((ack, text)) = step.say {
            let output = self.io.output.buffer();
            codec::puback(output, self.client.version, ack, text.as_ref().map(Text::as_ref));
        }
    }
}
