use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use transload_envelope::{Arguments, Envelope, Origin, Outgoing};

use super::{CREDITS, Fixture};
use crate::{
    Adapter, ConnectError, Context, Delivery, Destination, Endpoints, Inbound, Interest, Lost,
    Outbound, ReceiveError, SendError, Sent, Settlement, SourceCapabilities, TargetCapabilities,
    testing::{PATIENCE, within},
};

/// How long nothing may happen until we take it that nothing will.
const SILENCE: Duration = Duration::from_millis(500);

/// One connection of the adapter under test.
pub(super) struct Connection<A: Adapter> {
    pub(super) inbound: Option<Box<dyn Inbound>>,
    pub(super) outbound: Option<Arc<dyn Outbound<A::Target>>>,
    pub(super) lost: Lost,
    pub(super) source: SourceCapabilities,
    pub(super) capabilities: TargetCapabilities,
    pub(super) context: Context,
    target: A::Target,
    address: String,
}

/// How long an address of our own may still be taken after it was given up.
const TAKEN_FOR: Duration = Duration::from_secs(2);

impl<A: Adapter> Connection<A> {
    /// Connects, as often as it takes for a peer that is just starting.
    pub(super) async fn open<F: Fixture<Adapter = A>>(fixture: &mut F) -> Self {
        let settings = fixture.settings();
        let config: A::Config = toml::from_str(&settings)
            .unwrap_or_else(|error| panic!("the settings of the fixture: {error}\n{settings}"));
        assert_eq!(A::lint(&config), [], "the settings of the fixture");
        let target: A::Target = toml::from_str(&fixture.target())
            .unwrap_or_else(|error| panic!("the target of the fixture: {error}"));
        let (source, capabilities) = (A::source(&config), A::target(&config, &target));
        if capabilities.sends {
            assert_eq!(A::lint_target(&config, &target), [], "the target of the fixture");
        }
        let config = Arc::new(config);
        let begin = Instant::now();
        loop {
            let mut context = fixture.context();
            context.credits = Arc::new(Semaphore::new(CREDITS));
            context.interest = Arc::new(Interest { patterns: fixture.interest() });
            let connecting = A::connect(Arc::clone(&config), context.clone());
            match within("a connection or an error", connecting).await {
                Ok(Endpoints { inbound, outbound, lost }) => {
                    let address = fixture.address();
                    fixture.connected().await;
                    return Self {
                        inbound,
                        outbound,
                        lost,
                        source,
                        capabilities,
                        context,
                        target,
                        address,
                    };
                }
                // A test beside this one that is just starting a program holds a copy of our listening
                // socket until that program runs, and keeps its address taken for so long.
                Err(error @ ConnectError::Unusable { .. }) if begin.elapsed() > TAKEN_FOR => {
                    panic!("cannot connect: {error}")
                }
                Err(error) => {
                    assert!(begin.elapsed() < PATIENCE, "cannot connect: {error:?}");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Stops in an orderly way. All tasks of the adapter must end.
    pub(super) async fn close(mut self) {
        self.context.stop.cancel();
        self.inbound = None;
        if let Some(outbound) = self.outbound.take() {
            within("the outbound side to close", outbound.close()).await;
        }
        drop(self.lost);
        self.context.tasks.close();
        within("the adapter's tasks to end", self.context.tasks.wait()).await;
    }

    pub(super) fn inbound(&mut self) -> &mut Box<dyn Inbound> {
        self.inbound.as_mut().unwrap_or_else(|| panic!("the adapter receives"))
    }

    /// Receives at least so many messages.
    pub(super) async fn receive(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            let before = deliveries.len();
            let receiving = self.inbound().receive(&mut deliveries, count);
            let received = match within(&format!("{count} messages"), receiving).await {
                Ok(received) => received,
                Err(error) => panic!("waited for {count} messages: {error:?}"),
            };
            assert_eq!(received, deliveries.len() - before, "the number that was returned");
            assert!((1..=count).contains(&received), "at least one, at most the limit: {received}");
        }
        deliveries
    }

    /// Makes sure that nothing is received. A call that is dropped must lose nothing, so this
    /// checks that receiving is cancel-safe as well.
    pub(super) async fn receives_nothing(&mut self, why: &str) {
        let mut deliveries = Vec::new();
        match timeout(SILENCE, self.inbound().receive(&mut deliveries, 1)).await {
            Err(_) => assert_eq!(texts_of(&deliveries), Vec::<String>::new(), "{why}"),
            Ok(Ok(_)) => panic!("{why}: received {:?}", texts_of(&deliveries)),
            Ok(Err(error)) => panic!("{why}: {error:?}"),
        }
    }

    /// Waits until both ways of telling of a lost connection have told of it. `receive` may wait
    /// for a credit first, so what is unsettled is settled in between.
    pub(super) async fn is_told_lost(&mut self, unsettled: Vec<Delivery>) {
        within("the loss to be told", &mut self.lost).await;
        accept(unsettled);
        let mut nothing = Vec::new();
        let receiving = self.inbound().receive(&mut nothing, 1);
        match within("receive to tell of the loss", receiving).await {
            Ok(_) => panic!("received {:?} on a lost connection", texts_of(&nothing)),
            Err(error) => assert!(is_disconnected(&error), "{error:?}"),
        }
    }

    /// Waits until every settlement was applied.
    pub(super) async fn until_settled(&self) {
        let all = u32::try_from(CREDITS).unwrap_or(u32::MAX);
        let credits =
            within("all settlements to be applied", self.context.credits.acquire_many(all));
        drop(credits.await);
    }

    /// Sends texts as one batch.
    pub(super) async fn send(&self, texts: &[String]) -> Vec<Result<Sent, SendError>> {
        let Some(outbound) = &self.outbound else { panic!("the adapter sends") };
        let batch: Vec<_> = texts.iter().map(|text| self.outgoing(text)).collect();
        let to = Destination { name: "conformance", target: &self.target };
        let results = within("the results of a batch", outbound.send(to, &batch)).await;
        assert_eq!(results.len(), texts.len(), "one result for each message");
        results
    }

    fn outgoing(&self, text: &str) -> Outgoing {
        let origin = Origin::new("elsewhere", "fake", self.address.as_str());
        let mut envelope = Envelope::new(origin, text.to_owned());
        envelope.properties_mut().durable = Some(true);
        Outgoing { envelope, arguments: Arguments::default() }
    }
}

/// Whether this is how a lost connection shows.
pub(super) fn is_disconnected(error: &ReceiveError) -> bool {
    matches!(error, ReceiveError::Disconnected(_))
}

pub(super) fn texts_of(deliveries: &[Delivery]) -> Vec<String> {
    let text =
        |delivery: &Delivery| String::from_utf8_lossy(&delivery.envelope.payload).into_owned();
    deliveries.iter().map(text).collect()
}

pub(super) fn accept(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.receipt.settle(Settlement::Accepted);
    }
}
