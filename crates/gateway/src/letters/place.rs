//! Where a message that is sent again goes, and with which arguments.

use std::{collections::HashMap, sync::Arc};

use transload_envelope::{Arguments, Envelope, Outgoing, Text};
use transload_routing::{Plan, PlannedTarget, Rule, RuleSet};

use crate::{destination::Destination, routing::Routing};

/// A place where a message goes.
#[derive(Debug)]
pub(crate) struct Place {
    /// The destination by its place in [`Routing::destinations`].
    pub(crate) destination: usize,
    /// What goes with the message.
    pub(crate) arguments: Arguments,
    /// What the route makes of the message; `None` for the message as it is.
    pub(crate) envelope: Option<Arc<Envelope>>,
}

/// Finds places by the routes that the gateway has at present.
pub(crate) struct Places<'a> {
    routing: &'a Routing,
    /// Each rule by itself, made when it is needed first.
    alone: HashMap<usize, RuleSet>,
    plan: Plan,
}

impl<'a> Places<'a> {
    pub(crate) fn new(routing: &'a Routing) -> Self {
        Self { routing, alone: HashMap::new(), plan: Plan::new() }
    }

    /// The destination at a place.
    pub(crate) fn get(&self, place: usize) -> Option<&'a Destination> {
        self.routing.destinations.get(place)
    }

    /// The number of the route of this name.
    pub(crate) fn route(&self, name: &str) -> Option<usize> {
        self.routing.rules.rules().iter().position(|rule| *rule.name == *name)
    }

    /// The number of the destination of this name.
    pub(crate) fn destination(&self, name: &str) -> Option<usize> {
        self.routing.destinations.iter().position(|destination| *destination.name == *name)
    }

    /// The destination, with the arguments that the message was given when it was routed. A message
    /// that is not `planned`, or whose arguments do not fill what the target asks for at present, is
    /// made ready anew, and may be split then.
    pub(crate) fn back(
        &mut self,
        destination: usize,
        outgoing: &Outgoing,
        planned: bool,
    ) -> Result<Vec<Place>, String> {
        let rules = self.routing.rules.rules();
        let owner = rules.iter().enumerate().find_map(|(number, rule)| {
            let target = rule.targets.iter().find(|to| to.destination == destination)?;
            Some((number, target))
        });
        let Some((rule, target)) = owner else { return Err("its route has no such target".into()) };
        let filled = |(key, _): &(Text, _)| outgoing.arguments.get(key).is_some();
        if planned && target.templates.iter().all(filled) {
            let arguments = outgoing.arguments.clone();
            return Ok(vec![Place { destination, arguments, envelope: None }]);
        }
        let mut places = self.plan(rule, &outgoing.envelope, Some(destination))?;
        places.retain(|place| place.destination == destination);
        if places.is_empty() { Err("its route has no such target".to_owned()) } else { Ok(places) }
    }

    /// All targets of a route, by its patterns and templates; who may use the route, and which
    /// routes come before it, is not asked.
    pub(crate) fn anew(&mut self, rule: usize, envelope: &Envelope) -> Result<Vec<Place>, String> {
        self.plan(rule, envelope, None)
    }

    /// The targets of a route, of which only one may be of interest.
    fn plan(
        &mut self,
        rule: usize,
        envelope: &Envelope,
        only: Option<usize>,
    ) -> Result<Vec<Place>, String> {
        let Some(found) = self.routing.rules.rules().get(rule) else {
            return Err("there is no such route".to_owned());
        };
        let alone = self.alone.entry(rule).or_insert_with(|| {
            let rule = found.clone();
            RuleSet::new(vec![Rule { from: Vec::new(), fallback: false, stop: false, ..rule }])
        });
        alone.route(0, envelope, &mut self.plan);
        if self.plan.is_unrouted() {
            let address = &envelope.address;
            return Err(format!("the route `{}` does not match `{address}`", found.name));
        }
        let wanted = |destination| only.is_none_or(|only| only == destination);
        let mut failed = self.plan.failed().iter().filter(|failed| wanted(failed.destination));
        if let Some(failed) = failed.next() {
            return Err(failed.reason.to_string());
        }
        if self.plan.targets().is_empty() {
            return Err(format!("the route `{}` has no target", found.name));
        }
        let place = |PlannedTarget { destination, arguments, envelope, .. }| Place {
            destination,
            arguments,
            envelope,
        };
        Ok(self.plan.drain_targets().map(place).collect())
    }
}
