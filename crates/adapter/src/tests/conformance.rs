//! The suite against the fake: it passes where the contract holds, and fails where it is broken.

use std::time::Duration;

use async_trait::async_trait;
use transload_envelope::{Envelope, Origin};

use crate::testing::{
    ConnectFault, Fake, Script,
    conformance::{Fixture, conforms},
};

struct FakePeer {
    script: Script,
    more: &'static str,
}

#[async_trait]
impl Fixture for FakePeer {
    type Adapter = Fake;

    fn settings(&self) -> String {
        format!("script = '{}'\n{}", self.script.name(), self.more)
    }

    fn address(&self) -> String {
        "a/b".to_owned()
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts {
            let origin = Origin::new("f", "fake", "a/b");
            self.script.feed(Envelope::new(origin, text.clone()));
        }
    }

    async fn arrived(&mut self) -> Vec<String> {
        self.script.taken().iter().map(crate::testing::SentMessage::text).collect()
    }

    async fn cut(&mut self) {
        self.script.fail_connections(Some(ConnectFault::Unreachable));
        self.script.disconnect();
    }

    async fn restore(&mut self) {
        self.script.fail_connections(None);
    }
}

fn peer(more: &'static str) -> FakePeer {
    FakePeer { script: Script::new(), more }
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    conforms(&mut peer("")).await;
}

#[tokio::test(start_paused = true)]
async fn one_direction_is_enough() {
    conforms(&mut peer("sends = false")).await;
    conforms(&mut peer("receives = false")).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_acknowledge_conforms() {
    conforms(&mut peer("acknowledges = false")).await;
}

/// Runs the suite, which must fail, on a peer that breaks the contract.
async fn fails(mut peer: FakePeer) -> String {
    let local = tokio::task::LocalSet::new();
    let run = local.run_until(async move {
        tokio::task::spawn_local(async move { conforms(&mut peer).await }).await
    });
    let result = tokio::time::timeout(Duration::from_mins(10), run).await.expect("an end");
    let panic = result.expect_err("the suite must not pass").into_panic();
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_loses_messages_does_not_conform() {
    let peer = peer("");
    peer.script.react_with(|message| {
        if message.text() == "batch 3" {
            crate::testing::Reaction::Fail
        } else {
            crate::testing::Reaction::Confirm
        }
    });
    let message = fails(peer).await;
    assert!(message.contains("Failed"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_confirms_without_a_word_from_its_peer_does_not_conform() {
    let message = fails(peer("confirms = false")).await;
    assert!(message.contains("Confirmed"), "{message}");
}
