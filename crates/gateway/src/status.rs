//! What the gateway is doing at present, for `/readyz` and for people.

use std::sync::{Arc, Mutex, PoisonError};

use transload_envelope::Text;

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

/// The shared state. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Status(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    stage: Stage,
    adapters: Vec<(Text, AdapterState)>,
}

impl Status {
    /// Every adapter is starting.
    pub(crate) fn new(adapters: impl IntoIterator<Item = Text>) -> Self {
        let adapters = adapters.into_iter().map(|name| (name, AdapterState::Starting)).collect();
        Self(Arc::new(Mutex::new(Inner { stage: Stage::Starting, adapters })))
    }

    /// Notes the state of an adapter, and says whether that is a change.
    pub(crate) fn set(&self, adapter: usize, state: AdapterState) -> bool {
        self.with(|inner| match inner.adapters.get_mut(adapter) {
            Some((_, known)) if *known != state => {
                *known = state;
                true
            }
            _ => false,
        })
    }

    /// Notes that no adapter runs.
    pub(crate) fn stop_all(&self) {
        self.with(|inner| {
            for (_, state) in &mut inner.adapters {
                *state = AdapterState::Stopped;
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
    pub(crate) fn adapters(&self) -> Vec<(Text, AdapterState)> {
        self.with(|inner| inner.adapters.clone())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
