use std::sync::Arc;

use transload_adapter::{AnyTarget, Carriage, Prepared, SendError};
use transload_envelope::{Outgoing, Text};

use crate::{
    config::{Configuration, Described, Guarantee, JsonTable, Route},
    limits::RouteLimits,
};

/// What is known of adapters, routes and targets by their numbers, for people.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) adapters: Vec<AdapterEntry>,
    /// By the number of the rule.
    pub(crate) routes: Vec<RouteEntry>,
    /// By the number of the destination.
    pub(crate) targets: Vec<TargetEntry>,
}

/// What is known of an adapter.
#[derive(Debug)]
pub(crate) struct AdapterEntry {
    pub(crate) name: Text,
    pub(crate) kind: &'static str,
    pub(crate) receives: bool,
    prepared: Arc<dyn Prepared>,
}

/// What is known of a route.
#[derive(Debug)]
pub(crate) struct RouteEntry {
    pub(crate) name: Text,
    pub(crate) guarantee: Guarantee,
    pub(crate) queue: Text,
    pub(crate) limits: RouteLimits,
}

/// What is known of a target.
#[derive(Debug)]
pub(crate) struct TargetEntry {
    /// The name of its queue.
    pub(crate) destination: Text,
    /// The number of its adapter.
    pub(crate) adapter: usize,
    /// The number of its route.
    pub(crate) route: usize,
    /// As its adapter describes it, with its templates.
    pub(crate) description: String,
    /// Its keys as they stand in the file, without secrets.
    pub(crate) keys: JsonTable,
    pub(crate) carries: &'static Carriage,
    target: AnyTarget,
}

impl Directory {
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let mut directory = Self::default();
        for adapter in &configuration.adapters {
            directory.adapters.push(AdapterEntry {
                name: adapter.name.clone(),
                kind: adapter.kind,
                receives: adapter.prepared.source().receives,
                prepared: Arc::clone(&adapter.prepared),
            });
        }
        let mut queue = Described::default();
        for route in &configuration.routes {
            directory.add(route, queue.of(route).clone());
        }
        directory
    }

    fn add(&mut self, route: &Route, queue: Text) {
        let number = self.routes.len();
        self.routes.push(RouteEntry {
            name: route.name.clone(),
            guarantee: route.guarantee,
            queue,
            limits: route.limits.clone(),
        });
        self.targets.extend(route.to.iter().map(|to| TargetEntry {
            destination: to.destination.clone(),
            adapter: to.adapter,
            route: number,
            description: to.target.description.clone(),
            keys: to.keys.clone(),
            carries: to.target.capabilities.carries,
            target: to.target.target.clone(),
        }));
    }

    pub(crate) fn adapter(&self, number: usize) -> (&str, &'static str) {
        self.adapters.get(number).map_or(("?", "?"), |adapter| (&adapter.name, adapter.kind))
    }

    /// Where a message goes at a target, in its protocol's terms: what says it, and its text.
    pub(crate) fn place(
        &self,
        target: &TargetEntry,
        message: &Outgoing,
    ) -> Result<Option<(&'static str, String)>, SendError> {
        match self.adapters.get(target.adapter) {
            Some(adapter) => adapter.prepared.place(&target.target, message),
            None => Ok(None),
        }
    }

    pub(crate) fn route(&self, number: usize) -> &str {
        self.routes.get(number).map_or("?", |route| &route.name)
    }

    /// The adapters where a message may come in: the one of this name, or all that take messages in.
    pub(crate) fn sources(&self, name: Option<&str>) -> Result<Vec<usize>, String> {
        let receiving = || {
            let adapters = self.adapters.iter().enumerate();
            adapters.filter(|(_, adapter)| adapter.receives)
        };
        let Some(name) = name else { return Ok(receiving().map(|(number, _)| number).collect()) };
        let number = self.adapters.iter().position(|adapter| *adapter.name == *name);
        match number {
            Some(number) if self.adapters.get(number).is_some_and(|one| one.receives) => {
                Ok(vec![number])
            }
            Some(_) => Err(format!("adapter `{name}` takes no messages in")),
            None => {
                let names: Vec<_> =
                    receiving().map(|(_, adapter)| format!("`{}`", adapter.name)).collect();
                let names = names.join(", ");
                Err(format!("there is no adapter named `{name}`; messages come from {names}"))
            }
        }
    }
}
