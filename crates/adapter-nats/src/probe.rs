//! Proof that the server has read what was published before.
//!
//! The client's `flush` says only that bytes were handed to the operating system, and it has no
//! way to await the answer to a PING. The server, though, handles what one connection sends in
//! order: so a message to a subject that only this connection subscribes to comes back when
//! everything published before it has been read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use crate::link::Link;

/// A subject of this connection's own, and the last number that came back on it.
#[derive(Debug)]
pub(crate) struct Probe {
    client: Client,
    subject: Subject,
    next: AtomicU64,
    seen: watch::Receiver<u64>,
}

/// What became of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The server has read everything that was published before.
    Read,
    /// There was no answer in time.
    Silent,
    /// The connection is lost.
    Lost,
}

impl Probe {
    /// Subscribes to a subject of its own.
    pub(crate) async fn new(
        client: Client,
        link: &Arc<Link>,
        tasks: &TaskTracker,
    ) -> Result<Self, async_nats::SubscribeError> {
        let subject = Subject::from(client.new_inbox());
        let mut answers = client.subscribe(subject.clone()).await?;
        let (tell, seen) = watch::channel(0);
        let link = Arc::clone(link);
        tasks.spawn(async move {
            loop {
                let message = tokio::select! {
                    message = answers.next() => message,
                    () = tell.closed() => return,
                    () = link.lost() => return,
                };
                let Some(message) = message else { return };
                let number = <[u8; 8]>::try_from(&*message.payload).map(u64::from_be_bytes);
                if let Ok(number) = number {
                    tell.send_if_modified(|last| {
                        let newer = number > *last;
                        *last = number.max(*last);
                        newer
                    });
                }
            }
        });
        Ok(Self { client, subject, next: AtomicU64::new(1), seen })
    }

    /// Waits until the server has read everything that was published before this call.
    ///
    /// The number is taken after those publishes, so an answer to a later number proves them too.
    pub(crate) async fn prove(&self, within: Duration) -> Proof {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        let mut seen = self.seen.clone();
        let answer = async {
            self.client.publish(self.subject.clone(), payload).await.ok()?;
            seen.wait_for(|last| *last >= number).await.ok().map(|_| ())
        };
        match timeout(within, answer).await {
            Ok(Some(())) => Proof::Read,
            Ok(None) => Proof::Lost,
            Err(_) => Proof::Silent,
        }
    }
}
