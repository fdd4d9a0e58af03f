//! The rules in force, and the destinations that they name.
//!
//! Invariant: rules and destinations belong together and are replaced together, so that no message
//! is routed by half of each. Who routes takes them once and uses them to the end.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use tokio_util::sync::CancellationToken;
use transload_adapter::{Interest, store::Store};
use transload_delivery::{dead_letters::DeadLetters, worker::ORDERED_BY};
use transload_envelope::Text;
use transload_routing::{Rule, RuleSet, TargetRule, Template};

use crate::{
    conditions::Conditions,
    config::{Configuration, Route, RouteTarget, Unrouted},
    destination::Destination,
    explain::Directory,
    limits::{Holding, Limits},
    metrics::Metrics,
    recent::Recent,
};

/// The rules of one configuration and their destinations. Nothing in it changes.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) rules: RuleSet,
    /// Counts what the conditions of the rules had to say that was neither yes nor no.
    pub(crate) conditions: Conditions,
    /// In the order in which the rules number them.
    pub(crate) destinations: Vec<Destination>,
    /// What is to be known about routes and targets when a message is explained.
    pub(crate) directory: Directory,
    /// How much the rules take of what they want.
    pub(crate) limits: Limits,
    /// The numbers by which the rules know the adapters.
    adapters: HashMap<Text, usize>,
    /// The places of the destinations, by their names.
    places: HashMap<Text, usize>,
    /// What becomes of messages that no route wants, by those numbers.
    unrouted: Vec<Unrouted>,
    /// Fires when others have taken their place.
    pub(crate) replaced: CancellationToken,
}

impl Routing {
    /// No rules at all.
    pub(crate) fn nothing() -> Self {
        let rules = RuleSet::new(Vec::new());
        Self {
            conditions: Conditions::new(&rules, &Metrics::new()),
            rules,
            destinations: Vec::new(),
            directory: Directory::default(),
            limits: Limits::default(),
            adapters: HashMap::default(),
            places: HashMap::default(),
            unrouted: Vec::new(),
            replaced: CancellationToken::new(),
        }
    }

    pub(crate) fn new(
        configuration: &Configuration,
        destinations: Vec<Destination>,
        metrics: &Metrics,
    ) -> Self {
        let rules = rules(&configuration.routes);
        let names = configuration.adapters.iter().map(|adapter| adapter.name.clone());
        let destination_names = destinations.iter().map(|destination| destination.name.clone());
        Self {
            places: destination_names.zip(0..).collect(),
            conditions: Conditions::new(&rules, metrics),
            rules,
            destinations,
            directory: Directory::new(configuration),
            limits: Limits::default(),
            unrouted: configuration.adapters.iter().map(|adapter| adapter.unrouted).collect(),
            adapters: names.zip(0..).collect(),
            replaced: CancellationToken::new(),
        }
    }

    /// The same with the limits of its routes. What was used up of them before remains used up.
    pub(crate) fn limited(
        self,
        configuration: &Configuration,
        before: &Self,
        metrics: &Metrics,
    ) -> Self {
        let limits = Limits::new(&configuration.routes, &before.limits, metrics);
        Self { limits, ..self }
    }

    /// What becomes of a message from the adapter of this number that no route wants.
    pub(crate) fn unrouted(&self, adapter: usize) -> Unrouted {
        self.unrouted.get(adapter).copied().unwrap_or_default()
    }

    /// The number by which the rules know an adapter.
    pub(crate) fn adapter(&self, name: &str) -> Option<usize> {
        self.adapters.get(name).copied()
    }

    /// The destination of this name.
    pub(crate) fn destination(&self, name: &str) -> Option<&Destination> {
        self.places.get(name).and_then(|place| self.destinations.get(*place))
    }
}

/// What dispatchers and pages share.
#[derive(Debug)]
pub(crate) struct Shared {
    routing: ArcSwap<Routing>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) dead_letters: DeadLetters,
    /// The way to what throttles hold back.
    pub(crate) holding: Holding,
    /// The latest messages.
    pub(crate) recent: Recent,
}

impl Shared {
    pub(crate) fn new(
        routing: Routing,
        store: Arc<dyn Store>,
        dead_letters: DeadLetters,
        recent: Recent,
    ) -> Self {
        let holding = Holding::new();
        Self { routing: ArcSwap::from_pointee(routing), store, dead_letters, holding, recent }
    }

    /// The rules in force. They are to be used for a while and not kept.
    pub(crate) fn routing(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// Puts other rules in force. What is returned dies when nobody routes by the old ones any
    /// more.
    pub(crate) fn replace(&self, routing: Routing) -> Weak<Routing> {
        let old = self.routing.swap(Arc::new(routing));
        old.replaced.cancel();
        Arc::downgrade(&old)
    }
}

/// The rules in the order of the routes; their destinations are numbered from route to route.
pub(crate) fn rules(routes: &[Route]) -> RuleSet {
    let mut numbers = 0..;
    let rules = routes.iter().map(|route| Rule {
        name: route.name.clone(),
        from: route.from.clone(),
        patterns: route.patterns.clone(),
        when: route.when.clone(),
        fallback: route.fallback,
        stop: route.stop,
        shape: route.shape.clone(),
        targets: route
            .to
            .iter()
            .zip(&mut numbers)
            .map(|(to, destination)| TargetRule {
                destination,
                shape: to.shape.clone(),
                templates: templates(route, to),
            })
            .collect(),
    });
    RuleSet::new(rules.collect())
}

/// What a message fills in for a target: the target's own keys, and the key of its order.
fn templates(route: &Route, to: &RouteTarget) -> Vec<(Text, Template)> {
    let key = route.ordered_by.iter().map(|key| (Text::from_static(ORDERED_BY), key.clone()));
    to.templates.iter().cloned().chain(key).collect()
}

/// What the routes want of an adapter.
pub(crate) fn interest(routes: &[Route], adapter: usize) -> Interest {
    let mut patterns: Vec<Text> = routes
        .iter()
        .filter(|route| route.from.contains(&adapter))
        .flat_map(|route| &route.patterns)
        .map(|pattern| Text::from(pattern.as_str()))
        .collect();
    patterns.sort_unstable();
    patterns.dedup();
    Interest { patterns }
}
