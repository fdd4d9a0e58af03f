//! The rules are read anew while messages come in: each message arrives once, at one of the two
//! sides between which the rules change, and at the right one when the change was over before.

use std::{cell::Cell, collections::HashMap, ops::Range};

use transload_integration_tests::{
    Consumer, Nats, Python, Received, Transload, free_port, transload_to_end, wait,
};

use crate::support::{client, devices, numbered, route};

/// How often the rules change while messages come in.
const CHANGES: usize = 8;
/// How many messages a device sends in one connection.
const BURST: usize = 100;
/// The two sides between which the rules change.
const SIDES: [&str; 2] = ["left", "right"];

struct Site {
    gateway: Transload,
    broker: Nats,
    port: u16,
    consumer: Consumer,
    /// The route is renamed with each change, so that its queue is another one.
    renamed: bool,
}

impl Site {
    async fn start(renamed: bool) -> Self {
        let broker = Nats::start().await;
        broker.stream("S", &["reload.>"]).await;
        let port = free_port();
        let gateway = Transload::start(&rules(port, &broker, 0, renamed)).await;
        for side in SIDES {
            gateway.until_up(side).await;
        }
        let consumer = broker.client().consume(&["consume-stream", "S", "reload.>"]).await;
        Self { gateway, broker, port, consumer, renamed }
    }

    /// Puts the rules in force by which messages go to one side.
    async fn change_to(&self, side: usize) {
        self.gateway.configure(&rules(self.port, &self.broker, side, self.renamed));
        let config = self.gateway.config().display().to_string();
        let (code, output, errors) = transload_to_end(&["--config", &config, "reload"]).await;
        assert_eq!(code, 0, "{output}{errors}");
    }
}

fn rules(port: u16, broker: &Nats, side: usize, renamed: bool) -> String {
    let side = SIDES[side];
    let name = if renamed { side } else { "r" };
    let to = format!("{{ adapter = \"{side}\", jetstream = true, subject = \"reload.{side}\" }}");
    [
        devices(port, ""),
        client("left", "nats", &broker.url(), ""),
        client("right", "nats", &broker.url(), ""),
        route(name, "devices", "load/#", &to, ""),
    ]
    .concat()
}

/// A change of the rules, and the numbers that were sent while they stayed as they were then.
struct Settled {
    side: usize,
    sent: Range<usize>,
}

impl Site {
    /// Publishes while the rules change, again and again, and once more behind each change. Returns
    /// how many messages were sent.
    async fn publish_and_change(&mut self) -> (usize, Vec<Settled>) {
        let device = Python::mqtt(&format!("127.0.0.1:{}", self.port));
        let mut sent = 0;
        let mut settled = Vec::new();
        for change in 1..=CHANGES {
            let side = change % SIDES.len();
            let changed = Cell::new(false);
            let publishing = async {
                while !changed.get() {
                    device.publish(&[], &numbered("load/x", sent..sent + BURST)).await;
                    sent += BURST;
                }
            };
            let changing = async {
                self.until_more_came().await;
                self.change_to(side).await;
                changed.set(true);
            };
            tokio::join!(publishing, changing);
            device.publish(&[], &numbered("load/x", sent..sent + BURST)).await;
            settled.push(Settled { side, sent: sent..sent + BURST });
            sent += BURST;
        }
        (sent, settled)
    }

    async fn until_more_came(&mut self) {
        let known = self.consumer.all().len();
        wait::until("a message to come through", || {
            let more = self.consumer.all().len() > known;
            async move { more.then_some(()) }
        })
        .await;
    }

    /// Where each number arrived; each of them did once.
    async fn places(&mut self, sent: usize) -> HashMap<usize, String> {
        let received = self.consumer.take(sent).await;
        self.consumer.stays_at(sent).await;
        let place = |message: &Received| (message.text().parse().unwrap(), message.address.clone());
        let places: HashMap<usize, String> = received.iter().map(place).collect();
        assert_eq!(places.len(), sent, "some came twice, and so others not at all");
        places
    }
}

async fn nothing_is_lost_or_misrouted(renamed: bool) {
    let mut site = Site::start(renamed).await;
    let (sent, settled) = site.publish_and_change().await;
    let places = site.places(sent).await;
    for (number, place) in &places {
        assert!(SIDES.iter().any(|side| *place == format!("reload.{side}")), "{number}: {place}");
    }
    for Settled { side, sent } in settled {
        for number in sent {
            assert_eq!(places[&number], format!("reload.{}", SIDES[side]), "{number}");
        }
    }
}

#[tokio::test]
async fn a_route_that_changes_its_adapter_under_load() {
    nothing_is_lost_or_misrouted(false).await;
}

#[tokio::test]
async fn routes_that_take_turns_under_load() {
    nothing_is_lost_or_misrouted(true).await;
}
