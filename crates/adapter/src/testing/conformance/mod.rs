//! The contract as checks that every adapter passes against its real peer, with the peer taken
//! away in the middle.
//!
//! What an adapter's protocol cannot do is taken from its capabilities, and from the few facts of
//! its [`Fixture`]; everything else must hold.

#![expect(clippy::panic, reason = "a check that does not hold fails the test")]

mod connection;
mod disconnect;
mod receive;
mod send;

use async_trait::async_trait;
use transload_envelope::Text;

use super::context;
use crate::{Adapter, Context};

/// How many deliveries may be unsettled in these checks.
pub(crate) const CREDITS: usize = 4;

/// A peer of an adapter under test, and the far side of it.
#[async_trait]
pub trait Fixture: Send {
    /// The adapter.
    type Adapter: Adapter;

    /// The keys of `[adapters.NAME]` without `kind`.
    fn settings(&self) -> String;

    /// The keys of a route's `to`.
    fn target(&self) -> String {
        String::new()
    }

    /// The address of the messages that are sent, in canonical form.
    fn address(&self) -> String;

    /// What the adapter may use, afresh for each connection but with the same name and store. Its
    /// `credits` are replaced.
    fn context(&self) -> Context {
        context("conformance", 1)
    }

    /// The patterns of the routes that have the adapter as their source.
    fn interest(&self) -> Vec<Text> {
        vec!["#".into()]
    }

    /// The adapter has connected or listens: a far side that connects to it can do so now.
    async fn connected(&mut self) {}

    /// Has the far side publish texts, one after the other, for the adapter to receive. Need not
    /// wait until they are acknowledged. The far side sends again what was not accepted, where
    /// that is the way of the protocol.
    async fn publish(&mut self, texts: &[String]);

    /// Every text that has arrived at the far side so far, in order, repeats included.
    async fn arrived(&mut self) -> Vec<String>;

    /// Takes the peer away.
    async fn cut(&mut self);

    /// Brings the peer back in its place.
    async fn restore(&mut self);

    /// Whether messages are received in the order in which they were published.
    fn receives_in_order(&self) -> bool {
        true
    }

    /// Whether the bound on the unsettled is kept by the credits of the context, and not by a
    /// bound of each connection.
    fn uses_credits(&self) -> bool {
        true
    }

    /// Whether `cut` and `restore` do something: a listener is its own peer.
    fn can_be_cut(&self) -> bool {
        true
    }

    /// Whether the peer keeps what it has confirmed over a cut.
    fn keeps_confirmed(&self) -> bool {
        true
    }
}

/// Holds an adapter to the contract.
///
/// # Panics
///
/// At the first thing that does not hold.
pub async fn conforms<F: Fixture>(fixture: &mut F) {
    let connection = connection::Connection::open(fixture).await;
    let (receives, sends) = (connection.inbound.is_some(), connection.outbound.is_some());
    assert_eq!(receives, connection.source.receives, "the capabilities say what is there");
    assert_eq!(sends, connection.capabilities.sends, "the capabilities say what is there");
    connection.close().await;
    if receives {
        receives_as_agreed(fixture).await;
    }
    if sends {
        sends_as_agreed(fixture).await;
    }
}

async fn receives_as_agreed<F: Fixture>(fixture: &mut F) {
    receive::credits_bound_the_unsettled(fixture).await;
    receive::rejected_does_not_come_again(fixture).await;
    receive::accepted_does_not_come_again(fixture).await;
    receive::dropped_comes_again(fixture).await;
    receive::stop_ends_the_input(fixture).await;
    if fixture.can_be_cut() {
        disconnect::the_unsettled_comes_again(fixture).await;
    }
}

async fn sends_as_agreed<F: Fixture>(fixture: &mut F) {
    send::one_result_for_each_message_in_order(fixture).await;
    send::overlapping_calls_keep_their_order(fixture).await;
    if fixture.can_be_cut() {
        disconnect::nothing_is_confirmed_that_did_not_arrive(fixture).await;
    }
}

/// Texts that no other check uses.
pub(crate) fn texts(check: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{check} {number}")).collect()
}
