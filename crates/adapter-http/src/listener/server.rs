//! What all connections of one listener share, and what changes while they last.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};
use transload_adapter::{ConnectError, Context, Interest, Observer, Updates};
use transload_envelope::Text;
use transload_listen::Tls;
use transload_routing::{Index, Pattern};

use super::{
    access::{Cors, Policies, Proxies},
    config::ListenerConfig,
    inbound::Intake,
    stream::Hub,
};

/// The protocols that the handshake of TLS can agree on.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What all connections of one listener share.
pub(super) struct Server {
    pub(super) config: Arc<ListenerConfig>,
    pub(super) name: Text,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) hub: Arc<Hub>,
    /// Fires when nothing new is to be taken in, and soon after `end`.
    pub(super) stop: CancellationToken,
    /// Fires when the endpoints are gone.
    pub(super) end: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// One permit for each byte of a body that may be held.
    pub(super) buffered: Arc<Semaphore>,
    pub(super) proxies: Proxies,
    pub(super) cors: Option<Cors>,
    pub(super) tls: Option<Tls>,
    policies: ArcSwap<Policies>,
    wanted: ArcSwap<Index<usize>>,
    intake: Mutex<Option<Arc<Intake>>>,
}

impl Server {
    /// Reads the files of the settings.
    pub(super) fn new(
        config: Arc<ListenerConfig>,
        context: &Context,
        intake: Intake,
        hub: Arc<Hub>,
        stop: CancellationToken,
        end: CancellationToken,
    ) -> Result<Self, ConnectError> {
        let unusable = |reason: String| ConnectError::Unusable { reason: reason.into() };
        let policies = Policies::new(&config, None)
            .map_err(|at| unusable(format!("{}: {}", at.path, at.fault)))?;
        let tls = config.tls.as_ref().map(|tls| Tls::new(tls, &ALPN)).transpose();
        let tls = tls.map_err(|fault| unusable(format!("tls: {fault}")))?;
        let buffered_max = config.max_buffered_bytes.as_usize().min(Semaphore::MAX_PERMITS);
        Ok(Self {
            name: context.name.clone(),
            observer: Arc::clone(&context.observer),
            hub,
            stop,
            end,
            tasks: context.tasks.clone(),
            buffered: Arc::new(Semaphore::new(buffered_max)),
            proxies: Proxies::new(&config.trusted_proxies, config.proxy_header),
            cors: config.cors.as_ref().map(Cors::new),
            tls,
            policies: ArcSwap::from_pointee(policies),
            wanted: ArcSwap::from_pointee(index(&context.interest)),
            intake: Mutex::new(Some(Arc::new(intake))),
            config,
        })
    }

    /// Follows what the routes want, and what the files of certificates and secrets hold, until
    /// nothing more is taken in.
    pub(super) async fn follow(self: Arc<Self>, mut updates: Updates) {
        loop {
            let interest = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.end.cancelled() => return,
                interest = updates.changed() => interest,
            };
            self.wanted.store(Arc::new(index(&interest)));
            self.read_files();
        }
    }

    /// Reads the files again. A file that cannot be used changes nothing.
    fn read_files(&self) {
        if let Some(tls) = &self.tls
            && let Err(fault) = tls.reload()
        {
            error!(adapter = %self.name, %fault, "The certificates stay as they were.");
        }
        match Policies::new(&self.config, Some(&self.policies())) {
            Ok(policies) => self.policies.store(Arc::new(policies)),
            Err(at) => {
                error!(
                    adapter = %self.name, path = at.path, fault = %at.fault,
                    "The secrets stay as they were."
                );
            }
        }
    }

    /// What is asked of requests at present.
    pub(super) fn policies(&self) -> Arc<Policies> {
        self.policies.load_full()
    }

    /// Whether some route asks for messages to this address.
    pub(super) fn wants(&self, address: &str) -> bool {
        let mut wanted = false;
        self.wanted.load().matches(address, |_, ()| wanted = true);
        wanted
    }

    /// The way to the gateway; none when the adapter is stopping.
    pub(super) fn intake(&self) -> Option<Arc<Intake>> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in no new request. Those that have begun keep their way to the gateway.
    pub(super) fn stop_intake(&self) {
        drop(self.intake.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What the routes want, for one look-up a request.
fn index(interest: &Interest) -> Index<usize> {
    let mut wanted = Index::new();
    for (place, pattern) in interest.patterns.iter().enumerate() {
        match Pattern::parse(pattern) {
            Ok(pattern) => drop(wanted.insert(&pattern, place, ())),
            Err(error) => warn!(%pattern, %error, "A pattern cannot match any path."),
        }
    }
    wanted
}
