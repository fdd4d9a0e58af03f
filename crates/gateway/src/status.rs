//! What the gateway is doing at present, for `/readyz` and for people.

use std::sync::{Arc, Mutex, PoisonError};

use transload_envelope::{Text, Timestamp};

use crate::config::{Configuration, JsonTable, shown};

/// The state of one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdapterState {
    /// Not tried yet.
    Starting,
    /// Connected or listening.
    Up,
    /// Not connected; it is being tried again.
    Down {
        /// Why.
        reason: String,
    },
    /// Stopped for good.
    Stopped,
}

/// One adapter of the configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct AdapterStatus {
    pub(crate) name: Text,
    pub(crate) kind: &'static str,
    /// Where it listens or connects.
    pub(crate) at: String,
    pub(crate) state: AdapterState,
}

/// The stage of the gateway's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Listeners are not open yet.
    Starting,
    /// Messages are taken in.
    Running,
    /// Nothing is taken in any more.
    Stopping,
}

/// A configuration that was read anew and is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) at: Timestamp,
    /// What is wrong, as `transload check` says it.
    pub(crate) reason: String,
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// When it was read.
    pub(crate) loaded_at: Timestamp,
    /// Why a later one is not in force.
    pub(crate) refusal: Option<Refusal>,
    /// The keys of `[gateway]` that count from the next start on.
    pub(crate) restart: Vec<&'static str>,
}

/// The shared state. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Status(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    stage: Stage,
    adapters: Vec<AdapterStatus>,
    loaded_at: Timestamp,
    refusal: Option<Refusal>,
    restart: Vec<&'static str>,
    /// The configuration, without secrets.
    shown: JsonTable,
}

impl Inner {
    fn expect(&mut self, configuration: &Configuration) {
        let before = std::mem::take(&mut self.adapters);
        let state_of = |name: &Text| {
            let known = before.iter().find(|adapter| adapter.name == *name);
            known.map_or(AdapterState::Starting, |known| known.state.clone())
        };
        let adapters = configuration.adapters.iter().map(|adapter| AdapterStatus {
            name: adapter.name.clone(),
            kind: adapter.kind,
            at: adapter.prepared.describe(),
            state: state_of(&adapter.name),
        });
        self.adapters = adapters.collect();
        self.loaded_at = Timestamp::now();
        self.refusal = None;
    }
}

impl Status {
    /// Every adapter is starting.
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let mut inner = Inner {
            stage: Stage::Starting,
            adapters: Vec::new(),
            loaded_at: Timestamp::now(),
            refusal: None,
            restart: Vec::new(),
            shown: shown(configuration),
        };
        inner.expect(configuration);
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Notes which adapters there are from now on; those of before keep their state.
    pub(crate) fn configured(&self, configuration: &Configuration) {
        let shown = shown(configuration);
        self.with(|inner| {
            inner.shown = shown;
            inner.expect(configuration);
        });
    }

    /// Notes that a configuration was read anew and is not in force.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.with(|inner| inner.refusal = Some(refusal));
    }

    /// Notes which keys of `[gateway]` count from the next start on.
    pub(crate) fn restart_needed(&self, keys: Vec<&'static str>) {
        self.with(|inner| inner.restart = keys);
    }

    /// The configuration in force, without secrets.
    pub(crate) fn shown(&self) -> JsonTable {
        self.with(|inner| inner.shown.clone())
    }

    /// What there is to say about the configuration in force.
    pub(crate) fn configuration(&self) -> InForce {
        self.with(|inner| InForce {
            loaded_at: inner.loaded_at,
            refusal: inner.refusal.clone(),
            restart: inner.restart.clone(),
        })
    }

    /// Notes the state of an adapter, and gives the one before; `None` for one that is not in the
    /// configuration any more.
    pub(crate) fn set(&self, name: &str, state: AdapterState) -> Option<AdapterState> {
        self.with(|inner| {
            let adapter = inner.adapters.iter_mut().find(|adapter| *adapter.name == *name)?;
            Some(std::mem::replace(&mut adapter.state, state))
        })
    }

    /// Notes that no adapter runs.
    pub(crate) fn stop_all(&self) {
        self.with(|inner| {
            for adapter in &mut inner.adapters {
                adapter.state = AdapterState::Stopped;
            }
        });
    }

    /// Notes the stage.
    pub(crate) fn set_stage(&self, stage: Stage) {
        self.with(|inner| inner.stage = stage);
    }

    /// The stage.
    pub(crate) fn stage(&self) -> Stage {
        self.with(|inner| inner.stage)
    }

    /// The adapters and their states, in the order of the file.
    pub(crate) fn adapters(&self) -> Vec<AdapterStatus> {
        self.with(|inner| inner.adapters.clone())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
